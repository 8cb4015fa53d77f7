/*
 * cmd_init.c - kedge init: makes a repository and shows its recovery key, once.
 */
#include <sodium.h>

#include "base/num.h"
#include "base/text.h"
#include "cli/msg.h"
#include "cli/open.h"

struct init_opts {
	uint64_t chunk_size, pack_size;
	const char *label;
};

static const struct opt init_options[] = {
	OPT(struct init_opts, chunk_size, 0, OPT_SIZE, "chunk-size", "SIZE",
	    "unit of deduplication, a power of two (default 64K)", .min = CHUNK_MIN_BYTES, .max = CHUNK_MAX_BYTES),
	OPT(struct init_opts, pack_size, 0, OPT_SIZE, "pack-size", "SIZE", "size of stored objects (default 32M)",
	    .min = MIB, .max = PACK_MAX_BYTES / 2),
	OPT(struct init_opts, label, 0, OPT_TEXT, "label", "TEXT", "name of the first key (default: first)"),
	{ .name = NULL },
};

/* Shown before the repository is there, so that there is none whose recovery key nobody has seen. */
static int show(void *opaque, const struct secret *recovery, struct err *e)
{
	struct cli *c = opaque;
	char *text;

	if (secret_recovery_text(recovery, &text, e) < 0)
		return e->code;
	if (c->g.json) {
		json_t *o = json_object();
		int r;

		msg_json_set(&o, "repository", msg_json_text(c->g.repo));
		msg_json_set(&o, "recovery_key", json_string(text));
		r = msg_json(o, e);
		sodium_free(text);
		return r;
	}
	msg_note(c,
		 "The recovery key of the repository at %s opens it if the password is lost, and is shown only this "
		 "once:",
		 c->g.repo);
	printf("%s\n", text);
	sodium_free(text);
	return msg_flush(e);
}

/* A folder that is not empty: is it a repository already, or what an interrupted init left of one? */
static int open_existing(struct cli *c, struct store **ret, struct err *e)
{
	struct err unheard = ERR_INIT;
	struct store *s = NULL;
	struct store_stat st;

	if (open_store(c, false, &s, &unheard) < 0)
		return e->code;
	if (repo_unfinished(s)) {
		err_clear(e);
		*ret = s;
		return 0;
	}
	if (store_stat(s, "config", &st, &unheard) == 0)
		err_set(e, ERR_EXISTS, "a repository exists already at %s", c->g.repo);
	store_close(s);
	return e->code;
}

static int run(struct cli *c, void *opts, struct err *e)
{
	const struct init_opts *o = opts;
	const struct repo_init_opts io = {
		.chunk_size = (uint32_t)o->chunk_size,
		.pack_size = (uint32_t)o->pack_size,
		.label = o->label ? o->label : "first",
		.show = show,
		.opaque = c,
	};
	struct store *store = NULL;
	struct secret *secret = NULL, *recovery = NULL;
	int r;

	if (o->chunk_size && !is_pow2(o->chunk_size))
		return cli_usage(c, e, "--chunk-size must be a power of two");
	c->test_store = true;	/* whether two inits at once can be told apart decides what may be taken away */
	r = open_store(c, true, &store, e);
	if (r == ERR_EXISTS)
		r = open_existing(c, &store, e);
	if (r == 0)
		r = open_secret(c, true, &secret, e);
	if (r == 0)
		r = repo_init(store, secret, &io, &recovery, e);
	if (r == 0)
		msg_note(c, "Repository made at %s.  Write the recovery key down and keep it away from this machine.",
			 c->g.repo);
	secret_free(secret);
	secret_free(recovery);
	store_close(store);
	return r;
}

const struct command cmd_init = {
	.name = "init",
	.summary = "make a repository",
	.usage = "",
	.text = "Makes an encrypted repository in the folder named by --repo, which must be new or empty.  The\n"
		"recovery key is printed on standard output, once: it opens the repository when the password is\n"
		"lost.  What an interrupted init left is taken away.",
	.options = init_options,
	.opts_size = sizeof(struct init_opts),
	.globals = CLI_REPO | CLI_JSON,
	.run = run,
};
