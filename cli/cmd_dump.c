/*
 * cmd_dump.c - the guest content of an image's state as a plain stream of bytes or a sparse file.
 *
 * Or, with -O, as a fresh image of any format.  The map is walked in order; pieces with data are read by worker threads
 * (which decompress) and come back in order; zeros travel as lengths.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "base/vec.h"
#include "base/workers.h"
#include "cli/image_args.h"
#include "cli/msg.h"
#include "cli/writer_args.h"

#define PIECE_BYTES MIB
#define ZERO_MIN_BYTES (64 * KIB)	/* shorter zeros are read along with the data around them */
#define HOLE_BYTES 4096			/* unit in which zeros are left out of a sparse file */
#define BUFFERS_MAX_BYTES (64 * MIB)
#define BUFFERS_PER_THREAD_BYTES (4 * MIB)	/* more would only wait, out of the processor's caches */

struct dump_opts {
	struct image_args image;
	struct writer_args writer;
	const char *state, *output, *sink;
};

/* Buffers of PIECE_BYTES that were used before.  One allocated by each thread that reads would come back to that
 * thread's part of the heap, of which every thread then keeps its own. */
struct buffers {
	pthread_mutex_t lock;	/* guards the rest */
	VEC(uint8_t *) idle;
};

struct piece {
	struct buffers *from;	/* where buf comes from and goes to */
	uint64_t off, len;
	uint8_t *buf;		/* NULL: zeros */
	bool data, cold;	/* cold: wasn't in the page cache, and shall not stay there */
	struct image *im;
	uint32_t state;
	struct cancel *cancel;
};

/* Where the bytes go: one of a file that is being made, a stream, or nowhere. */
struct target {
	struct image_writer *writer;	/* NULL = none */
	struct fs_atomic file;	/* file.fd -1 = none */
	int stream;		/* -1 = none */
	bool own_stream;
	bool replace;
};

static void target_done(struct target *t)
{
	writer_abort(t->writer);
	fs_atomic_done(&t->file);
	if (t->own_stream)
		close_fd(&t->stream);
}

static uint8_t *buffer_take(struct buffers *b)
{
	uint8_t *p = NULL;

	pthread_mutex_lock(&b->lock);
	if (b->idle.n)
		p = b->idle.p[--b->idle.n];
	pthread_mutex_unlock(&b->lock);
	return p ? p : malloc(PIECE_BYTES);
}

static void buffer_give(struct buffers *b, uint8_t *p)
{
	struct err e = ERR_INIT;
	uint8_t **slot;

	if (!p)
		return;
	pthread_mutex_lock(&b->lock);
	slot = VEC_PUSH(&b->idle, &e);	/* no memory: it is freed instead */
	if (slot)
		*slot = p;
	pthread_mutex_unlock(&b->lock);
	if (!slot)
		free(p);
}

static void buffers_done(struct buffers *b)
{
	for (size_t i = 0; i < b->idle.n; i++)
		free(b->idle.p[i]);
	VEC_DONE(&b->idle);
	pthread_mutex_destroy(&b->lock);
}

static void piece_free(void *p)
{
	struct piece *x = p;

	buffer_give(x->from, x->buf);
	free(x);
}

static int piece_read(void *local, void *item, struct err *e)
{
	struct piece *x = item;

	(void)local;
	if (!x->data)
		return 0;
	if (cancel_check(x->cancel, e) < 0)
		return e->code;
	x->buf = buffer_take(x->from);
	if (!x->buf)
		return err_set(e, ERR_NOMEM, "no memory for a buffer of %" PRIu64 " bytes", x->len);
	return image_pread(x->im, x->state, x->buf, x->len, x->off, e);
}

/* As fs_write_full, but a reader that has stopped reading must not make a signal wait. */
static int stream_write(int fd, const uint8_t *buf, uint64_t len, struct cancel *cancel, struct err *e)
{
	while (len) {
		ssize_t n;

		if (cancel_check(cancel, e) < 0)
			return e->code;
		n = write(fd, buf, len);
		if (n < 0 && errno != EINTR)
			return err_sys(e, "output");
		if (n > 0) {
			buf += n;
			len -= (uint64_t)n;
		}
	}
	return 0;
}

