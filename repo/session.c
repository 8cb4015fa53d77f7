/*
 * session.c - a run that may commit, from its session object to its end marker; and read sessions (docs/design.md, 7).
 */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

#define SECOND_NS ((int64_t)1000000000)
#define RENEWAL_NS (3600 * SECOND_NS)

struct session {
	struct repo *r;
	struct session_id id;
	struct protocol_view *view;
	struct name_list named;	/* the epoch objects that the session object names */
	int64_t posted_ns;	/* when the newest of session and renewals was posted */
	int64_t renewal_ns;
	uint64_t renewals;
	bool evicted;
};

static char *host_name(struct err *e)
{
	char name[256];

	if (gethostname(name, sizeof(name)) < 0)
		return text_printf(e, "unknown");
	name[sizeof(name) - 1] = '\0';
	return text_printf(e, "%s", name);
}

/*
 * The epoch objects that are there and were read.  One that can't be read now condemns packs that we don't know: not to
 * be named, so that its collector waits for us.
 */
static int epochs_seen(struct repo *r, struct name_list *ret, struct err *e)
{
	struct protocol_set epochs;
	int rc = 0;

	if (protocol_set_load(r, OBJECT_EPOCH, &epochs, e) < 0)
		return e->code;
	for (size_t i = 0; i < epochs.names.n && rc == 0; i++)
		rc = name_list_add(ret, epochs.names.p[i], e);
	protocol_set_done(&epochs);
	return rc;
}

static int post_session(struct session *s, enum session_kind kind, const char *vm, struct err *e)
{
	CLEANUP(protocol_object_free_cleanup) struct protocol_object *p = calloc(1, sizeof(*p));
	char name[OBJECT_NAME_BYTES];

	if (!p)
		return err_set(e, ERR_NOMEM, "no memory for a session");
	p->type = OBJECT_SESSION;
	p->session = s->id;
	p->kind = kind;
	p->host = host_name(e);
	if (!p->host)
		return e->code;
	p->vm = vm ? strdup(vm) : NULL;
	if (vm && !p->vm)
		return err_set(e, ERR_NOMEM, "no memory for a session");
	if (epochs_seen(s->r, &p->epochs, e) < 0 || protocol_put(s->r, p, name, e) < 0)
		return e->code;
	s->posted_ns = p->time_ns;
	s->named = p->epochs;
	p->epochs = (struct name_list){ 0 };
	return 0;
}

static int post_end(struct repo *r, const struct session_id *id, bool done, struct err *e)
{
	struct protocol_object p = { .type = OBJECT_END, .session = *id, .done = done };
	char name[OBJECT_NAME_BYTES];

	return protocol_put(r, &p, name, e);
}

/* A collector does not wait for us when we name its epoch object: what that condemns must then be in the view.  One
 * that is gone was swept. */
static int check_named(const struct session *s, struct err *e)
{
	struct store_stat st;
	struct err why = ERR_INIT;

	for (size_t i = 0; i < s->named.n; i++) {
		bool there = false;

		for (size_t k = 0; k < s->view->epochs.names.n && !there; k++)
			there = !strcmp(s->view->epochs.names.p[k], s->named.p[i]);
		if (there || store_stat(s->r->store, s->named.p[i], &st, &why) == ERR_NOTFOUND)
			continue;
		err_set(e, ERR_TRANSIENT, "%s could be read a moment ago, and now it can't", s->named.p[i]);
		return err_hint(e, "run it again");
	}
	return 0;
}

