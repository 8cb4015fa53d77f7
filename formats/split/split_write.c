/*
 * split_write.c - the writer of raw disks in pieces: each is a sparse file of its own, none has a name before all are whole.
 */
#include "formats/split/split_write.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/target.h"

#define UNIT_BYTES ((uint32_t)64 << 10)
#define DEFAULT_MODE 0600
#define FIRST_ENDING ".001"

struct piece {
	struct fs_atomic file;
	char *path;
};

struct split_writer {
	struct image_writer w;
	uint64_t piece_size;
	struct piece *pieces;
	size_t n;
	bool replace, begun;
};

static void split_free(struct split_writer *s)
{
	for (size_t i = 0; i < s->n; i++) {
		fs_atomic_done(&s->pieces[i].file);
		free(s->pieces[i].path);
	}
	free(s->pieces);
	free(s);
}

static void split_abort(struct image_writer *w)
{
	split_free((struct split_writer *)w);
}

static int split_begin(struct image_writer *w, const struct writer_state_opts *o, struct err *e)
{
	struct split_writer *s = (struct split_writer *)w;

	if (s->begun || o->size != w->size)
		return err_set(e, ERR_INTERNAL, "a raw image has one state, of %" PRIu64 " bytes", w->size);
	s->begun = true;
	return 0;
}

static int split_write(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct split_writer *s = (struct split_writer *)w;
	const uint8_t *p = buf;

	for (size_t n; len; p += n, off += n, len -= n) {
		const struct piece *piece = &s->pieces[off / s->piece_size];

		n = (size_t)min_u64(len, s->piece_size - off % s->piece_size);
		if (target_write_sparse(piece->file.fd, p, n, off % s->piece_size, e) < 0)
			return err_ctx(e, "%s", piece->path);
	}
	return 0;
}

/* All are durable before the first gets its name; a failure takes back the names that were given. */
static int commit(struct split_writer *s, struct err *e)
{
	for (size_t i = 0; i < s->n; i++)
		if (FS_RETRY(fsync(s->pieces[i].file.fd)) < 0)
			return err_sys(e, "%s: fsync", s->pieces[i].path);
	for (size_t i = s->n; i-- > 0;) {
		if (fs_atomic_commit(&s->pieces[i].file, s->replace, e) == 0)
			continue;
		for (size_t k = i + 1; k < s->n; k++)
			(void)unlink(s->pieces[k].path);	/* incomplete: the error is told */
		return e->code;
	}
	return 0;
}

static int split_finish(struct image_writer *w, struct err *e)
{
	struct split_writer *s = (struct split_writer *)w;
	int r = s->begun ? commit(s, e) : err_set(e, ERR_INTERNAL, "finished before it was begun");

	split_free(s);
	return r;
}

static const struct writer_ops split_ops = {
	.format = "split",
	.concurrent = true,
	.begin_state = split_begin,
	.write = split_write,
	.finish = split_finish,
	.abort = split_abort,
};

static char *piece_path(const char *path, size_t number, struct err *e)
{
	size_t len = strlen(path), end = strlen(FIRST_ENDING);

	if (len > end && !strcmp(path + len - end, FIRST_ENDING))
		len -= end;
	return text_printf(e, "%.*s.%03zu", (int)len, path, number);
}

/* A file that would be taken for one more piece. */
static int check_behind(const char *path, size_t n, struct err *e)
{
	CLEANUP(free_ptr) char *next = piece_path(path, n + 1, e);
	struct stat st;
	char q[300];

	if (!next)
		return e->code;
	if (lstat(next, &st) < 0)
		return 0;
	(void)err_set(e, ERR_EXISTS, "%s is there already, and would be taken for a piece of this disk, which ends before it",
		      text_quote(next, q, sizeof(q)));
	return err_hint(e, "remove it, or choose another name");
}

static int open_piece(struct split_writer *s, const struct writer_opts *o, size_t i, struct err *e)
{
	struct piece *p = &s->pieces[i];
	uint64_t size = min_u64(s->piece_size, o->size - i * s->piece_size);
	struct target t;

	p->path = piece_path(o->path, i + 1, e);
	if (!p->path || target_look(p->path, &t, e) < 0)
		return e->code;
	if (t.block_device)
		return err_set(e, ERR_INVALID, "%s is a block device", p->path);
	if (fs_atomic_open(&p->file, p->path, o->replace, o->mode ? o->mode : DEFAULT_MODE, e) < 0)
		return e->code;
	if (FS_RETRY(ftruncate(p->file.fd, (off_t)size)) < 0)
		return err_sys(e, "%s: size of %" PRIu64 " bytes", p->path, size);
	if (o->preallocation != PREALLOC_OFF && target_reserve(p->file.fd, 0, size, e) < 0)
		return err_ctx(e, "%s", p->path);
	if (o->preallocation == PREALLOC_FULL && target_write_zeros(p->file.fd, 0, size, e) < 0)
		return err_ctx(e, "%s", p->path);
	return 0;
}

static int open_pieces(struct split_writer *s, const struct writer_opts *o, size_t n, struct err *e)
{
	s->pieces = calloc(n, sizeof(*s->pieces));
	if (!s->pieces)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	for (size_t i = 0; i < n; i++)
		s->pieces[i].file.fd = -1;
	s->n = n;
	for (size_t i = 0; i < n; i++)
		if (open_piece(s, o, i, e) < 0)
			return e->code;
	return check_behind(o->path, n, e);
}

int split_create(const struct writer_opts *o, struct image_writer **ret, struct err *e)
{
	uint64_t size = o->piece_size ? o->piece_size : SPLIT_PIECE_BYTES, n = max_u64(1, div_up(o->size, size));
	struct split_writer *s;

	if (o->preallocation == PREALLOC_METADATA)
		return err_set(e, ERR_INVALID, "a raw image has no metadata to preallocate");
	if (!o->size)
		return err_set(e, ERR_INVALID, "a disk without bytes has no pieces");
	if (n > SPLIT_PIECES_MAX) {
		(void)err_set(e, ERR_INVALID, "%" PRIu64 " pieces of %" PRIu64 " bytes: at most %u are written", n, size,
			      SPLIT_PIECES_MAX);
		return err_hint(e, "--piece-size %" PRIu64 "G", div_up(div_up(o->size, SPLIT_PIECES_MAX), GIB));
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	s->w = (struct image_writer){ .ops = &split_ops, .cluster_size = UNIT_BYTES, .size = o->size, .in_order = o->id_seed };
	s->piece_size = size;
	s->replace = o->replace;
	if (open_pieces(s, o, (size_t)n, e) < 0) {
		split_free(s);
		return e->code;
	}
	*ret = &s->w;
	return 0;
}