static int write_zeros(int fd, uint64_t len, struct cancel *cancel, struct err *e)
{
	static const uint8_t zeros[64 * 1024];

	for (uint64_t n; len; len -= n) {
		n = min_u64(len, sizeof(zeros));
		if (stream_write(fd, zeros, n, cancel, e) < 0)
			return e->code;
	}
	return 0;
}

/* Writes runs of blocks that are not zero; the file is sparse from ftruncate on. */
static int write_sparse(int fd, const uint8_t *buf, uint64_t len, uint64_t off, struct err *e)
{
	uint64_t from = 0, at = 0;

	while (at < len) {
		uint64_t n = min_u64(HOLE_BYTES - (off + at) % HOLE_BYTES, len - at);
		bool zero = bytes_all_zero(buf + at, n);

		if (zero && at > from && fs_pwrite_full(fd, buf + from, at - from, off + from, e) < 0)
			return e->code;
		at += n;
		if (zero)
			from = at;
	}
	return at > from ? fs_pwrite_full(fd, buf + from, at - from, off + from, e) : 0;
}

static int target_write(struct target *t, const struct piece *x, struct err *e)
{
	if (t->stream >= 0)
		return x->buf ? stream_write(t->stream, x->buf, x->len, x->cancel, e) :
				write_zeros(t->stream, x->len, x->cancel, e);
	if (t->writer && x->buf)
		return writer_write(t->writer, x->buf, (size_t)x->len, x->off, e);
	if (t->file.fd >= 0 && x->buf)
		return write_sparse(t->file.fd, x->buf, x->len, x->off, e);
	return 0;
}

struct dump {
	struct cli *c;
	struct image *im;
	struct chain *chain;
	struct cold_window window;
	uint32_t state;
	uint64_t size;
	struct workers *w;
	struct buffers buffers;
	struct target *t;
	uint64_t read;		/* bytes that were data */
	struct extent at;	/* what was asked for last: it may reach over many pieces */
};

static int take_one(struct dump *d, struct err *e)
{
	struct piece *x;
	void *item;
	int r = workers_next(d->w, &item, e);

	if (r <= 0)
		return r;
	x = item;
	r = target_write(d->t, x, e);
	if (r == 0) {
		if (x->cold)
			image_advise(d->im, d->state, x->off, x->len, false);
		if (x->data)
			d->read += x->len;
		progress_update(&d->c->progress, &(struct progress_state){ .phase = "reading", .done = x->off + x->len,
									   .total = d->size });
	}
	piece_free(x);
	return r < 0 ? r : 1;
}

/* The next piece from off on: a run of zeros, or data up to the next multiple of PIECE_BYTES. */
static int next_piece(struct dump *d, uint64_t off, struct piece *ret, struct err *e)
{
	uint64_t len = min_u64(PIECE_BYTES - off % PIECE_BYTES, d->size - off);
	uint64_t left;		/* of the extent, from off on */

	if (off - d->at.start >= d->at.len && image_next_extent(d->im, d->state, off, d->size - off, &d->at, e) < 0)
		return e->code;
	left = d->at.start + d->at.len - off;
	*ret = (struct piece){ .off = off, .len = len, .data = true, .im = d->im, .state = d->state,
			       .from = &d->buffers, .cancel = &d->c->cancel };
	if (d->at.kind != EXTENT_DATA && (left >= ZERO_MIN_BYTES || off + left == d->size)) {
		ret->len = left;
		ret->data = false;
	}
	return 0;
}

static int submit_piece(struct dump *d, const struct piece *x, struct err *e)
{
	struct piece *copy = malloc(sizeof(*copy));

	if (!copy)
		return err_set(e, ERR_NOMEM, "no memory for a read");
	*copy = *x;
	if (x->data) {
		copy->cold = chain_is_cold(d->chain, &d->window, d->im, d->state, x->off);
		image_advise(d->im, d->state, x->off, x->len, true);
	}
	return workers_submit(d->w, copy, sizeof(*copy) + (x->data ? PIECE_BYTES : 0), e);
}

static int pump(struct dump *d, struct err *e)
{
	uint64_t off = 0;
	int r = 1;

	while (off < d->size) {
		struct piece x;

		while (workers_full(d->w))
			if (take_one(d, e) < 0)
				return e->code;
		if (cancel_check(&d->c->cancel, e) < 0 || next_piece(d, off, &x, e) < 0 || submit_piece(d, &x, e) < 0)
			return e->code;
		off += x.len;
	}
	workers_close(d->w);
	while (r > 0)
		r = take_one(d, e);
	return r;
}

