/*
 * machine.h - a virtual machine as its hypervisor describes it: its disks, its snapshots, the files to keep with them.
 *
 * Read are VirtualBox's .vbox, VMware's .vmx with the .vmsd beside it, libvirt's domain XML, and OVF (.ovf, .ova).  Descriptions are
 * hostile: what they name is followed by machine_reference's rules only, and nothing here opens a disk image.
 *
 * Strings are malloc'ed byte strings of the machine's.  Threads: one machine, one thread.  Calls block.
 * docs/machines.md says what is taken from which file.
 */
#ifndef KEDGE_FORMATS_MACHINE_MACHINE_H
#define KEDGE_FORMATS_MACHINE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/vec.h"

#define MACHINE_FILE_MAX ((size_t)16 << 20)	/* bytes of one description */
#define MACHINE_DISKS_MAX 256u
#define MACHINE_SNAPSHOTS_MAX 4096u
#define MACHINE_IMAGES_MAX 16384u		/* in VirtualBox's list */
#define MACHINE_NONE UINT32_MAX

enum machine_kind { MACHINE_LIBVIRT, MACHINE_VIRTUALBOX, MACHINE_VMWARE, MACHINE_OVF };

enum machine_role {
	MACHINE_CONFIG,		/* the description itself, and what extends it */
	MACHINE_SNAPSHOT_LIST,
	MACHINE_NVRAM,
	MACHINE_TPM,
	MACHINE_MANIFEST,	/* sums of an appliance's files */
	MACHINE_CERTIFICATE,	/* who signed these */
	MACHINE_LOADER,		/* firmware that comes with the host: named, not kept */
};

struct machine_file {
	char *path;		/* as named, '/' separates; relative: from the description's folder */
	enum machine_role role;
	bool optional;		/* the machine works without it: absent is no error */
};

/* Where an image is.  One of the two may be NULL, both only in what is skipped. */
struct machine_image {
	char *path;		/* as named, '/' separates; relative: from the description's folder */
	char *uuid;		/* what the image must call itself, lower case, without braces; NULL = not told */
};

struct machine_disk {
	char *name;		/* where it is attached, such as sata-0-0, scsi0-0, vda; a disk name of ours, unique */
	struct machine_image image;	/* of the current state */
	/* Kedge's name of it, or what the description says where kedge has none; NULL = to be probed. */
	char *format;
	char *skipped;		/* why it is none to back up (a CD drive); NULL = it is one */
	char *refused;		/* why it can't be backed up, although it is a disk; NULL = it can */
	uint64_t capacity;	/* bytes, as the description has it; 0 = it doesn't say */
	bool gzip;		/* the image's file is compressed (OVF) */
	bool independent;	/* snapshots of the machine leave it alone */
};

/* A disk as it was at a snapshot: the image that has not been written to since. */
struct machine_snapshot_disk {
	uint32_t disk;		/* index into disks */
	struct machine_image image;
	char *format;		/* as in a disk */
};

struct machine_snapshot {
	char *id, *name, *description;	/* description may be NULL */
	int64_t time_ns;		/* wall clock; 0 = not known */
	uint32_t parent;		/* index of one before or after it, never a loop; MACHINE_NONE */
	char *memory;			/* file with the saved memory, which is not kept; NULL = it was off, or unknown */
	VEC(struct machine_snapshot_disk) disks;	/* sorted by disk; a disk may be absent */
};

struct machine {
	enum machine_kind kind;
	char *path;		/* the description, as opened */
	char *name, *uuid;	/* NULL where it doesn't say; uuid lower case, with dashes */
	char *version;		/* of the description's format; NULL */
	uint32_t current;	/* snapshot that the current state was made on; MACHINE_NONE */
	VEC(struct machine_disk) disks;		/* skipped and refused ones too */
	VEC(struct machine_file) files;		/* [0] = the description */
	VEC(struct machine_snapshot) snapshots;	/* as listed */
	VEC(struct machine_image) images;	/* all that the description knows, for where layers may lie */
	VEC(char *) notes;			/* what its user should know */
};

/* "libvirt", "virtualbox", "vmware", "ovf". */
const char *machine_kind_name(enum machine_kind kind);
/* "configuration", "snapshot list", "nvram", "tpm", "manifest", "certificate", "loader". */
const char *machine_role_name(enum machine_role role);

/*
 * Is the file a description of a machine?  1: by its ending (.vbox, .vmx, .xml, .ovf, .ova) and by what is in it; 0: no, or it
 * can't be read (whoever opens it says why).  Both, because a guest may write anything into a raw disk.
 */
int machine_is(const char *path);
/*
 * Reads the description and what lists its snapshots; allow as in chain_opts.  ERR_CORRUPT: not well-formed, or it
 * contradicts itself; ERR_UNSUPPORTED: encrypted.
 */
MUST_CHECK int machine_open(const char *path, const char *const *allow, struct machine **ret, struct err *e);
/*
 * The same of a description that is in memory already, called `path`: no other file is looked at, so a .vmx has no
 * snapshots.  ERR_INVALID: it is none (by name and content, as machine_is).
 */
MUST_CHECK int machine_parse_text(const char *path, const void *text, size_t len, struct machine **ret, struct err *e);
void machine_free(struct machine *m);	/* NULL is fine */
DEFINE_CLEANUP(struct machine, machine_free)

/*
 * The file that the description names, whole, at most max bytes.  It must lie in the description's folder or in one of
 * allow (NULL-terminated, may be NULL); otherwise ERR_INVALID, and the hint is the option.  ERR_NOTFOUND: absent.
 * *ret is malloc'ed, *ret_mode its permission bits.
 */
MUST_CHECK int machine_read_file(const struct machine *m, const struct machine_file *f, const char *const *allow,
				 size_t max, uint8_t **ret, size_t *ret_len, uint32_t *ret_mode, struct err *e);
/*
 * The folders in which layers of this machine's images may lie: allow, the machine's own folder where the hypervisor
 * gives it one (VirtualBox, VMware), and where it lists images inside these.  *ret is NULL-terminated, it and its
 * strings malloc'ed (machine_folders_free).
 */
MUST_CHECK int machine_folders(const struct machine *m, const char *const *allow, char ***ret, struct err *e);
void machine_folders_free(char **folders);	/* NULL is fine */
/* Is it an appliance in an archive (OVA)?  Then its files are members: "PATH//MEMBER" for chain_open. */
bool machine_in_archive(const struct machine *m);
/*
 * Reads the files that an appliance's manifest lists, and compares their sums.  1: all are right; 0: it has no manifest;
 * ERR_CORRUPT, ERR_NOTFOUND: one is not, or is missing.  Takes as long as reading everything; cancel may be NULL.
 */
MUST_CHECK int machine_verify(const struct machine *m, const char *const *allow, struct cancel *cancel, struct err *e);
/* A program of the hypervisor has the machine open (VMware's .lck folders): ERR_LOCKED.  image: as in a disk; NULL = the
 * machine itself. */
MUST_CHECK int machine_check_locked(const struct machine *m, const struct machine_image *image, struct err *e);

#endif
