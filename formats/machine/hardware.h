/*
 * hardware.h - what a virtual machine is made of, whoever describes it; out of one hypervisor's description, into another's.
 *
 *	hardware_read	a saved description, as struct hardware
 *	hardware_name	the ids and the name of the new machine
 *	hardware_fit	what the other hypervisor has not becomes what it has, and is noted in `lost`
 *	hardware_write	a description of that kind: a new one, or, of the kind that it came from, the old one with the new
 *			disks, ids and files, everything else as it was
 *
 * Descriptions are hostile bytes; what is taken from them only ever becomes text of another description.  Strings are
 * malloc'ed.  Threads: one struct hardware, one thread.  docs/machines.md says what becomes what.
 */
#ifndef KEDGE_FORMATS_MACHINE_HARDWARE_H
#define KEDGE_FORMATS_MACHINE_HARDWARE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/vec.h"
#include "formats/machine/machine.h"

#define HARDWARE_MAC_BYTES 18		/* "52:54:00:12:34:56" with NUL */
#define HARDWARE_UUID_BYTES 37
#define HARDWARE_CPUS_MAX 4096u
#define HARDWARE_NICS_MAX 64u

enum hardware_bus { BUS_IDE, BUS_SATA, BUS_SCSI, BUS_NVME, BUS_VIRTIO, BUS_USB, BUS_FLOPPY };
/* Of BUS_SCSI: which host adapter. */
enum hardware_adapter { ADAPTER_OTHER, ADAPTER_LSILOGIC, ADAPTER_LSISAS, ADAPTER_BUSLOGIC, ADAPTER_PVSCSI, ADAPTER_VIRTIO };
enum hardware_drive_kind { DRIVE_DISK, DRIVE_CD, DRIVE_FLOPPY };
enum hardware_nic_model { NIC_OTHER, NIC_E1000, NIC_E1000E, NIC_VMXNET3, NIC_VIRTIO, NIC_PCNET, NIC_RTL8139 };
enum hardware_link { LINK_NAT, LINK_BRIDGED, LINK_HOSTONLY, LINK_NETWORK, LINK_NONE };

struct hardware_drive {
	enum hardware_drive_kind kind;
	enum hardware_bus bus;
	enum hardware_adapter adapter;
	uint32_t controller, unit;	/* IDE: channel and device */
	char *name;			/* kedge's name of the disk */
	char *image;			/* as the old machine calls it; NULL */
	/* A disk of the new machine has these; without file it is left out. */
	char *file;			/* its name in the machine's folder */
	const char *format;		/* kedge's name */
	char uuid[HARDWARE_UUID_BYTES];	/* as the image calls itself; "" */
	uint64_t size, file_bytes;	/* of the disk, and of its file */
	bool device;			/* file is (a link to) a block device */
	bool added;			/* the description doesn't know it */
};

struct hardware_nic {
	enum hardware_nic_model model;
	enum hardware_link link;
	char *network;			/* of a bridge, an interface or a network of the host; NULL */
	char mac[HARDWARE_MAC_BYTES];	/* ""; lower case */
	uint32_t slot;			/* as the old machine numbers it */
	bool unplugged;
};

struct hardware {
	enum machine_kind kind;		/* of the description that it came from */
	char *name, *uuid, *description;	/* NULL: not told; uuid lower case */
	uint64_t memory;		/* bytes; 0 = not told */
	uint32_t cpus;			/* 0 = not told */
	uint32_t cores;			/* per socket; 0 = not told */
	bool uefi, secure_boot, bits32;
	unsigned tpm;			/* 0, or its version: 1, 2 */
	const struct hardware_guest *guest;	/* never NULL */
	VEC(struct hardware_drive) drives;
	VEC(struct hardware_nic) nics;
	VEC(char *) lost;		/* what is not carried over, one sentence each */
};

/*
 * What the description says; m is what its reader made of the same bytes (machine_parse_text), and gives the disks their
 * names.  ERR_CORRUPT as there.
 */
MUST_CHECK int hardware_read(const void *text, size_t len, const struct machine *m, struct hardware **ret, struct err *e);
/* One of which nothing is known: 1 CPU, 1 GiB, BIOS, one network adapter behind NAT, no drives. */
MUST_CHECK int hardware_new(const char *name, struct hardware **ret, struct err *e);
void hardware_free(struct hardware *h);		/* NULL is fine */
DEFINE_CLEANUP(struct hardware, hardware_free)

/* The disk of that name; NULL. */
struct hardware_drive *hardware_find(struct hardware *h, const char *name);
/* One more disk, beside those that there are. */
struct hardware_drive *hardware_add_disk(struct hardware *h, const char *name, struct err *e);
/* Notes what is not carried over.  Errors stick in *e; returns e->code. */
int hardware_lose(struct hardware *h, struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* A new UUID and new MACs of the kind, at random or (seed) from the text; keep: only those that are missing. */
MUST_CHECK int hardware_new_ids(struct hardware *h, enum machine_kind to, bool keep, const char *seed, struct err *e);
/* Makes of it what a machine of that kind can have.  Not for one that hardware_write is to edit. */
MUST_CHECK int hardware_fit(struct hardware *h, enum machine_kind to, struct err *e);

/* For one that hardware_write is to edit: free places for the disks that were added, nothing else. */
MUST_CHECK int hardware_fit_added(struct hardware *h, enum machine_kind to, struct err *e);

struct hardware_write_opts {
	enum machine_kind to;
	/* The description to edit, of the kind `to`; NULL: a new one. */
	const void *text;
	size_t len;
	const char *dir;		/* absolute path of the folder that the machine will be in; libvirt needs it */
	const char *nvram, *tpm;	/* files in it, NULL = none: the firmware makes new ones */
	bool keep_ids;			/* what belongs to the UUID stays */
	bool esx;			/* VMware: ESXi, not Workstation */
	bool set_memory, set_cpus;	/* when editing: they are new */
};
/* Appends the description.  When it edits, it notes in h->lost what it left out. */
MUST_CHECK int hardware_write(struct hardware *h, const struct hardware_write_opts *o, struct buf *b, struct err *e);

/* The ending of the description's file: ".xml", ".vbox", ".vmx", ".ovf". */
const char *hardware_ending(enum machine_kind kind);
/* Can a machine of that kind have disks of the format?  kedge's name. */
bool hardware_takes(enum machine_kind kind, const char *format);

#endif
