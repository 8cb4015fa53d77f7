/*
 * restore_ova.c - `restore -O ova`: a machine in one file, and the digests of OVF packages.
 *
 *	description, manifest, disk, disk, ...; each behind its header
 *
 * The order is that of DSP0243, so that a reader has the description and the digests first; but both are known last, when
 * the disks have been compressed.  So room is left for them, and for each header: the description has its length with the
 * longest numbers, and is filled with line ends; the manifest's length depends on names alone.
 */
#include "cli/restore_ova.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "cli/restore_internal.h"
#include "cli/ustar.h"

#define READ_BYTES ((size_t)1 << 20)
#define PAGE_MAX (2 * (size_t)MACHINE_FILE_MAX)

/* --- digests ------------------------------------------------------------------------------------------------------- */

static void context_done(EVP_MD_CTX **c)
{
	EVP_MD_CTX_free(*c);
}

static int hash(int fd, uint64_t off, uint64_t len, EVP_MD_CTX *c, uint8_t *buf, struct err *e)
{
	while (len) {
		size_t n;

		if (fs_pread(fd, buf, (size_t)min_u64(len, READ_BYTES), off, &n, e) < 0)
			return e->code;
		if (!n)
			break;
		if (EVP_DigestUpdate(c, buf, n) != 1)
			return err_set(e, ERR_NOMEM, "no memory for SHA-256");
		off += n;
		len -= n;
	}
	return 0;
}

int restore_sha256(int fd, uint64_t off, uint64_t len, char ret[static RESTORE_SHA256_BYTES], struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(READ_BYTES);
	CLEANUP(context_done) EVP_MD_CTX *c = EVP_MD_CTX_new();
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned n;

	if (!buf || !c || EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1)
		return err_set(e, ERR_NOMEM, "no memory for SHA-256");
	if (hash(fd, off, len, c, buf, e) < 0)
		return e->code;
	if (EVP_DigestFinal_ex(c, sum, &n) != 1 || n != 32)
		return err_set(e, ERR_NOMEM, "no memory for SHA-256");
	(void)text_hex(sum, n, ret);
	return 0;
}

/* --- the plan ------------------------------------------------------------------------------------------------------ */

int restore_ova_plan(struct restore_job *j, struct err *e)
{
	const struct manifest *m = j->pt.backup->m;
	const struct manifest_state *s = &m->states.p[j->pt.state];
	const struct format *vmdk = format_find("vmdk");

	if (j->pt.has_disk)
		return cli_usage(j->c, e, "-O ova: a machine has all its disks; leave :DISK out");
	if (restore_machine_plan(j->c, &j->o->machine, j->writer, j->rs, m, &vmdk, s->disks.n ? 1 : 0, true, &j->machine, e) < 0)
		return e->code;
	for (size_t i = 0; i < s->disks.n; i++) {
		char *path = text_printf(e, "%s", j->o->output);

		if (!path || restore_add_target(j, s->disks.p[i].disk, path, e) < 0)
			return e->code;
	}
	return 0;
}

/* --- the file ------------------------------------------------------------------------------------------------------ */

struct member {
	char *name;
	uint64_t at;		/* of the header */
	uint64_t len;		/* bytes of the content */
	struct writer_part part;	/* a disk's */
	struct restore_target *target;	/* NULL: none */
};

struct ova {
	struct restore_job *j;
	struct fs_atomic file;
	VEC(struct member) members;	/* description, manifest, disks */
	uint64_t at, mtime;
};

static void ova_done(struct ova *o)
{
	for (size_t i = 0; i < o->members.n; i++)
		free(o->members.p[i].name);
	VEC_DONE(&o->members);
	fs_atomic_done(&o->file);
}

static int add_member(struct ova *o, char *name, struct restore_target *t, struct err *e)
{
	struct member *x = name ? VEC_PUSH(&o->members, e) : NULL;

	if (!x) {
		free(name);
		return e->code;
	}
	x->name = name;
	x->target = t;
	return 0;
}

