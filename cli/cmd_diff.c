/*
 * cmd_diff.c - kedge diff: what differs between two points, by their trees.
 */
#include <inttypes.h>

#include "base/text.h"
#include "cli/msg.h"
#include "cli/open.h"
#include "cli/points.h"
#include "repo/diff.h"

struct diff_opts {
	bool summary;
};

static const struct opt diff_options[] = {
	OPT(struct diff_opts, summary, 's', OPT_FLAG, "summary", NULL, "only the sums of each disk, not the ranges"),
	{ .name = NULL },
};

struct diff_job {
	struct cli *c;
	bool summary;
	json_t *ranges;		/* --json: of all disks */
	struct opened open;
	struct point a, b;
	struct diff_result result;
};

static int on_range(void *opaque, const struct diff_disk *d, uint64_t off, uint64_t len, struct err *e)
{
	struct diff_job *j = opaque;
	char size[MSG_SIZE_BYTES];

	if (j->c->g.json) {
		json_t *o = json_object();

		msg_json_set(&o, "disk", msg_json_text(d->name));
		msg_json_set(&o, "start", msg_json_u64(off));
		msg_json_set(&o, "length", msg_json_u64(len));
		msg_json_push(&j->ranges, o);
	} else {
		printf("%s: %" PRIu64 " to %" PRIu64 " (%s)\n", d->name, off, off + len, msg_size(j->c, len, size));
	}
	return cancel_check(&j->c->cancel, e);
}

static const char *which_disk(const struct diff_job *j)
{
	const struct point *pt = j->a.has_disk ? &j->a : &j->b;

	return pt->has_disk ? pt->backup->m->disks.p[pt->disk].name : NULL;
}

static int report_json(struct diff_job *j, struct err *e)
{
	json_t *o = json_object(), *disks = json_array();

	for (size_t i = 0; i < j->result.disks.n; i++) {
		const struct diff_disk *d = &j->result.disks.p[i];
		json_t *row = json_object();

		msg_json_set(&row, "disk", msg_json_text(d->name));
		msg_json_set(&row, "size_a", d->in_a ? msg_json_u64(d->size_a) : json_null());
		msg_json_set(&row, "size_b", d->in_b ? msg_json_u64(d->size_b) : json_null());
		msg_json_set(&row, "bytes", msg_json_u64(d->counts.bytes));
		msg_json_set(&row, "bytes_filled", msg_json_u64(d->counts.bytes_filled));
		msg_json_set(&row, "bytes_zeroed", msg_json_u64(d->counts.bytes_zeroed));
		msg_json_set(&row, "ranges", msg_json_u64(d->counts.ranges));
		msg_json_push(&disks, row);
	}
	msg_json_set(&o, "disks", disks);
	if (!j->summary)
		msg_json_set(&o, "ranges", json_incref(j->ranges));
	return msg_json(o, e);
}

static int report_text(struct diff_job *j, struct err *e)
{
	for (size_t i = 0; i < j->result.disks.n; i++) {
		const struct diff_disk *d = &j->result.disks.p[i];
		char bytes[MSG_SIZE_BYTES], filled[MSG_SIZE_BYTES], zeroed[MSG_SIZE_BYTES], a[MSG_SIZE_BYTES],
			b[MSG_SIZE_BYTES];

		if (!d->in_a || !d->in_b) {
			printf("%s: only in the %s point, %s\n", d->name, d->in_a ? "first" : "second",
			       msg_size(j->c, d->in_a ? d->size_a : d->size_b, a));
			continue;
		}
		if (d->counts.ranges)
			printf("%s: %s differ in %" PRIu64 " range%s", d->name, msg_size(j->c, d->counts.bytes, bytes),
			       d->counts.ranges, msg_plural(d->counts.ranges));
		else
			printf("%s: equal", d->name);
		if (d->counts.bytes_filled)
			printf(", %s of it were zero before", msg_size(j->c, d->counts.bytes_filled, filled));
		if (d->counts.bytes_zeroed)
			printf(", %s of it became zero", msg_size(j->c, d->counts.bytes_zeroed, zeroed));
		if (d->size_a != d->size_b)
			printf(", size %s then %s", msg_size(j->c, d->size_a, a), msg_size(j->c, d->size_b, b));
		putchar('\n');
	}
	return msg_flush(e);
}

static int compare(struct diff_job *j, struct err *e)
{
	struct repo_reader *rd = NULL;
	int r = repo_reader_new(j->open.repo, (size_t)(j->c->g.memory / 2), &rd, e);

	if (r == 0)
		r = diff_states(rd, repo_config(j->open.repo)->chunk_size, j->a.backup->m, j->a.state, j->b.backup->m,
				j->b.state, which_disk(j), j->summary ? NULL : on_range, j, &j->result, e);
	repo_reader_free(rd);
	return r;
}

static int run(struct cli *c, void *opts, struct err *e)
{
	const struct diff_opts *o = opts;
	struct diff_job j = { .c = c, .summary = o->summary, .ranges = c->g.json ? json_array() : NULL };
	int r = open_listed(c, &j.open, NULL, e);

	if (r == 0)
		r = points_find(c, &j.open.backups, c->args[0], &j.a, e);
	if (r == 0)
		r = points_find(c, &j.open.backups, c->args[1], &j.b, e);
	if (r == 0)
		r = compare(&j, e);
	if (r == 0)
		r = c->g.json ? report_json(&j, e) : report_text(&j, e);
	diff_result_done(&j.result);
	json_decref(j.ranges);
	opened_done(&j.open);
	return r;
}

const struct command cmd_diff = {
	.name = "diff",
	.summary = "show what differs between two points",
	.usage = "POINT POINT",
	.text = "A point is VM[:DISK][@WHEN][/STATE].  Disks are paired by name.  Only what differs is read of\n"
		"the trees, and no content; the precision is a chunk.",
	.options = diff_options,
	.opts_size = sizeof(struct diff_opts),
	.globals = CLI_REPO | CLI_JSON | CLI_BYTES | CLI_MEMORY,
	.min_args = 2,
	.max_args = 2,
	.run = run,
};
