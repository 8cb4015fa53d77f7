/*
 * source.c - finding an image inside of archives and compressed files.
 */
#include "formats/archive/source.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/archive/stream.h"
#include "formats/archive/tar.h"
#include "formats/digest.h"
#include "formats/file.h"
#include "formats/target.h"

#define DEPTH_MAX 4u			/* compressed archives with compressed members */
#define PIECE_BYTES ((size_t)1 << 20)
#define PEEK_BYTES ((size_t)40 << 10)	/* all that probing looks at in front */
#define LEFT_BYTES ((uint64_t)64 << 20)	/* of room that is left to others */
#define LOOK_BYTES ((uint64_t)64 << 20)	/* after so many the room is looked at */
#define LISTED_BYTES 300

void source_done(struct source *s)
{
	close_fd(&s->file.fd);
	close_fd(&s->outer);
	free(s->wrapping);
	s->wrapping = NULL;
}

int source_plain(int fd, struct source *ret, struct err *e)
{
	struct image_identity id;

	if (file_identity(fd, &id, e) < 0)
		return e->code;
	*ret = (struct source){ .file = { fd, 0, id.size }, .outer = -1 };
	return 0;
}

int source_split_path(const char *path, char **ret_file, char **ret_member, struct err *e)
{
	const char *at = NULL;
	struct stat st;
	char *file, *member;

	if (stat(path, &st) < 0)
		for (const char *p = strstr(path, "//"); p; p = strstr(p + 1, "//"))
			at = p > path && p[2] && p[2] != '/' ? p : at;
	file = at ? text_printf(e, "%.*s", (int)(at - path), path) : text_printf(e, "%s", path);
	if (!file)
		return e->code;
	if (at && (stat(file, &st) < 0 || !S_ISREG(st.st_mode))) {	/* then the whole is what isn't there */
		free(file);
		at = NULL;
		file = text_printf(e, "%s", path);
	}
	member = at ? text_printf(e, "%s", at + 2) : NULL;
	if (!file || (at && !member)) {
		free(file);
		return e->code;
	}
	*ret_file = file;
	*ret_member = member;
	return 0;
}

static bool ends_with(const char *name, size_t len, const char *ending)
{
	size_t n = strlen(ending);

	return len > n && !strncmp(name + len - n, ending, n);
}

static int add_wrapping(struct source *s, struct err *e, const char *what, const char *name)
{
	char q[256] = "";
	char *text;

	if (name)
		text_quote(name, q, sizeof(q));
	text = text_printf(e, "%s%s%s%s%s", s->wrapping ? s->wrapping : "", s->wrapping ? ", " : "", what, name ? " " : "", q);
	if (!text)
		return e->code;
	free(s->wrapping);
	s->wrapping = text;
	return 0;
}

/* --- decompressing ------------------------------------------------------------------------------------------------- */

static int check_room(int fd, const char *dir, uint64_t so_far, struct err *e)
{
	struct statvfs v;
	char q[256];

	if (fstatvfs(fd, &v) < 0 || (uint64_t)v.f_bavail * v.f_frsize >= LEFT_BYTES)
		return 0;
	(void)err_set(e, ERR_NOSPACE, "decompressed it has more than the %" PRIu64 " bytes that there is room for in %s", so_far,
		      text_quote(dir, q, sizeof(q)));
	return err_hint(e, "--temp-dir DIR names another folder for it");
}

static int check_size(uint64_t size, const struct source_opts *o, struct err *e)
{
	if (size <= (o->max_bytes ? o->max_bytes : (uint64_t)INT64_MAX))
		return 0;
	(void)err_set(e, ERR_NOSPACE, "decompressed it has more than %" PRIu64 " bytes", o->max_bytes);
	return err_hint(e, "if it is meant to be that large: --max-unpacked SIZE");
}

static int unpack_to(int fd, const char *dir, struct decoder *d, const struct source_opts *o, uint64_t *ret, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(PIECE_BYTES);
	uint64_t size = 0, looked = 0;
	size_t got = 1;

	if (!buf)
		return err_set(e, ERR_NOMEM, "no memory to decompress");
	while (got) {
		if (cancel_check(o->cancel, e) < 0 || decoder_read(d, buf, PIECE_BYTES, &got, e) < 0 ||
		    check_size(size + got, o, e) < 0 || target_write_sparse(fd, buf, got, size, e) < 0)
			return e->code;
		size += got;
		if (size - looked >= LOOK_BYTES) {
			looked = size;
			if (check_room(fd, dir, size, e) < 0)
				return e->code;
		}
	}
	if (FS_RETRY(ftruncate(fd, (off_t)size)) < 0)
		return err_sys(e, "size of %" PRIu64 " bytes", size);
	*ret = size;
	return 0;
}

/* What was in s->file is now in fd, which s takes over. */
static void replace_file(struct source *s, int fd, uint64_t size)
{
	if (s->outer < 0)
		s->outer = s->file.fd;
	else
		close(s->file.fd);
	s->file = (struct file){ fd, 0, size };
}

