/*
 * cmd_bench.c - kedge bench: what the primitives cost on given data on this machine, and the limit that follows.
 */
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/num.h"
#include "cli/msg.h"
#include "repo/limits.h"

struct bench_opts {
	const char *dir;
	uint64_t level, size;
};

static const struct opt bench_options[] = {
	OPT(struct bench_opts, dir, 0, OPT_TEXT, "dir", "DIR", "measure writing there too, with fsync"),
	OPT(struct bench_opts, level, 0, OPT_NUMBER, "level", "N", "zstd level (default 3)", .min = 1, .max = 19),
	OPT(struct bench_opts, size, 0, OPT_SIZE, "size", "SIZE", "how much of the data to use, 2M to 1G (default 64M)",
	    .min = 2 * MIB, .max = GIB),
	{ .name = NULL },
};

static int append_file(const char *path, uint8_t *buf, size_t max, size_t *len, struct err *e)
{
	CLEANUP(close_fd) int fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC));
	off_t data;
	size_t n;

	if (fd < 0)
		return err_sys(e, "%s", path);
	/* Skip what is a hole at the start of a sparse image: there is nothing to measure on. */
	data = lseek(fd, 0, SEEK_DATA);
	if (fs_pread(fd, buf + *len, max - *len, data > 0 ? (uint64_t)data : 0, &n, e) < 0)
		return err_ctx(e, "%s", path);
	*len += n;
	return 0;
}

/* Without a FILE: this program and its libraries, as the kernel has them mapped. */
static int append_self(uint8_t *buf, size_t max, size_t *len, struct err *e)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[4096], last[4096] = "";
	int r = maps ? 0 : err_sys(e, "/proc/self/maps");

	while (r == 0 && *len < max && fgets(line, sizeof(line), maps)) {
		char *path = strchr(line, '/');

		if (!path)
			continue;
		path[strcspn(path, "\n")] = 0;
		if (!strcmp(path, last))
			continue;
		snprintf(last, sizeof(last), "%s", path);
		if (access(path, R_OK) == 0)
			r = append_file(path, buf, max, len, e);
	}
	if (maps)
		fclose(maps);
	return r;
}

static int read_data(const char *path, size_t max, uint8_t **ret, size_t *ret_len, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(max);
	size_t len = 0;

	if (!buf)
		return err_set(e, ERR_NOMEM, "no memory for %zu bytes of data", max);
	if ((path ? append_file(path, buf, max, &len, e) : append_self(buf, max, &len, e)) < 0)
		return e->code;
	*ret = STEAL(buf);
	*ret_len = len;
	return 0;
}

static const struct {
	const char *name, *text;
	size_t offset;
} rows[] = {
	{ "zero_check", "finding zero chunks", offsetof(struct limits, zero_check) },
	{ "hash", "ids (BLAKE2b)", offsetof(struct limits, hash) },
	{ "compress", "compressing (zstd)", offsetof(struct limits, compress) },
	{ "decode", "decoding (zstd)", offsetof(struct limits, decode) },
	{ "seal", "sealing (XChaCha20-Poly1305)", offsetof(struct limits, seal) },
	{ "open", "opening", offsetof(struct limits, open) },
	{ "write", "writing with fsync", offsetof(struct limits, write) },
};
#define NROWS (sizeof(rows) / sizeof(*rows))

static double row_value(const struct limits *l, size_t i)
{
	return *(const double *)(const void *)((const char *)l + rows[i].offset);
}

/* JSON has no infinity: what took no time that could be measured has no speed. */
static json_t *real_json(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

static int report(struct cli *c, const struct limits *l, struct err *e)
{
	unsigned cores = (unsigned)c->g.threads;
	char size[MSG_SIZE_BYTES];

	if (c->g.json) {
		json_t *o = json_object();

		for (size_t i = 0; i < NROWS; i++)
			msg_json_set(&o, rows[i].name, real_json(row_value(l, i)));
		msg_json_set(&o, "ratio", real_json(l->ratio));
		msg_json_set(&o, "bytes", msg_json_u64(l->bytes));
		msg_json_set(&o, "cores", json_integer(cores));
		msg_json_set(&o, "limit_store", real_json(limits_store(l, cores)));
		msg_json_set(&o, "limit_restore", real_json(limits_restore(l, cores)));
		return msg_json(o, e);
	}
	printf("measured on %s that is not zero; ratio %.2f; MiB/s of one core:\n", msg_size(c, l->bytes, size),
	       l->ratio);
	for (size_t i = 0; i < NROWS; i++)
		if (row_value(l, i) > 0)
			printf("  %-30s %8.0f\n", rows[i].text, row_value(l, i) / (double)MIB);
	printf("limit for new data on %u core%s:  %.0f MiB/s stored, %.0f MiB/s restored\n", cores,
	       cores == 1 ? "" : "s", limits_store(l, cores) / (double)MIB, limits_restore(l, cores) / (double)MIB);
	return msg_flush(e);
}

static int run(struct cli *c, void *opts, struct err *e)
{
	const struct bench_opts *o = opts;
	CLEANUP(free_ptr) uint8_t *data = NULL;
	struct limits l;
	size_t len = 0;

	if (read_data(c->nargs ? c->args[0] : NULL, (size_t)(o->size ? o->size : 64 * MIB), &data, &len, e) < 0 ||
	    limits_measure(data, len, o->level ? (int)o->level : 3, o->dir, &c->cancel, &l, e) < 0)
		return e->code;
	return report(c, &l, e);
}

const struct command cmd_bench = {
	.name = "bench",
	.summary = "measure what storing and restoring costs on this machine",
	.usage = "[FILE]",
	.text = "Measures hashing, compressing, sealing and their reverses on FILE (a disk image; default: this\n"
		"program and its libraries) and computes the speed that no run can exceed: what the bytes that\n"
		"must be hashed, compressed, decoded again, sealed and written cost.",
	.options = bench_options,
	.opts_size = sizeof(struct bench_opts),
	.globals = CLI_JSON | CLI_BYTES | CLI_THREADS,
	.max_args = 1,
	.run = run,
};
