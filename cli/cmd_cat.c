/*
 * cmd_cat.c - kedge cat: the guest content of a point, as a stream.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "cli/msg.h"
#include "cli/open.h"
#include "cli/points.h"
#include "restore/restore.h"

struct cat_opts {
	uint64_t offset, length;
	bool salvage;
};

static const struct opt cat_options[] = {
	OPT(struct cat_opts, offset, 0, OPT_SIZE, "offset", "SIZE", "begin there (default 0)"),
	OPT(struct cat_opts, length, 0, OPT_SIZE, "length", "SIZE", "so many bytes (default: to the end)", .min = 1),
	OPT(struct cat_opts, salvage, 0, OPT_FLAG, "salvage", NULL,
	    "go on where chunks can't be had; zeros stand there, exit 4"),
	{ .name = NULL },
};

#define PIPE_SLOT_BYTES ((size_t)4096)	/* what fits in a pipe that poll calls writable */

struct sink {
	int fd;
	size_t pipe_bytes;	/* what the pipe holds; 0: it is none */
	struct cancel *cancel;
};

/* The bytes come on a thread that no signal interrupts: a pipe whose reader sleeps must not keep it from being stopped,
 * so nothing is written to a pipe but what it takes at once. */
static int wait_room(const struct sink *s, struct err *e)
{
	struct pollfd p = { .fd = s->fd, .events = POLLOUT };
	int r = 0;

	while (cancel_check(s->cancel, e) == 0 && r == 0) {
		r = poll(&p, 1, 100);
		if (r < 0 && errno == EINTR)
			r = 0;
		else if (r < 0)
			return err_sys(e, "standard output");
	}
	return e->code;
}

/* How much the pipe takes without waiting: the slots that are in use may be filled in part. */
static size_t pipe_room(const struct sink *s)
{
	size_t used;
	int n;

	if (ioctl(s->fd, FIONREAD, &n) < 0 || n < 0)
		return PIPE_SLOT_BYTES;
	used = ((size_t)n / PIPE_SLOT_BYTES + 3) * PIPE_SLOT_BYTES;
	return used < s->pipe_bytes ? s->pipe_bytes - used : PIPE_SLOT_BYTES;
}

static int out_data(void *opaque, const void *buf, size_t len, struct err *e)
{
	const struct sink *s = opaque;
	const uint8_t *p = buf;

	if (!s->pipe_bytes)
		return fs_write_full(s->fd, buf, len, e);
	while (len) {
		size_t n;

		if (wait_room(s, e) < 0)
			return e->code;
		n = min_size(len, pipe_room(s));
		if (fs_write_full(s->fd, p, n, e) < 0)
			return e->code;
		p += n;
		len -= n;
	}
	return 0;
}

static int out_zero(void *opaque, uint64_t len, struct err *e)
{
	static const uint8_t zeros[256 * 1024];

	while (len) {
		size_t n = (size_t)min_u64(len, sizeof(zeros));

		if (out_data(opaque, zeros, n, e) < 0)
			return e->code;
		len -= n;
	}
	return 0;
}

static int stream(struct cli *c, const struct cat_opts *co, struct opened *o, const struct point *pt, struct err *e)
{
	const struct manifest *m = pt->backup->m;
	const struct manifest_state_disk *sd = point_disk(m, pt->state, pt->disk);
	const struct restore_opts ro = {
		.threads = (unsigned)c->g.threads, .max_bytes = (size_t)c->g.memory * 3 / 4, .salvage = co->salvage,
		.cancel = &c->cancel, .progress = &c->progress,
	};
	struct sink sink = { .fd = STDOUT_FILENO, .cancel = &c->cancel };
	const struct restore_stream out = { .data = out_data, .zero = out_zero, .opaque = &sink };
	CLEANUP(restore_free_cleanup) struct restore *rs = NULL;
	struct restore_result res = { 0 };
	uint64_t size = sd->tree.size;
	int pipe_size = fcntl(STDOUT_FILENO, F_GETPIPE_SZ), r;

	sink.pipe_bytes = pipe_size > 0 ? (size_t)pipe_size : 0;
	if (co->offset > size)
		return cli_usage(c, e, "--offset is behind the end: the disk has %" PRIu64 " bytes", size);
	r = restore_new(o->repo, pt->backup, &ro, &rs, e);
	if (r == 0)
		r = restore_stream(rs, m->disks.p[pt->disk].domain, &sd->tree, co->offset,
				   co->length ? min_u64(co->length, size - co->offset) : size - co->offset, &out, &res,
				   e);
	points_report_damage(c, &res);
	if (res.ndamage)
		c->exit_code = EXIT_UNVERIFIED;
	restore_result_done(&res);
	return r < 0 ? r : c->exit_code;
}

static int run(struct cli *c, void *opts, struct err *e)
{
	struct opened o = { 0 };
	struct point pt;
	int r;

	if (isatty(STDOUT_FILENO))
		return cli_usage(c, e, "a disk's bytes don't belong on a terminal: redirect standard output");
	r = open_listed(c, &o, NULL, e);
	if (r == 0)
		r = points_find_disk(c, &o.backups, c->args[0], &pt, e);
	if (r == 0)
		r = stream(c, opts, &o, &pt, e);
	opened_done(&o);
	return r;
}

const struct command cmd_cat = {
	.name = "cat",
	.summary = "write the guest content of a point to standard output",
	.usage = "VM[:DISK][@WHEN][/STATE]",
	.text = "The bytes that the guest's disk held, zeros included.  DISK is needed where the VM has several.",
	.options = cat_options,
	.opts_size = sizeof(struct cat_opts),
	.globals = CLI_REPO | CLI_PROGRESS | CLI_THREADS | CLI_MEMORY,
	.min_args = 1,
	.max_args = 1,
	.run = run,
};