/* Decompresses s->file into a file of our own, which takes its place. */
static int unpack(struct source *s, enum decode_kind kind, const struct source_opts *o, struct err *e)
{
	const char *dir = o->temp_dir ? o->temp_dir : SOURCE_TEMP_DIR;
	CLEANUP(decoder_free_cleanup) struct decoder *d = NULL;
	CLEANUP(close_fd) int fd = -1;
	uint64_t size = 0;

	if (decoder_new(&s->file, kind, &d, e) < 0 || fs_scratch(dir, &fd, e) < 0 || unpack_to(fd, dir, d, o, &size, e) < 0) {
		if (e->code == ERR_NOSPACE)
			(void)err_hint(e, "--temp-dir DIR names another folder for it");
		return e->code;
	}
	replace_file(s, fd, size);
	fd = -1;
	return 0;
}

/* Is what the beginning of s->file decompresses to an image, by the rules for files? */
static int peek(const struct source *s, enum decode_kind kind, const char *path, const struct source_opts *o, struct err *e)
{
	CLEANUP(decoder_free_cleanup) struct decoder *d = NULL;
	CLEANUP(free_ptr) uint8_t *buf = malloc(PEEK_BYTES);
	CLEANUP(close_fd) int fd = -1;
	const struct format *f;
	size_t len = 0, got = 1;

	if (!buf)
		return err_set(e, ERR_NOMEM, "no memory to decompress");
	if (decoder_new(&s->file, kind, &d, e) < 0)
		return e->code;
	while (got && len < PEEK_BYTES) {
		if (decoder_read(d, buf + len, PEEK_BYTES - len, &got, e) < 0)
			return e->code;
		len += got;
	}
	if (fs_scratch(o->temp_dir ? o->temp_dir : SOURCE_TEMP_DIR, &fd, e) < 0 || fs_pwrite_full(fd, buf, len, 0, e) < 0)
		return e->code;
	return format_probe_part(&(struct file){ fd, 0, len }, path, &f, e);
}

/* --- archives ------------------------------------------------------------------------------------------------------ */

static void list_members(const struct tar *t, char *buf, size_t len)
{
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < t->members.n; i++) {
		char q[100];
		int w = snprintf(buf + n, len - n, "%s%s", i ? ", " : "", text_quote(t->members.p[i].name, q, sizeof(q)));

		if (w < 0 || (size_t)w >= len - n - 5) {
			(void)snprintf(buf + n, len - n, "%s...", i ? ", " : "");
			return;
		}
		n += (size_t)w;
	}
}

static int choose(const struct tar *t, const char *path, const char *member, const struct tar_member **ret, struct err *e)
{
	const struct tar_member *m = member ? tar_find(t, member) : t->members.n == 1 ? &t->members.p[0] : NULL;
	char list[LISTED_BYTES], q[160], qm[160];

	list_members(t, list, sizeof(list));
	text_quote(path, q, sizeof(q));
	if (!t->members.n)
		return err_set(e, ERR_NOTFOUND, "the archive has no files");
	if (!m && member) {
		(void)err_set(e, ERR_NOTFOUND, "the archive has no member %s", text_quote(member, qm, sizeof(qm)));
		return err_hint(e, "it has: %s", list);
	}
	if (!m) {
		(void)err_set(e, ERR_INVALID, "the archive has %zu files: say which of them is the image", t->members.n);
		return err_hint(e, "a member is written %.100s//MEMBER; there are: %.300s", q, list);
	}
	*ret = m;
	return 0;
}

/* A sparse member isn't there as a whole: it becomes a file of our own. */
static int fetch_sparse(struct source *s, size_t number, const struct source_opts *o, struct err *e)
{
	CLEANUP(close_fd) int fd = -1;
	uint64_t size = 0;

	if (fs_scratch(o->temp_dir ? o->temp_dir : SOURCE_TEMP_DIR, &fd, e) < 0 ||
	    tar_unpack(&s->file, number, fd, o->max_bytes, o->cancel, &size, e) < 0) {
		if (e->code == ERR_NOSPACE)
			(void)err_hint(e, "--temp-dir DIR names another folder for it, --max-unpacked SIZE allows more");
		return e->code;
	}
	replace_file(s, fd, size);
	fd = -1;
	return 0;
}

/* Goes into the archive s->file.  *name becomes the member's, malloc'ed. */
static int enter(struct source *s, const char *path, const char *member, const struct source_opts *o, char **name,
		 struct err *e)
{
	CLEANUP(tar_done) struct tar t = { 0 };
	const struct tar_member *m = NULL;
	char *copy;

	if (tar_list(&s->file, &t, e) < 0 || choose(&t, path, member, &m, e) < 0 ||
	    add_wrapping(s, e, "tar member", m->name) < 0)
		return e->code;
	copy = strdup(m->name);
	if (!copy)
		return err_set(e, ERR_NOMEM, "name of a member");
	free(*name);
	*name = copy;
	s->member = true;
	if (m->sparse)
		return fetch_sparse(s, (size_t)(m - t.members.p), o, e);
	s->file.start += m->offset;
	s->file.size = m->size;
	return 0;
}