static struct restore_target *find_target(const struct restore_job *j, const char *file)
{
	for (size_t i = 0; i < j->targets.n; i++)
		if (j->targets.p[i].made && !strcmp(fs_basename(j->targets.p[i].made), file))
			return &j->targets.p[i];
	return NULL;
}

/* Names the disks, and makes the machine that has them. */
static int make_machine(struct restore_job *j, struct err *e)
{
	const struct manifest *m = j->pt.backup->m;
	CLEANUP(free_ptr) char *dir = fs_dirname(j->o->output, e);
	VEC(struct restore_machine_disk) disks = { 0 };

	for (size_t i = 0; dir && i < j->targets.n && !e->code; i++) {
		struct restore_target *t = &j->targets.p[i];
		struct restore_machine_disk *x = VEC_PUSH(&disks, e);

		t->made = x ? text_printf(e, "%s/%s-disk%zu.vmdk", dir, m->vm, i + 1) : NULL;
		if (t->made)
			*x = (struct restore_machine_disk){ .name = m->disks.p[t->disk].name, .file = fs_basename(t->made),
							    .format = t->format, .size = t->size };
	}
	if (!e->code)
		(void)!restore_machine_make(&j->machine, m, disks.p, disks.n, j->writer, e);
	VEC_DONE(&disks);
	return e->code;
}

/* The description, with each disk's bytes as they are known; `unknown`: as long as it can get. */
static int description(const struct ova *o, bool unknown, struct buf *b, struct err *e)
{
	struct restore_machine *rm = &o->j->machine;
	const struct hardware_write_opts w = { .to = MACHINE_OVF, .dir = "/", .keep_ids = o->j->writer->keep_ids };

	for (size_t i = 0; i < rm->h->drives.n; i++) {
		struct hardware_drive *d = &rm->h->drives.p[i];

		d->file_bytes = unknown ? UINT64_MAX : 0;
		for (size_t k = 0; d->file && !unknown && k < o->members.n; k++)
			if (!strcmp(o->members.p[k].name, d->file))
				d->file_bytes = o->members.p[k].len;
	}
	return hardware_write(rm->h, &w, b, e);
}

static int list_members(struct ova *o, struct err *e)
{
	const struct hardware *h = o->j->machine.h;
	const char *vm = o->j->pt.backup->m->vm;

	if (add_member(o, text_printf(e, "%s.ovf", vm), NULL, e) < 0 || add_member(o, text_printf(e, "%s.mf", vm), NULL, e) < 0)
		return e->code;
	for (size_t i = 0; i < h->drives.n; i++)	/* as the description lists them */
		if (h->drives.p[i].file && add_member(o, text_printf(e, "%s", h->drives.p[i].file),
						      find_target(o->j, h->drives.p[i].file), e) < 0)
			return e->code;
	return 0;
}

/* The next member is here; its header is written at the end. */
static void place(struct ova *o, struct member *x)
{
	x->at = o->at;
	o->at += USTAR_BLOCK;
}

static void end_member(struct ova *o, struct member *x, uint64_t len)
{
	x->len = len;
	o->at = round_up(o->at + len, USTAR_BLOCK);
}

/* Room for the description and the manifest. */
static int reserve(struct ova *o, struct err *e)
{
	uint64_t manifest = 0;
	struct buf b;
	int r;

	buf_init(&b, PAGE_MAX);
	r = description(o, true, &b, e);
	place(o, &o->members.p[0]);
	end_member(o, &o->members.p[0], b.len);
	buf_done(&b);
	for (size_t i = 0; i < o->members.n; i++)
		if (i != 1)
			manifest += strlen("SHA256()= \n") + strlen(o->members.p[i].name) + RESTORE_SHA256_BYTES - 1;
	place(o, &o->members.p[1]);
	end_member(o, &o->members.p[1], manifest);
	return r;
}

