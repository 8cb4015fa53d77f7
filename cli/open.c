/*
 * open.c - from the command line to an open repository.
 */
#include "cli/open.h"

#include <errno.h>
#include <stdlib.h>
#include <sodium.h>

#include "base/fs.h"
#include "base/text.h"
#include "cli/msg.h"
#include "cli/password.h"
#include "transport/registry.h"

static void notice(void *opaque, const char *text)
{
	msg_warn(opaque, "%s", text);
}

/* Of all that the storage refuses, the one that says that there is no repository. */
static bool no_bucket(const struct err *e)
{
	return e->code == ERR_REFUSED && e->os_errno == ENOENT;
}

int open_store(struct cli *c, bool create, struct store **ret, struct err *e)
{
	const struct store_opts o = { .s3 = { .endpoint = c->g.s3_endpoint, .region = c->g.s3_region,
					      .style = c->g.s3_style, .profile = c->g.s3_profile,
					      .ca_file = c->g.cacert,
					      .self_test = c->test_store, .cancel = &c->cancel, .notice = notice, .opaque = c } };

	if (!c->g.repo)
		return cli_usage(c, e, "no repository named: give -r PATH or set KEDGE_REPOSITORY");
	if (store_open_with(c->g.repo, create, &o, ret, e) == 0)
		return 0;
	if (no_bucket(e))
		return cli_exit(c, EXIT_NO_REPO, e);
	if (e->code != ERR_NOTFOUND)
		return e->code;
	if (e->os_errno == ENOENT)
		err_set(e, ERR_NOTFOUND, "no repository at %s: there is no such folder", c->g.repo);
	err_hint(e, "kedge -r FOLDER init makes one");
	return cli_exit(c, EXIT_NO_REPO, e);
}

/* A folder of kedge's own: the variable, else below an XDG folder, else below the home folder, else a system folder. */
static char *own_dir(const char *env, const char *xdg, const char *home_part, const char *system, struct err *e)
{
	const char *v = getenv(env), *x = getenv(xdg), *home = getenv("HOME");

	if (v && *v)
		return text_printf(e, "%s", v);
	if (x && *x)
		return text_printf(e, "%s/kedge", x);
	if (home && *home == '/')
		return text_printf(e, "%s/%s/kedge", home, home_part);
	return text_printf(e, "%s", system);
}

int open_secret(struct cli *c, bool fresh, struct secret **ret, struct err *e)
{
	if (c->g.key_file)
		return password_read_key_file(c->g.key_file, ret, e);
	if (fresh)
		return password_get_new(c, "new passphrase for the repository", NULL, ret, e);
	return password_get(c, "passphrase of the repository", ret, e);
}

int open_repo(struct cli *c, struct opened *o, struct err *e)
{
	struct secret *secret = NULL;
	struct repo_open_opts ro = { .cancel = &c->cancel, .notice = notice, .opaque = c };
	int r = open_store(c, false, &o->store, e);

	if (r < 0)
		return r;
	o->state_dir = own_dir("KEDGE_STATE_DIR", "XDG_STATE_HOME", ".local/state", "/var/lib/kedge", e);
	o->cache_dir = own_dir("KEDGE_CACHE_DIR", "XDG_CACHE_HOME", ".cache", "/var/cache/kedge", e);
	if (!o->state_dir || !o->cache_dir)
		return e->code;
	ro.state_dir = o->state_dir;
	ro.cache_dir = o->cache_dir;
	if (open_secret(c, false, &secret, e) < 0)
		return e->code;
	r = repo_open(o->store, secret, &ro, &o->repo, e);
	secret_free(secret);
	if (r == ERR_NOTFOUND) {
		if (!e->hint[0])
			err_hint(e, "kedge -r %s init makes one", text_shell(c->g.repo, (char[300]){ 0 }, 300));
		return cli_exit(c, EXIT_NO_REPO, e);
	}
	if (no_bucket(e))
		return cli_exit(c, EXIT_NO_REPO, e);
	if (r == ERR_AUTH) {
		if (!e->hint[0])
			err_hint(e, "the recovery key that init showed opens it too: give it as the password");
		return err_ctx(e, "repository %s", c->g.repo);
	}
	return r;
}

int open_backups(struct opened *o, const char *vm, struct err *e)
{
	return repo_backups(o->repo, vm, &o->backups, &o->bad, e);
}

int open_listed(struct cli *c, struct opened *o, const char *vm, struct err *e)
{
	int r = open_repo(c, o, e);

	return r == 0 ? open_backups(o, vm, e) : r;
}

void opened_done(struct opened *o)
{
	backup_list_free(&o->backups);
	repo_close(o->repo);
	store_close(o->store);
	free(o->state_dir);
	free(o->cache_dir);
	*o = (struct opened){ 0 };
}

const char *short_id(const struct id *id, char buf[static SHORT_ID_BYTES])
{
	return text_hex(id->b, SHORT_ID_DIGITS / 2, buf);
}