/* --- the whole ----------------------------------------------------------------------------------------------------- */

static bool is_archive_name(const char *name, size_t len)
{
	return ends_with(name, len, ".tar") || ends_with(name, len, ".ova");
}

struct opening {
	const char *path, *member, *format;
	const struct source_opts *o;
	char *name;		/* of what is at hand */
	bool gzip;		/* still to come: source_opts.gzip */
};

/* One layer of wrapping off.  1: there may be another. */
static int unwrap(struct source *s, struct opening *p, struct err *e)
{
	uint8_t head[512];
	size_t len, stem;
	enum decode_kind kind;
	bool wants_tar;

	if (file_pread(&s->file, head, sizeof(head), 0, &len, e) < 0)
		return e->code;
	kind = p->gzip && (s->member || !p->member) ? DECODE_GZIP : decode_kind_of(p->name, head, len);
	if (kind == DECODE_GZIP && (s->member || !p->member))
		p->gzip = false;
	stem = kind ? decode_stem(p->name) : strlen(p->name);
	if (kind == DECODE_NONE && ends_with(p->name, stem, ".tgz"))
		kind = decode_kind_of(NULL, head, len);
	if (kind == DECODE_NONE) {
		if (s->member || !tar_looks(head, len) || (!p->member && !is_archive_name(p->name, stem)))
			return 0;
		return enter(s, p->path, p->member, p->o, &p->name, e) < 0 ? e->code : 1;
	}
	wants_tar = !s->member && (p->member || ends_with(p->name, stem, ".tgz") || is_archive_name(p->name, stem));
	if (add_wrapping(s, e, decode_kind_name(kind), NULL) < 0)
		return e->code;
	if (!wants_tar && p->format && !strcmp(p->format, "raw")) {
		s->stream = kind;
		return 0;
	}
	if ((!wants_tar && !p->format && peek(s, kind, p->path, p->o, e) < 0) || unpack(s, kind, p->o, e) < 0)
		return e->code;
	if (ends_with(p->name, stem, ".tgz"))
		memcpy(p->name + stem - 3, "tar", 3);
	p->name[stem] = '\0';
	return 1;
}

int source_open(int fd, const char *path, const char *member, const char *format, const struct source_opts *o,
		struct source *ret, struct err *e)
{
	CLEANUP(source_done) struct source s = { .file.fd = fd, .outer = -1 };
	struct opening p = { .path = path, .member = member, .format = format, .o = o, .gzip = o->gzip };
	struct image_identity id;
	int r;

	if (file_identity(fd, &id, e) < 0)
		return e->code;
	s.file.size = id.size;
	p.name = strdup(fs_basename(path));
	if (!p.name)
		return err_set(e, ERR_NOMEM, "path");
	r = !id.block_device;
	for (unsigned i = 0; r > 0 && i < DEPTH_MAX; i++)
		r = unwrap(&s, &p, e);
	free(p.name);
	if (r < 0)
		return r;
	if (member && !s.member)
		return err_set(e, ERR_INVALID, "not a tar archive");
	*ret = s;
	s = (struct source){ .file.fd = -1, .outer = -1 };
	return 0;
}

int source_probe(const struct source *s, const char *path, const struct format **ret, struct err *e)
{
	return s->outer < 0 && !s->member ? format_probe(s->file.fd, path, ret, e) : format_probe_part(&s->file, path, ret, e);
}

/* Two images in one archive have one identity: their places tell them apart. */
static void digest_place(struct image *im)
{
	struct digest d;

	digest_begin(&d, "kedge wrapped image 1");
	digest_text(&d, im->wrapping);
	digest_u64(&d, im->file.start);
	digest_u64(&d, im->file.size);
	digest_bytes(&d, im->identity.metadata_digest, sizeof(im->identity.metadata_digest));
	digest_end(&d, im->identity.metadata_digest);
}

int source_image(struct source *s, const struct format *f, const char *path, const struct image_open_opts *io,
		 const struct source_opts *o, struct image **ret, struct err *e)
{
	struct image_open_opts opts = *io;
	struct image_identity outer = { 0 };
	struct image *im;

	if (s->outer >= 0 && file_identity(s->outer, &outer, e) < 0)
		return e->code;
	opts.window = s->member ? &s->file : NULL;
	if (s->member)
		opts.opener = NULL;
	if (s->stream ? stream_open(s->file.fd, &s->file, s->stream, o->max_bytes, o->cancel, path, &im, e) < 0 :
			f->open(s->file.fd, path, &opts, &im, e) < 0)
		return e->code;
	s->file.fd = -1;
	im->wrapping = STEAL(s->wrapping);
	im->info.wrapping = im->wrapping;
	im->member = s->member;
	if (s->outer >= 0) {
		memcpy(outer.metadata_digest, im->identity.metadata_digest, sizeof(outer.metadata_digest));
		im->identity = outer;
		im->info.file_size = outer.size;
		im->decoded = true;
		im->outer_fd = s->outer;
		s->outer = -1;
	}
	if (im->wrapping)
		digest_place(im);
	*ret = im;
	return 0;
}