/* A new image in the format asked for. */
static int open_writer(struct cli *c, const struct dump_opts *o, const struct image *im, uint64_t size,
		       struct target *t, struct err *e)
{
	const struct writer_state_opts so = { .size = size };
	const struct format *f = format_find(o->writer.format);
	CLEANUP(free_ptr) char *seed = NULL;
	struct writer_opts wo;

	if (writer_args_fit(c, &o->writer, f, o->output, &im->info.ids, e) < 0 ||
	    writer_args_opts(c, &o->writer, "dump", &im->info.ids, im->identity.mtime_ns, &wo, &seed, e) < 0)
		return e->code;
	wo.path = o->output;
	wo.size = size;
	wo.replace = o->image.force;
	if (f->create(&wo, &t->writer, e) < 0)
		return e->code == ERR_EXISTS ? err_hint(e, "--force replaces it") : e->code;
	return writer_begin_state(t->writer, &so, e);
}

static int open_target(struct cli *c, const struct dump_opts *o, const struct image *im, uint64_t size,
		       struct target *t, struct err *e)
{
	struct stat st;
	char shown[300];

	if (o->sink)
		return 0;
	if (!o->output || (o->output[0] == '-' && !o->output[1])) {
		if (isatty(STDOUT_FILENO))
			return cli_usage(c, e,
					 "a disk image does not belong on a terminal: redirect it, or use -o FILE");
		t->stream = STDOUT_FILENO;
		return 0;
	}
	text_quote(o->output, shown, sizeof(shown));
	if (stat(o->output, &st) == 0 && S_ISBLK(st.st_mode)) {
		(void)err_set(e, ERR_EXISTS, "%s is a block device, which dump does not overwrite", shown);
		return err_hint(e, "to mean it: kedge dump IMAGE | dd of=%s bs=1M conv=fsync",
				text_shell(o->output, shown, sizeof(shown)));
	}
	if (o->writer.format)
		return open_writer(c, o, im, size, t, e);
	if (stat(o->output, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
		t->stream = FS_RETRY(open(o->output, O_WRONLY | O_CLOEXEC));
		t->own_stream = true;
		return t->stream < 0 ? err_sys(e, "%s", shown) : 0;
	}
	t->replace = o->image.force;
	if (fs_atomic_open(&t->file, o->output, t->replace, 0600, e) < 0)
		return e->code == ERR_EXISTS ? err_hint(e, "--force replaces it") : e->code;
	if (FS_RETRY(ftruncate(t->file.fd, (off_t)size)) < 0)
		return err_sys(e, "%s: size of %" PRIu64 " bytes", shown, size);
	return 0;
}

static int report(struct dump *d, const char *image, const char *state, double seconds, struct err *e)
{
	char shown[300], a[MSG_SIZE_BYTES], b[MSG_SIZE_BYTES];

	if (!d->c->g.json) {
		if (d->t->stream != STDOUT_FILENO)
			msg_note(d->c, "%s, %s: %s, of which %s were read, in %.1f s",
				 text_quote(image, shown, sizeof(shown)), state, msg_size(d->c, d->size, a),
				 msg_size(d->c, d->read, b), seconds);
		return 0;
	}
	return msg_json(json_pack("{s:o, s:o, s:o, s:o, s:f}", "image", msg_json_text(image),
				  "state", msg_json_text(state), "size", msg_json_u64(d->size),
				  "bytes_read", msg_json_u64(d->read), "seconds", seconds), e);
}

/* Reads the state into the target and gives the target its name. */
static int copy_state(struct dump *d, struct chain *chain, struct err *e)
{
	uint64_t budget = d->c->g.memory / 2, most = max_u64(budget / BUFFERS_PER_THREAD_BYTES, 1);
	/* A thread has a piece at hand and others wait for it: a small budget means fewer threads. */
	unsigned threads =
		(unsigned)min_u64(d->c->g.threads, min_u64(most, BUFFERS_MAX_BYTES / BUFFERS_PER_THREAD_BYTES));
	const struct workers_opts wo = {
		.name = "kedge-read",
		.threads = threads,
		.run = piece_read,
		.item_free = piece_free,
		.max_bytes = min_u64(budget, min_u64(threads * BUFFERS_PER_THREAD_BYTES, BUFFERS_MAX_BYTES)),
	};
	int r = workers_new(&wo, &d->w, e);

	if (r == 0)
		r = pump(d, e);
	workers_free(d->w);
	buffers_done(&d->buffers);
	if (r == 0)
		r = chain_check_unchanged(chain, e);
	if (r == 0 && d->t->writer)
		r = writer_finish(STEAL(d->t->writer), e);
	if (r == 0 && d->t->file.fd >= 0)
		r = fs_atomic_commit(&d->t->file, d->t->replace, e);
	return r;
}

static int run_dump(struct cli *c, void *opts, struct err *e)
{
	const struct dump_opts *o = opts;
	const char *selector = o->state ? o->state : "current";
	CLEANUP(target_done) struct target t = { .file = { .fd = -1 }, .stream = -1 };
	CLEANUP(free_ptr) char *path = NULL;
	struct dump d = { .c = c, .t = &t, .buffers.lock = PTHREAD_MUTEX_INITIALIZER };
	struct chain *chain = NULL;
	double began = clock_mono();
	char shown[300];
	int r;

	if (writer_args_check(c, &o->writer, e) < 0)
		return e->code;
	if (o->writer.format ? !o->output || (o->output[0] == '-' && !o->output[1]) :
	    o->writer.subformat || o->writer.cluster_size || o->writer.compress || o->writer.preallocation ||
	    o->writer.compression_type || o->writer.extended_l2 || o->writer.keep_ids || o->writer.seed_ids)
		return cli_usage(c, e, "an image of a format is written with both -O FORMAT and -o FILE");
	if (o->sink && o->output)
		return cli_usage(c, e, "--sink and --output exclude each other");
	if (c->g.json && !o->sink && (!o->output || (o->output[0] == '-' && !o->output[1])))
		return cli_usage(c, e, "--json needs -o FILE or --sink null: the guest's bytes are on stdout");
	if (image_args_open(c, &o->image, c->args[0], false, false, &chain, &path, e) < 0)
		return e->code;
	image_args_warn(c, chain);
	d.chain = chain;
	d.im = chain->image;
	r = image_find_state(d.im, selector, &d.state, e);
	if (r == 0) {
		d.size = image_state(d.im, d.state)->size;
		r = open_target(c, o, d.im, d.size, &t, e);
	}
	if (r == 0)
		r = copy_state(&d, chain, e);
	chain_close(chain);
	if (r < 0)
		return err_ctx(e, "%s", text_quote(path, shown, sizeof(shown)));
	return report(&d, path, selector, clock_mono() - began, e);
}

static const struct opt dump_options[] = {
	OPT(struct dump_opts, state, 0, OPT_TEXT, "state", "SELECTOR", "current (default), snap:NAME or snapid:ID"),
	OPT(struct dump_opts, output, 'o', OPT_TEXT, "output", "FILE", "write a sparse file; - is stdout (default)"),
	OPT(struct dump_opts, writer.format, 'O', OPT_TEXT, "output-format", "FORMAT",
	    "write an image of this format to FILE, not the bytes as they are", .choices = WRITER_FORMATS),
	WRITER_ARGS_MORE(struct dump_opts),
	OPT(struct dump_opts, sink, 0, OPT_TEXT, "sink", "null", "read everything, write nothing", .choices = "null"),
	IMAGE_ARGS_FORMAT(struct dump_opts),
	IMAGE_ARGS_CHAIN(struct dump_opts),
	IMAGE_ARGS_UNPACK(struct dump_opts),
	IMAGE_ARGS_SECRET(struct dump_opts),
	OPT(struct dump_opts, image.force, 'f', OPT_FLAG, "force", NULL,
	    "read an image that is marked corrupt; replace an existing FILE"),
	{ .name = NULL },
};

const struct command cmd_dump = {
	.name = "dump",
	.summary = "write the guest content of an image to stdout or a file",
	.usage = "[FORMAT:]IMAGE",
	.text = "The content is that of the whole backing chain, as the guest sees it. FILE appears when all\n"
		"of it is written and durable. With -O it becomes an image of another format.",
	.options = dump_options,
	.opts_size = sizeof(struct dump_opts),
	.globals = CLI_JSON | CLI_PROGRESS | CLI_THREADS | CLI_MEMORY | CLI_BYTES,
	.min_args = 1,
	.max_args = 1,
	.run = run_dump,
};
