/*
 * machine_internal.h - what the readers of machine descriptions share.
 *
 *	machine.c	the model, recognising, opening; what follows references is in references.c
 *	xml.c		expat, bounded
 *	vbox.c		VirtualBox
 *	vmx.c		VMware: .vmx and .vmsd; dictionary.c: their syntax
 *	domain.c	libvirt; libvirt.c: the UUID alone, of an attachment
 */
#ifndef KEDGE_FORMATS_MACHINE_MACHINE_INTERNAL_H
#define KEDGE_FORMATS_MACHINE_MACHINE_INTERNAL_H

#include "formats/machine/machine.h"

/* --- readers: text into *m, which is zeroed but for path, kind and files[0] ---------------------------------------- */

MUST_CHECK int vbox_parse(const void *text, size_t len, struct machine *m, struct err *e);
MUST_CHECK int vmx_parse(const void *text, size_t len, struct machine *m, struct err *e);
/* Adds the snapshots to what vmx_parse has read. */
MUST_CHECK int vmsd_parse(const void *text, size_t len, struct machine *m, struct err *e);
MUST_CHECK int ovf_parse(const void *text, size_t len, struct machine *m, struct err *e);
MUST_CHECK int libvirt_parse(const void *text, size_t len, struct machine *m, struct err *e);
/* Is the file a tar archive with an OVF descriptor in it? */
bool ova_is(const char *path);
/* The member of that name (NULL: the descriptor), whole; *ret_name (may be NULL), its own, and *ret are malloc'ed. */
MUST_CHECK int ova_read(const char *path, const char *name, size_t max, char **ret_name, uint8_t **ret, size_t *ret_len,
			struct err *e);
/* Does m's list of images have that path? */
bool machine_names_image(const struct machine *m, const char *path);
/* Does it look like one?  The text may be cut off. */
bool vmx_looks(const void *text, size_t len);
/* "TRUE" and what else VMware takes for it; NULL is not. */
bool vmx_is_true(const char *s);
/* The length of "scsi0:0" in "scsi0:0.filename"; 0 = the key is another. */
size_t vmx_slot_of(const char *key);

/* --- machine.c: filling the model ---------------------------------------------------------------------------------- */

struct machine *machine_new(enum machine_kind kind, const char *path, struct err *e);
/* Copies s (NULL: nothing to copy) over what *ret was. */
MUST_CHECK int machine_text(char **ret, const char *s, struct err *e);
/* The same, for the first len bytes of s. */
MUST_CHECK int machine_text_n(char **ret, const char *s, size_t len, struct err *e);
/* A disk at that place; its name is made of `where`, unique. */
struct machine_disk *machine_add_disk(struct machine *m, const char *where, struct err *e);
MUST_CHECK int machine_add_file(struct machine *m, const char *path, enum machine_role role, bool optional,
				struct err *e);
MUST_CHECK int machine_add_note(struct machine *m, struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
struct machine_snapshot *machine_add_snapshot(struct machine *m, struct err *e);
/* The path as it is meant here: of one with a drive letter or a share the file's name alone, else '\\' of Windows
 * becomes '/'. */
MUST_CHECK int machine_path(char **ret, const char *path, struct err *e);
/* "{1234...}" or without braces, as lower-case text; anything else: NULL stays. */
MUST_CHECK int machine_uuid(char **ret, const char *text, struct err *e);
/*
 * What a snapshot has of a disk.  Its row, in order, for the caller to fill at once; NULL: it has the disk already
 * (ERR_CORRUPT), or no memory.
 */
struct machine_snapshot_disk *machine_add_snapshot_disk(struct machine *m, struct machine_snapshot *s, uint32_t disk,
							struct err *e);
/* Is it the image of a current disk, whoever's?  What was in it at a snapshot has been written over then.  By UUID where
 * it has one, else by path. */
bool machine_is_written(const struct machine *m, const struct machine_image *image);
/* Why there is no row: the image is written to; the machine has no disk there any more. */
MUST_CHECK int machine_note_written(struct machine *m, const struct machine_snapshot *s, uint32_t disk, struct err *e);
MUST_CHECK int machine_note_gone(struct machine *m, const struct machine_snapshot *s, const char *where, struct err *e);
/* Are there no loops of parents? */
bool machine_tree_is_sound(const struct machine *m);
/* The disk of that name; MACHINE_NONE. */
uint32_t machine_find_disk(const struct machine *m, const char *name);
/* `where` as a disk's name: 64 characters that text_is_name allows. */
void machine_disk_name(const char *where, char ret[static 65]);

/* --- xml.c --------------------------------------------------------------------------------------------------------- */

struct xml_ops {
	/* Element opens at depth (the root: 1).  attributes: name, value, ..., NULL.  Negative stops. */
	int (*start)(void *opaque, unsigned depth, const char *name, const char *const *attributes, struct err *e);
	/* Element closes; text: what was directly in it, NUL-terminated, at most XML_TEXT_MAX of it (cut). */
	int (*end)(void *opaque, unsigned depth, const char *name, const char *text, struct err *e);
};
#define XML_TEXT_MAX 65536u	/* bytes of text of one element that are kept */
#define XML_DEPTH_MAX 1200u	/* VirtualBox nests snapshots, twice 250 levels at most, and as many images */

/* Parses a whole document.  Entities that it declares, and so external ones, are refused: ERR_CORRUPT. */
MUST_CHECK int xml_parse(const void *text, size_t len, const struct xml_ops *ops, void *opaque, struct err *e);
/* The name of the root element, of a document that may be cut off; false: it has none.  ret: 64 bytes. */
bool xml_root(const void *text, size_t len, char ret[static 64]);
/* The attribute's value; NULL = absent. */
const char *xml_attribute(const char *const *attributes, const char *name);

/* --- dictionary.c -------------------------------------------------------------------------------------------------- */

struct dictionary_entry {
	char *key, *value;	/* key in lower case */
	char *spelled;		/* the key as it is there */
	uint32_t line;
};
/* KEY = "VALUE" lines, sorted by key. */
struct dictionary {
	VEC(struct dictionary_entry) entries;
};
/* ERR_CORRUPT names the line: a key that is there twice, a line that is none. */
MUST_CHECK int dictionary_parse(const void *text, size_t len, struct dictionary *ret, struct err *e);
void dictionary_done(struct dictionary *d);
/* The value; NULL = absent.  key in lower case. */
const char *dictionary_get(const struct dictionary *d, const char *key);
/* The same for the key made by printf, as long as it has at most 200 characters. */
const char *dictionary_getf(const struct dictionary *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
