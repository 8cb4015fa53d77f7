/*
 * guests.c - operating systems as libosinfo, VirtualBox, VMware and CIM call them.
 *
 * Sources: libosinfo's database; VBoxManage list ostypes; VMware's list of guestOS values for hardware version 14;
 * CIM_OperatingSystem.OsType (DMTF).
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "formats/machine/hardware_internal.h"

#define MS "http://microsoft.com/win/"

/* More special ones first; the last but one is Linux, the last is anything. */
const struct hardware_guest hardware_guests[] = {
	{ MS "2k25", "Windows2025", "windows2022srv", MS "2k22", "Windows2022_64", "windows9srv-64", 117 },
	{ MS "2k22", "Windows2022", "windows2019srvnext", MS "2k22", "Windows2022_64", "windows9srv-64", 117 },
	{ MS "2k19", "Windows2019", "windows2019srv", MS "2k19", "Windows2019_64", "windows9srv-64", 117 },
	{ MS "2k16", "Windows2016", "windows9srv", MS "2k16", "Windows2016_64", "windows9srv-64", 117 },
	{ MS "2k12", "Windows2012", "windows8srv", MS "2k12r2", "Windows2012_64", "windows8srv-64", 113 },
	{ MS "2k8", "Windows2008", "longhorn", MS "2k8r2", "Windows2008_64", "windows7srv-64", 103 },
	{ MS "2k8r2", "Windows2008", "windows7srv", MS "2k8r2", "Windows2008_64", "windows7srv-64", 103 },
	{ MS "2k3", "Windows2003", "winnet", MS "2k3", "Windows2003_64", "winnetstandard-64", 69 },
	{ MS "11", "Windows11", "windows11", MS "11", "Windows11_64", "windows9-64", 121 },
	{ MS "10", "Windows10", "windows9-", MS "10", "Windows10_64", "windows9-64", 121 },
	{ MS "10", "Windows10", "windows9", MS "10", "Windows10_64", "windows9-64", 121 },
	{ MS "8", "Windows8", "windows8", MS "8.1", "Windows81_64", "windows8-64", 115 },
	{ MS "7", "Windows7", "windows7", MS "7", "Windows7_64", "windows7-64", 105 },
	{ MS "vista", "WindowsVista", "winvista", MS "vista", "WindowsVista_64", "winvista-64", 73 },
	{ MS "xp", "WindowsXP", "winxp", MS "xp", "WindowsXP_64", "winxppro-64", 67 },
	{ "http://debian.org/debian", "Debian", "debian", "http://debian.org/debian/12", "Debian_64", "debian10-64", 96 },
	{ "http://ubuntu.com/ubuntu", "Ubuntu", "ubuntu", "http://ubuntu.com/ubuntu/22.04", "Ubuntu_64", "ubuntu-64", 94 },
	{ "http://redhat.com/rhel", "RedHat", "rhel", "http://redhat.com/rhel/8.0", "RedHat_64", "rhel7-64", 80 },
	{ "http://centos.org/centos", "RedHat_64", "centos", "http://centos.org/centos/7.0", "RedHat_64", "centos7-64", 107 },
	{ "http://fedoraproject.org", "Fedora", "fedora", "http://fedoraproject.org/fedora/38", "Fedora_64", "fedora-64", 101 },
	{ "http://oracle.com/ol", "Oracle", "oraclelinux", "http://oracle.com/ol/8.0", "Oracle_64", "oraclelinux7-64", 101 },
	{ "http://opensuse.org", "OpenSUSE", "opensuse", "http://opensuse.org/opensuse/15.5", "OpenSUSE_64", "opensuse-64", 83 },
	{ "http://suse.com/sles", "SUSE", "sles", "http://suse.com/sles/15", "OpenSUSE_64", "sles12-64", 85 },
	{ "http://archlinux.org", "ArchLinux", "archlinux", NULL, "ArchLinux_64", "other3xlinux-64", 101 },
	{ "http://freebsd.org", "FreeBSD", "freebsd", "http://freebsd.org/freebsd/13.0", "FreeBSD_64", "freebsd-64", 78 },
	{ "http://libosinfo.org/linux", "Linux", "other", "http://libosinfo.org/linux/2020", "Linux_64", "other3xlinux-64", 101 },
	{ "", "", "", NULL, "Other_64", "other-64", 102 },
};

static bool begins(const char *name, const char *with)
{
	return !strncasecmp(name, with, strlen(with));
}

/* "other26xlinux-64" is Linux, "other-64" is not. */
static bool is_other_linux(const char *name)
{
	return begins(name, "other") && strcasestr(name, "linux");
}

const struct hardware_guest *hardware_guest(enum machine_kind kind, const char *name)
{
	const struct hardware_guest *g = hardware_guests, *last = g + sizeof(hardware_guests) / sizeof(*g) - 1;

	if (!name || !*name)
		return last;
	for (; g < last; g++) {
		const char *prefix = kind == MACHINE_LIBVIRT ? g->osinfo : kind == MACHINE_VIRTUALBOX ? g->vbox : g->vmware;

		if (!strcmp(prefix, "other") ? is_other_linux(name) : begins(name, prefix))
			return g;
	}
	return last;
}

/* Without the ending that says 64 bits. */
static const char *narrowed(const struct hardware *h, const char *name, char buf[static 40])
{
	size_t n = strlen(name);

	(void)snprintf(buf, 40, "%.*s", (int)(h->bits32 && n > 3 ? n - 3 : n), name);
	return buf;
}

const char *hardware_guest_vmware(const struct hardware *h, char buf[static 40])
{
	return narrowed(h, h->guest->to_vmware, buf);
}

const char *hardware_guest_vbox(const struct hardware *h, char buf[static 40])
{
	return narrowed(h, h->guest->to_vbox, buf);
}
