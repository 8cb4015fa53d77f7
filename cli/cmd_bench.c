/*
 * cmd_bench.c - kedge bench: what the primitives cost on given data on this machine, and the limit that follows.
 */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "cli/msg.h"
#include "repo/limits.h"
#include "repo/writer.h"

struct bench_opts {
	const char *dir;
	uint64_t level, size;
};

static const struct opt bench_options[] = {
	OPT(struct bench_opts, dir, 0, OPT_TEXT, "dir", "DIR", "measure writing there too, with fsync"),
	OPT(struct bench_opts, level, 0, OPT_NUMBER, "level", "N", "zstd level (default 1)", .min = 1, .max = 19),
	OPT(struct bench_opts, size, 0, OPT_SIZE, "size", "SIZE", "how much to measure on, 2M to 1G (default 64M)",
	    .min = 2 * MIB, .max = GIB),
	{ .name = NULL },
};

/* Without a FILE: this program and its libraries, as the kernel has them mapped. */
static int add_self(struct limits_data *d, struct cancel *cancel, struct err *e)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[4096], last[4096] = "";
	int r = maps ? 0 : err_sys(e, "/proc/self/maps");

	while (r == 0 && fgets(line, sizeof(line), maps)) {
		char *path = strchr(line, '/');

		if (!path)
			continue;
		path[strcspn(path, "\n")] = 0;
		if (!strcmp(path, last))
			continue;
		snprintf(last, sizeof(last), "%s", path);
		if (access(path, R_OK) == 0)
			r = limits_data_add(d, path, cancel, e);
	}
	if (maps)
		fclose(maps);
	return r;
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
	{ "name", "names of packs (SHA-256)", offsetof(struct limits, name) },
	{ "copy_out", "writing a new file, the kernel's work", offsetof(struct limits, copy_out) },
	{ "copy_in", "reading it from memory", offsetof(struct limits, copy_in) },
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

static int report_json(const struct limits *l, const struct limits_data *d, struct err *e)
{
	json_t *o = json_object(), *job = json_object();

	for (size_t i = 0; i < NROWS; i++)
		msg_json_set(&o, rows[i].name, real_json(row_value(l, i)));
	msg_json_set(&o, "ratio", real_json(l->ratio));
	msg_json_set(&o, "bytes", msg_json_u64(l->bytes));
	msg_json_set(&o, "cores", json_integer(l->cores));
	msg_json_set(&o, "limit_store", real_json(limits_store(l)));
	msg_json_set(&o, "limit_restore", real_json(limits_restore(l)));
	msg_json_set(&job, "bytes_read", msg_json_u64(d->read));
	msg_json_set(&job, "bytes_hashed", msg_json_u64(d->hashed));
	msg_json_set(&job, "bytes_new", msg_json_u64(d->fresh));
	msg_json_set(&job, "store_seconds", real_json(limits_store_seconds(l, d)));
	msg_json_set(&job, "restore_seconds", real_json(limits_restore_seconds(l, d)));
	msg_json_set(&o, "data", job);
	return msg_json(o, e);
}

static int report(struct cli *c, const struct limits *l, const struct limits_data *d, struct err *e)
{
	char size[MSG_SIZE_BYTES], hashed[MSG_SIZE_BYTES], fresh[MSG_SIZE_BYTES];

	printf("measured on %s that is new; ratio %.2f; MiB/s of one core while %u %s:\n", msg_size(c, l->bytes, size),
	       l->ratio, l->cores, l->cores == 1 ? "works" : "work");
	for (size_t i = 0; i < NROWS; i++)
		if (row_value(l, i) > 0)
			printf("  %-38s %8.0f\n", rows[i].text, row_value(l, i) / (double)MIB);
	printf("limit for new data on %u core%s:  %.0f MiB/s stored, %.0f MiB/s restored\n", l->cores,
	       l->cores == 1 ? "" : "s", limits_store(l) / (double)MIB, limits_restore(l) / (double)MIB);
	printf("all of it, %s to read, %s not zero, %s new:  %.2f s to store, %.2f s to restore, waiting for no disk\n",
	       msg_size(c, d->read, size), msg_size(c, d->hashed, hashed), msg_size(c, d->fresh, fresh),
	       limits_store_seconds(l, d), limits_restore_seconds(l, d));
	return msg_flush(e);
}

static int run(struct cli *c, void *opts, struct err *e)
{
	const struct bench_opts *o = opts;
	CLEANUP(limits_data_done) struct limits_data d = { .max = (size_t)(o->size ? o->size : 64 * MIB) };
	int level = o->level ? (int)o->level : COMPRESS_DEFAULT_LEVEL;
	struct limits l;

	if ((c->nargs ? limits_data_add(&d, c->args[0], &c->cancel, e) : add_self(&d, &c->cancel, e)) < 0 ||
	    limits_measure(&d, level, o->dir, (unsigned)c->g.threads, &c->cancel, &l, e) < 0)
		return e->code;
	return c->g.json ? report_json(&l, &d, e) : report(c, &l, &d, e);
}

const struct command cmd_bench = {
	.name = "bench",
	.summary = "measure what storing and restoring costs on this machine",
	.usage = "[FILE]",
	.text = "Measures hashing, compressing, sealing and their reverses on FILE (a disk image; default: this\n"
		"program and its libraries), by as many threads as --threads says at once, and computes the speed\n"
		"that no run can exceed: what the bytes that must be read, hashed, compressed, decoded again, sealed\n"
		"and written cost, for new data and for a first backup and a restore of FILE.",
	.options = bench_options,
	.opts_size = sizeof(struct bench_opts),
	.globals = CLI_JSON | CLI_BYTES | CLI_THREADS,
	.max_args = 1,
	.run = run,
};
