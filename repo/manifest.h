/*
 * manifest.h - one backup: what the manifest says, in memory, and its JSON (docs/format.md, section 9).
 *
 * All strings are malloc'ed byte strings (unescaped) owned by the manifest; manifest_free releases everything.
 */
#ifndef KEDGE_REPO_MANIFEST_H
#define KEDGE_REPO_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/vec.h"
#include "repo/format.h"

/* A stored byte string: a disk in a state, an attachment, a VM state.  height 0 and has_root false: nothing but
 * zeros. */
struct tree_ref {
	bool has_root;
	struct id root;
	uint32_t height;	/* the least that covers size, also without root */
	uint64_t size;		/* exact bytes */
};

enum read_how { READ_FULL, READ_SNAPSHOT, READ_LAYER, READ_SAME };
const char *read_how_name(enum read_how how);	/* "full", "snapshot", "layer", "same" */

struct manifest_layer {
	char *path, *format;
	uint64_t dev, ino, size, virtual_size;
	int64_t mtime_ns, ctime_ns;
	bool block_device;
	uint8_t metadata[32];
	bool has_boot;			/* all that the backup holds of it was read when its files were settled ... */
	uint8_t boot[16];		/* ... under this start of their host */
	bool has_below;			/* else the next one is below it, and nothing below the last */
	uint32_t below;			/* index of the layer below; its own: none */
};

struct manifest_disk {
	char *name, *format, *path, *domain;
	uint32_t cluster_size;
	char *uuid, *modify_uuid, *content_id;	/* struct image_ids of the top layer; NULL = none */
	VEC(char *) features;
	VEC(char *) dropped;
	VEC(struct manifest_layer) layers;	/* top first; then those of machine snapshots in other branches */
	enum read_how how;
	uint64_t bytes_read, bytes_unchanged, bytes_audited, audit_owed;
};

struct manifest_state_disk {
	uint32_t disk;			/* index into disks */
	struct tree_ref tree;
	uint32_t layer;			/* index into the disk's layers: its top */
	char *snapshot_id;		/* of the image snapshot; NULL: the layer's own content */
	int64_t date_ns;
	uint64_t vm_clock_ns;
	bool has_digest;
	uint8_t digest[32];		/* image_state_digest */
	bool has_vm_state;
	struct tree_ref vm_state;
	enum read_how how;
	uint64_t bytes_read;
};

enum state_kind { STATE_CURRENT, STATE_SNAPSHOT, STATE_LAYER };

struct manifest_state {
	enum state_kind kind;
	char *name;			/* snapshot's name, layer's file name; "current" */
	char *machine_id;		/* snapshot of the machine: its id; else NULL, as are the next two */
	char *parent_id, *description;	/* of that; may be NULL */
	VEC(struct manifest_state_disk) disks;
};

struct manifest_attachment {
	char *name;
	struct tree_ref tree;
	uint32_t mode;
};

struct manifest_problem {
	char *disk, *state, *text;
};

struct manifest {
	char *vm, *vm_name;		/* vm_name NULL unless vm is an alias */
	char *host;
	int64_t start_ns, end_ns;
	struct slot_id writer;
	struct session_id session;
	uint64_t sequence;
	bool has_previous;
	struct id previous;
	bool complete;
	char *machine_uuid, *machine_kind, *machine_source;	/* uuid, kind may be NULL */
	VEC(struct manifest_problem) problems;
	VEC(struct manifest_disk) disks;
	VEC(struct manifest_state) states;
	VEC(struct manifest_attachment) attachments;
	VEC(char *) tags;
	VEC(char *) pins;
	uint64_t bytes_read, bytes_hashed, bytes_new, bytes_stored, milliseconds;
};

struct manifest *manifest_new(struct err *e);
void manifest_free(struct manifest *m);		/* NULL is fine */
DEFINE_CLEANUP(struct manifest, manifest_free)
/* The JSON text, malloc'ed. */
MUST_CHECK int manifest_encode(const struct manifest *m, char **ret, size_t *ret_len, struct err *e);
/* Checks everything: indexes, heights against sizes and chunk_size, names, hex.  ERR_CORRUPT names the member. */
MUST_CHECK int manifest_decode(const void *json, size_t len, uint32_t chunk_size, struct manifest **ret, struct err *e);

#define MANIFEST_NO_LAYER UINT32_MAX
/* Index of the layer below layer i; MANIFEST_NO_LAYER. */
static inline uint32_t manifest_layer_below(const struct manifest_disk *d, uint32_t i)
{
	if (d->layers.p[i].has_below)
		return d->layers.p[i].below == i ? MANIFEST_NO_LAYER : d->layers.p[i].below;
	return i + 1 < d->layers.n ? i + 1 : MANIFEST_NO_LAYER;
}
/* "current", "snap:NAME", "layer:FILE" of a state, malloc'ed. */
MUST_CHECK char *manifest_state_selector(const struct manifest_state *s, struct err *e);

#endif