int session_begin(struct repo *r, enum session_kind kind, const char *vm, struct session **ret, struct err *e)
{
	struct session *s = calloc(1, sizeof(*s));
	struct err late = ERR_INIT;
	int rc;

	if (!s)
		return err_set(e, ERR_NOMEM, "no memory for a session");
	s->r = r;
	s->renewal_ns = r->cfg.lease_ns / 4 < RENEWAL_NS ? r->cfg.lease_ns / 4 : RENEWAL_NS;
	randombytes_buf(s->id.b, SESSION_BYTES);
	rc = post_session(s, kind, vm, e);
	if (rc == 0 &&
	    (protocol_settle(r, e) < 0 || protocol_load(r, true, &s->view, e) < 0 || check_named(s, e) < 0)) {
		rc = e->code;
		/* without it a collector waits for the lease, no more */
		(void)post_end(r, &s->id, false, &late);
	}
	if (rc < 0) {
		err_ctx(e, "starting a session");
		session_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

const struct session_id *session_id_of(const struct session *s) { return &s->id; }
const struct protocol_view *session_view(const struct session *s) { return s->view; }

void session_free(struct session *s)
{
	if (!s)
		return;
	protocol_free(s->view);
	name_list_free(&s->named);
	free(s);
}

int session_renew(struct session *s, struct err *e)
{
	struct protocol_object p = { .type = OBJECT_RENEWAL, .session = s->id, .number = s->renewals + 1 };
	int64_t now = clock_wall_ns();
	char name[OBJECT_NAME_BYTES];

	/* A clock that was set back must not stop the renewals. */
	if (now >= s->posted_ns && now - s->posted_ns < s->renewal_ns)
		return 0;
	if (protocol_put(s->r, &p, name, e) < 0)
		return err_ctx(e, "renewing the session");
	s->posted_ns = p.time_ns;
	s->renewals++;
	return 0;
}

int session_check_evicted(struct session *s, struct err *e)
{
	struct protocol_set evictions;
	bool evicted = false;

	if (protocol_settle(s->r, e) < 0 || protocol_set_load(s->r, OBJECT_EVICTION, &evictions, e) < 0)
		return err_ctx(e, "looking for an eviction");
	for (size_t i = 0; i < evictions.p.n && !evicted; i++)
		evicted = session_eq(&evictions.p.p[i]->evicted_session, &s->id) &&
			  slot_eq(&evictions.p.p[i]->evicted_slot, &s->r->own);
	protocol_set_done(&evictions);
	if (!evicted)
		return 0;
	s->evicted = true;
	err_set(e, ERR_TRANSIENT,
		"this run's session was evicted: its lease had run out, and a prune went on without it");
	return err_hint(e, "run it again: what is stored already is used");
}

bool session_is_evicted(const struct session *s)
{
	return s->evicted;
}

int session_end(struct session *s, bool done, struct err *e)
{
	if (post_end(s->r, &s->id, done, e) < 0)
		return err_ctx(e, "ending the session");
	return 0;
}

/* An end marker's name up to its hash, which is what a session and its end have in common. */
static int by_session(const void *key, const void *name)
{
	struct object_name n;
	const struct object_name *k = key;
	int c;

	if (!object_name_parse(*(char *const *)name, &n))
		return 1;
	c = memcmp(k->slot.b, n.slot.b, SLOT_BYTES);
	return c ? c : memcmp(k->session.b, n.session.b, SESSION_BYTES);
}

static bool has_ended(const struct name_list *ends, const struct object_name *n)
{
	return ends->n && bsearch(n, ends->p, ends->n, sizeof(*ends->p), by_session);
}

/* Takes out of l what has ended, and s itself. */
static void keep_unfinished(const struct session *s, struct name_list *l, const struct name_list *ends)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct object_name name;

		if (!object_name_parse(l->p[i], &name) || has_ended(ends, &name) ||
		    (session_eq(&name.session, &s->id) && slot_eq(&name.slot, &s->r->own)))
			free(l->p[i]);
		else
			l->p[n++] = l->p[i];
	}
	l->n = n;
}

int session_unfinished(struct session *s, bool all, struct name_list *ret, struct err *e)
{
	const struct slot_id *slot = all ? NULL : &s->r->own;
	struct name_list begun = { 0 }, ends = { 0 };

	if (object_list_of(s->r, OBJECT_SESSION, slot, NULL, &begun, e) < 0)
		return e->code;
	if (object_list_of(s->r, OBJECT_END, slot, NULL, &ends, e) < 0) {
		name_list_free(&begun);
		return e->code;
	}
	keep_unfinished(s, &begun, &ends);
	name_list_free(&ends);
	*ret = begun;
	return 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/*
 * A collector counts a pinned point as live if it finds the pin after the tombstone: what is listed now, after the pin
 * was stored, stays until the session ends.
 */
static void look_again(struct repo *r, const char *const *manifests, size_t n)
{
	struct protocol_view *v = NULL;
	struct err why = ERR_INIT;

	if (protocol_load(r, false, &v, &why) < 0) {
		repo_notice_err(r, &why, "whether what is read was forgotten meanwhile can't be seen");
		return;
	}
	for (size_t i = 0; i < n; i++)
		if (protocol_standing(v, manifests[i], false) != STANDING_LISTED)
			repo_notice(r, "%s: forgotten, or not yet decided about by a prune; one that runs meanwhile "
				       "may interrupt this",
				    manifests[i]);
	protocol_free(v);
}

int read_session_begin(struct repo *r, const char *const *manifests, size_t n, const char *purpose,
		       struct session_id *ret, bool *ret_posted, struct err *e)
{
	CLEANUP(protocol_object_free_cleanup) struct protocol_object *p = calloc(1, sizeof(*p));
	char name[OBJECT_NAME_BYTES];
	struct err why = ERR_INIT;
	int rc;

	if (!p)
		return err_set(e, ERR_NOMEM, "no memory for a session");
	p->type = OBJECT_READING;
	randombytes_buf(p->session.b, SESSION_BYTES);
	p->purpose = strdup(purpose);
	if (!p->purpose)
		return err_set(e, ERR_NOMEM, "no memory for a session");
	for (size_t i = 0; i < n; i++)
		if (name_list_add(&p->points, manifests[i], e) < 0)
			return e->code;
	rc = protocol_put(r, p, name, &why);
	if (rc == ERR_NOMEM || rc == ERR_CANCELLED || rc == ERR_INTERNAL) {
		*e = why;
		return rc;
	}
	if (rc < 0)
		repo_notice_err(r, &why,
				"no read session could be stored, so a prune that runs meanwhile may interrupt this");
	else
		look_again(r, manifests, n);
	*ret = p->session;
	*ret_posted = rc == 0;
	return 0;
}

void read_session_end(struct repo *r, const struct session_id *s, bool posted)
{
	struct err e = ERR_INIT;

	if (posted && post_end(r, s, true, &e) < 0)
		repo_notice_err(r, &e, "the end of the read session could not be stored; its lease will run out");
}
