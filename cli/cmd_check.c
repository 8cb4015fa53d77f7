/*
 * cmd_check.c - kedge check: can everything that is listed be restored?
 */
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "cli/msg.h"
#include "cli/open.h"
#include "repo/check.h"

#define SEED_MAX 1000000000u	/* short enough to type, and exact as a JSON number */

struct check_cmd_opts {
	const char *read_data;
	uint64_t seed;
};

static const struct opt check_options[] = {
	OPT(struct check_cmd_opts, read_data, 0, OPT_MAYBE, "read-data", "N%",
	    "read the packs too, all or a random part, and verify every chunk"),
	OPT(struct check_cmd_opts, seed, 0, OPT_NUMBER, "seed", "N", "choose the same random part again", .min = 1),
	{ .name = NULL },
};

struct check_job {
	struct cli *c;
	json_t *findings;	/* --json */
};

static const char *const severities[] = {
	[CHECK_INFO] = "info", [CHECK_WARNING] = "warning", [CHECK_DAMAGE] = "damage"
};

static void finding_json(json_t **to, const struct check_finding *f)
{
	json_t *o = json_object();

	msg_json_set(&o, "severity", json_string(severities[f->severity]));
	msg_json_set(&o, "what", json_string(f->what));
	msg_json_set(&o, "text", msg_json_text(f->text));
	if (f->object)
		msg_json_set(&o, "object", msg_json_text(f->object));
	if (f->manifest)
		msg_json_set(&o, "manifest", msg_json_text(f->manifest));
	if (f->vm)
		msg_json_set(&o, "vm", msg_json_text(f->vm));
	if (f->point)
		msg_json_set(&o, "point", msg_json_text(f->point));
	if (f->disk)
		msg_json_set(&o, "disk", msg_json_text(f->disk));
	if (f->len) {
		msg_json_set(&o, "start", msg_json_u64(f->off));
		msg_json_set(&o, "length", msg_json_u64(f->len));
	}
	msg_json_push(to, o);
}

/* "VM@ID/STATE disk D, bytes A to B": as the point is typed.  The id is the end of the manifest's name. */
static void place_text(const struct check_finding *f, char *buf, size_t len)
{
	const char *id = f->manifest ? strrchr(f->manifest, '/') : NULL;
	char q[160];
	int n = 0;

	buf[0] = 0;
	if (f->vm)
		n = snprintf(buf, len, "%s@%.*s", f->vm, SHORT_ID_DIGITS, id ? id + 1 : "?");
	if (f->point && n >= 0 && (size_t)n < len)
		n += snprintf(buf + n, len - (size_t)n, "/%s", text_quote(f->point, q, sizeof(q)));
	if (f->disk && n >= 0 && (size_t)n < len)
		n += snprintf(buf + n, len - (size_t)n, " %s", text_quote(f->disk, q, sizeof(q)));
	if (f->len && n >= 0 && (size_t)n < len)
		snprintf(buf + n, len - (size_t)n, " bytes %" PRIu64 " to %" PRIu64, f->off, f->off + f->len);
}

static int on_finding(void *opaque, const struct check_finding *f, struct err *e)
{
	struct check_job *j = opaque;
	char place[600], q[1000];

	(void)e;
	if (j->c->g.json) {
		finding_json(&j->findings, f);
		return 0;
	}
	place_text(f, place, sizeof(place));
	text_quote(f->text, q, sizeof(q));
	if (f->severity == CHECK_INFO)
		msg_note(j->c, "%s%s%s%s%s", place, *place ? ": " : "", f->object ? f->object : "",
			 f->object ? ": " : "", q);
	else
		msg_warn(j->c, "%s: %s%s%s%s%s", severities[f->severity], place, *place ? ": " : "",
			 f->object ? f->object : "", f->object ? ": " : "", q);
	return 0;
}

static int parse_read(struct cli *c, const struct check_cmd_opts *o, struct check_opts *co, struct err *e)
{
	char number[8];
	uint64_t percent;
	size_t n;

	if (o->seed && (!o->read_data || !*o->read_data))
		return cli_usage(c, e, "--seed chooses what --read-data=N%% reads: give that too");
	co->seed = o->seed ? o->seed : 1 + randombytes_uniform(SEED_MAX);
	if (!o->read_data)
		return 0;
	if (!*o->read_data) {
		co->read = CHECK_READ_ALL;
		return 0;
	}
	n = strcspn(o->read_data, "%");
	if (n >= sizeof(number) || strcmp(o->read_data + n, "%"))
		return cli_usage(c, e, "--read-data=%s: give a percentage, such as --read-data=10%%", o->read_data);
	memcpy(number, o->read_data, n);
	number[n] = 0;
	if (!parse_u64(number, 1, 100, &percent))
		return cli_usage(c, e, "--read-data=%s: give a percentage from 1%% to 100%%", o->read_data);
	co->read = percent == 100 ? CHECK_READ_ALL : CHECK_READ_PERCENT;
	co->percent = (unsigned)percent;
	return 0;
}