static int write_disk(struct ova *o, struct member *x, struct err *e)
{
	if (!x->target)
		return err_set(e, ERR_INTERNAL, "no disk for %s", x->name);
	place(o, x);
	x->part = (struct writer_part){ .fd = o->file.fd, .off = o->at };
	x->target->part = &x->part;
	if (restore_target_write(o->j, x->target, e) < 0)
		return e->code;
	end_member(o, x, x->part.len);
	return 0;
}

static int write_header(struct ova *o, const struct member *x, struct err *e)
{
	uint8_t p[USTAR_BLOCK];

	ustar_header(p, x->name, x->len, o->mtime);
	return fs_pwrite_full(o->file.fd, p, sizeof(p), x->at, e);
}

static int write_description(struct ova *o, struct err *e)
{
	const struct member *x = &o->members.p[0];
	struct buf b;
	uint8_t *fill;
	int r;

	buf_init(&b, PAGE_MAX);
	r = description(o, false, &b, e);
	if (r == 0 && b.len > x->len)
		r = err_set(e, ERR_INTERNAL, "the description grew");
	fill = r == 0 ? buf_extend(&b, (size_t)(x->len - b.len), e) : NULL;
	if (r == 0 && !fill)
		r = e->code;
	if (r == 0) {
		memset(fill, '\n', (size_t)(b.p + b.len - fill));
		r = fs_pwrite_full(o->file.fd, b.p, b.len, x->at + USTAR_BLOCK, e);
	}
	buf_done(&b);
	return r;
}

static int write_manifest(struct ova *o, struct err *e)
{
	uint64_t at = o->members.p[1].at + USTAR_BLOCK;

	for (size_t i = 0; i < o->members.n; i++) {
		const struct member *x = &o->members.p[i];
		CLEANUP(free_ptr) char *line = NULL;
		char hex[RESTORE_SHA256_BYTES];

		if (i == 1)
			continue;
		if (restore_sha256(o->file.fd, x->at + USTAR_BLOCK, x->len, hex, e) < 0)
			return e->code;
		line = text_printf(e, "SHA256(%s)= %s\n", x->name, hex);
		if (!line || fs_pwrite_full(o->file.fd, line, strlen(line), at, e) < 0)
			return e->code;
		at += strlen(line);
	}
	return 0;
}

static int write_all(struct ova *o, struct err *e)
{
	if (make_machine(o->j, e) < 0 || list_members(o, e) < 0 || reserve(o, e) < 0)
		return e->code;
	for (size_t i = 2; i < o->members.n; i++)
		if (write_disk(o, &o->members.p[i], e) < 0)
			return e->code;
	if (write_description(o, e) < 0 || write_manifest(o, e) < 0)
		return e->code;
	for (size_t i = 0; i < o->members.n; i++)
		if (write_header(o, &o->members.p[i], e) < 0)
			return e->code;
	/* Two blocks of zeros end it. */
	return FS_RETRY(ftruncate(o->file.fd, (off_t)(o->at + 2 * USTAR_BLOCK))) < 0 ? err_sys(e, "resizing") : 0;
}

int restore_ova_write(struct restore_job *j, struct err *e)
{
	struct ova o = { .j = j, .file = { .fd = -1 } };
	int r = fs_atomic_open(&o.file, j->o->output, j->o->force, 0600, e);

	o.mtime = (uint64_t)(j->writer->seed_ids ? j->pt.backup->m->end_ns : clock_wall_ns()) / 1000000000;
	if (r == ERR_EXISTS)
		return err_hint(e, "--force overwrites it");
	if (r == 0 && write_all(&o, e) < 0)
		r = err_ctx(e, "%s", j->o->output);
	if (r == 0)
		r = fs_atomic_commit(&o.file, j->o->force, e);
	ova_done(&o);
	return r;
}
