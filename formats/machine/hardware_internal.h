/*
 * hardware_internal.h - what the parts of hardware.h share.
 *
 *	hardware.c		the model; guests.c: operating systems' names
 *	hardware_fit.c		from kind to kind
 *	hardware_libvirt.c, hardware_vbox.c, hardware_vmx.c, hardware_ovf.c	reading
 *	libvirt_write.c, vbox_write.c, vmx_write.c, ovf_write.c			writing and editing
 */
#ifndef KEDGE_FORMATS_MACHINE_HARDWARE_INTERNAL_H
#define KEDGE_FORMATS_MACHINE_HARDWARE_INTERNAL_H

#include "formats/machine/hardware.h"
#include "formats/machine/machine_internal.h"
#include "formats/machine/xml_tree.h"

/* An operating system as each calls it.  The first three are beginnings of names that mean it. */
struct hardware_guest {
	const char *osinfo, *vbox, *vmware;
	const char *to_osinfo, *to_vbox, *to_vmware;	/* of 64 bits; to_osinfo may be NULL */
	unsigned cim;					/* CIM_OperatingSystem.OsType */
};
extern const struct hardware_guest hardware_guests[];
/* By the name that a kind uses; NULL or unknown: "other".  OVF's are VMware's or VirtualBox's. */
const struct hardware_guest *hardware_guest(enum machine_kind kind, const char *name);
/* As VMware and VirtualBox call one of 32 or 64 bits: buf. */
const char *hardware_guest_vmware(const struct hardware *h, char buf[static 40]);
const char *hardware_guest_vbox(const struct hardware *h, char buf[static 40]);

/* The next drive: disk `at` of m. */
struct hardware_drive *hardware_add_drive(struct hardware *h, const struct machine *m, size_t at, struct err *e);
struct hardware_nic *hardware_add_nic(struct hardware *h, struct err *e);
/* "08002712abcd", "52:54:..", "52-54-..": as struct hardware_nic has it; else "". */
void hardware_set_mac(struct hardware_nic *n, const char *text);
/* A number in decimal, cut to max; `otherwise` where it is none. */
uint32_t hardware_number(const char *text, uint32_t max, uint32_t otherwise);
/* Is the place on its adapter a target of LUN 0, as libvirt and QEMU have it?  (Virtio SCSI: a LUN of target 0.) */
bool hardware_is_by_target(const struct hardware_drive *d);
/* Of a VirtualBox <StorageController>. */
enum hardware_bus hardware_vbox_bus(const struct xml_node *controller);
/* "the disk sda", "the CD drive": for notes. */
const char *hardware_drive_name(const struct hardware_drive *d, char buf[static 100]);

MUST_CHECK int hardware_read_libvirt(const void *text, size_t len, const struct machine *m, struct hardware *h, struct err *e);
MUST_CHECK int hardware_read_vbox(const void *text, size_t len, const struct machine *m, struct hardware *h, struct err *e);
MUST_CHECK int hardware_read_vmx(const void *text, size_t len, const struct machine *m, struct hardware *h, struct err *e);
MUST_CHECK int hardware_read_ovf(const void *text, size_t len, const struct machine *m, struct hardware *h, struct err *e);

MUST_CHECK int libvirt_write(struct hardware *h, const struct hardware_write_opts *o, struct buf *b, struct err *e);
MUST_CHECK int vbox_write(struct hardware *h, const struct hardware_write_opts *o, struct buf *b, struct err *e);
MUST_CHECK int vmx_write(struct hardware *h, const struct hardware_write_opts *o, struct buf *b, struct err *e);
MUST_CHECK int ovf_write(struct hardware *h, const struct hardware_write_opts *o, struct buf *b, struct err *e);

#endif