static int report_json(struct check_job *j, const struct check_result *r, struct err *e)
{
	static const struct {
		const char *name;
		size_t offset;
	} counts[] = {
		{ "backups", offsetof(struct check_result, backups) },
		{ "points", offsetof(struct check_result, points) },
		{ "points_damaged", offsetof(struct check_result, points_damaged) },
		{ "packs", offsetof(struct check_result, packs) },
		{ "packs_missing", offsetof(struct check_result, packs_missing) },
		{ "packs_damaged", offsetof(struct check_result, packs_damaged) },
		{ "packs_unnamed", offsetof(struct check_result, packs_unnamed) },
		{ "packs_read", offsetof(struct check_result, packs_read) },
		{ "bytes_read", offsetof(struct check_result, bytes_read) },
		{ "nodes", offsetof(struct check_result, nodes) },
		{ "chunks", offsetof(struct check_result, chunks) },
		{ "chunks_read", offsetof(struct check_result, chunks_read) },
		{ "chunks_lost", offsetof(struct check_result, chunks_lost) },
		{ "damages", offsetof(struct check_result, damages) },
		{ "warnings", offsetof(struct check_result, warnings) },
		{ "seed", offsetof(struct check_result, seed) },
	};
	json_t *o = json_object();

	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		const void *member = (const char *)r + counts[i].offset;

		msg_json_set(&o, counts[i].name, msg_json_u64(*(const uint64_t *)member));
	}
	msg_json_set(&o, "findings", json_incref(j->findings));
	return msg_json(o, e);
}

static int report_text(struct check_job *j, const struct check_opts *co, const struct check_result *r, struct err *e)
{
	char size[MSG_SIZE_BYTES];

	if (j->c->g.quiet && !r->damages && !r->warnings)
		return 0;
	printf("%" PRIu64 " backup%s, %" PRIu64 " point%s, %" PRIu64 " pack%s, %" PRIu64 " node%s, %" PRIu64
	       " chunk%s looked up\n",
	       r->backups, msg_plural(r->backups), r->points, msg_plural(r->points), r->packs, msg_plural(r->packs),
	       r->nodes, msg_plural(r->nodes), r->chunks, msg_plural(r->chunks));
	if (co->read != CHECK_READ_NONE)
		printf("%" PRIu64 " pack%s read (%s), %" PRIu64 " chunk%s verified\n", r->packs_read,
		       msg_plural(r->packs_read), msg_size(j->c, r->bytes_read, size), r->chunks_read,
		       msg_plural(r->chunks_read));
	if (co->read == CHECK_READ_PERCENT)
		printf("the same part again: --seed %" PRIu64 "\n", r->seed);
	if (r->damages && !r->points_damaged && !r->chunks_lost)
		printf("DAMAGED, but no point that is listed is touched: see the warnings\n");
	else if (r->damages)
		printf("DAMAGED: %" PRIu64 " point%s, %" PRIu64 " chunk%s lost\n", r->points_damaged,
		       msg_plural(r->points_damaged), r->chunks_lost, msg_plural(r->chunks_lost));
	else
		printf(r->warnings ? "nothing is lost; see the warnings\n" : "no damage found\n");
	return msg_flush(e);
}

static int run(struct cli *c, void *opts, struct err *e)
{
	struct check_opts co = {
		.threads = (unsigned)c->g.threads,
		.max_bytes = (size_t)(c->g.memory * 3 / 4),
		.cancel = &c->cancel,
		.progress = &c->progress,
	};
	struct check_job j = { .c = c };
	struct check_result res = { 0 };
	struct opened o = { 0 };
	int r = parse_read(c, opts, &co, e);

	if (c->g.json)
		j.findings = json_array();
	if (r == 0)
		r = open_repo(c, &o, e);
	if (r == 0)
		r = repo_check(o.repo, &co, on_finding, &j, &res, e);
	if (r == 0)
		r = c->g.json ? report_json(&j, &res, e) : report_text(&j, &co, &res, e);
	json_decref(j.findings);
	opened_done(&o);
	return r < 0 ? r : res.damages ? EXIT_DAMAGE : EXIT_DONE;
}

const struct command cmd_check = {
	.name = "check",
	.summary = "verify that every backup can be restored",
	.usage = "",
	.text = "Without --read-data: every manifest, every tree, and that every chunk is in a pack that is there\n"
		"and says so.  With it, the packs are read too, and every chunk's id is computed.  Damage is\n"
		"named by object, VM, point and guest range; exit 6.",
	.options = check_options,
	.opts_size = sizeof(struct check_cmd_opts),
	.globals = CLI_REPO | CLI_JSON | CLI_PROGRESS | CLI_BYTES | CLI_THREADS | CLI_MEMORY,
	.run = run,
};
