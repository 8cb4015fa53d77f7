/*
 * check_objects.c - every object that is no pack and no key slot's, whole: its hash, its seal, who signed it, what it
 * says; and what the others show to be missing.
 *
 * Sessions tie the objects of a run together, so they tell of which VM a damaged manifest was, and that a backup or
 * an index run is gone.  What is written later is listed earlier: an end marker follows a manifest, which follows its
 * session.  So what runs meanwhile is not taken for a loss.
 */
#include <inttypes.h>
#include <sodium.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/text.h"
#include "repo/check_internal.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

enum { HAS_SESSION = 1, HAS_MANIFEST = 2, HAS_RUN = 4, HAS_OTHER = 8, HAS_DONE = 16, IS_BACKUP = 32 };

void check_sessions_done(struct check_sessions *l)
{
	for (size_t i = 0; i < l->p.n; i++)
		free(l->p.p[i].vm);
	VEC_DONE(&l->p);
}

static int add_mark(struct check_sessions *l, const struct object_name *n, unsigned has, char *vm, struct err *e)
{
	struct check_session *s = VEC_PUSH(&l->p, e);

	if (!s) {
		free(vm);
		return e->code;
	}
	*s = (struct check_session){ .slot = n->slot, .session = n->session, .has = has, .vm = vm };
	return 0;
}

static int cmp_session(const void *a, const void *b)
{
	const struct check_session *x = a, *y = b;
	int c = memcmp(x->slot.b, y->slot.b, SLOT_BYTES);

	return c ? c : memcmp(x->session.b, y->session.b, SESSION_BYTES);
}

/* One row a session instead of one an object. */
static void merge_marks(struct check_sessions *l)
{
	size_t n = 0;

	if (l->p.n)
		qsort(l->p.p, l->p.n, sizeof(*l->p.p), cmp_session);
	for (size_t i = 0; i < l->p.n; i++) {
		if (n && cmp_session(&l->p.p[n - 1], &l->p.p[i]) == 0) {
			l->p.p[n - 1].has |= l->p.p[i].has;
			if (l->p.p[n - 1].vm)
				free(l->p.p[i].vm);
			else
				l->p.p[n - 1].vm = l->p.p[i].vm;
		} else {
			l->p.p[n++] = l->p.p[i];
		}
	}
	l->p.n = n;
}

static const struct check_session *session_of(const struct check *c, const char *name)
{
	struct object_name n;
	struct check_session key;

	if (!c->sessions.p.n || !object_name_parse(name, &n))
		return NULL;
	key = (struct check_session){ .slot = n.slot, .session = n.session };
	return bsearch(&key, c->sessions.p.p, c->sessions.p.n, sizeof(key), cmp_session);
}

bool check_committed(const struct check *c, const char *name)
{
	const struct check_session *s = session_of(c, name);

	return s && (s->has & HAS_MANIFEST);
}

bool check_has_run(const struct check *c, const char *name)
{
	const struct check_session *s = session_of(c, name);

	return s && (s->has & HAS_RUN);
}

bool check_slot_used(const struct check *c, const struct slot_id *slot)
{
	for (size_t i = 0; i < c->sessions.p.n; i++)
		if (slot_eq(&c->sessions.p.p[i].slot, slot))
			return true;
	return false;
}

/* --- each by itself ----------------------------------------------------------------------------------------------- */

int check_hash_of(struct check *c, const char *name, struct err *e)
{
	return object_compare_hash(c->r, name, c->cancel, e);
}

/* What an object of a protocol type tells about its session goes to the marks. */
static int open_protocol(struct check *c, const char *name, struct check_sessions *marks, struct err *e)
{
	CLEANUP(protocol_object_free_cleanup) struct protocol_object *p = NULL;
	struct object_name n;

	if (protocol_get(c->r, name, &p, e) < 0)
		return e->code;
	if (!object_name_parse(name, &n))
		return err_set(e, ERR_INTERNAL, "\"%s\" is not the name of an object", name);
	if (n.type == OBJECT_SESSION)
		return add_mark(marks, &n, p->kind == SESSION_BACKUP ? IS_BACKUP : 0, STEAL(p->vm), e);
	return n.type == OBJECT_END && p->done ? add_mark(marks, &n, HAS_DONE, NULL, e) : 0;
}

/* Manifests that count are opened when backups are listed, which reports them. */
static int open_object(struct check *c, enum object_type type, const char *name, struct check_sessions *marks,
		       struct err *e)
{
	switch (type) {
	case OBJECT_MANIFEST: {
		enum manifest_standing s = protocol_standing(c->view, name, false);

		return c->has_backups && (s == STANDING_LISTED || s == STANDING_PENDING) ? 0
											 : check_hash_of(c, name, e);
	}
	case OBJECT_RUN_TAIL: case OBJECT_CATALOGUE: case OBJECT_PARITY: case OBJECT_LIKENESS:
		return check_hash_of(c, name, e);
	default:
		return open_protocol(c, name, marks, e);
	}
}

/* Who may not sign this, or signs in a way that this version does not know, has added something: nothing is lost by
 * that. */
int check_unusable(struct check *c, const char *name, struct err *e)
{
	char text[ERR_CTX_BYTES + ERR_CAUSE_BYTES];
	bool foreign = e->code == ERR_AUTH || e->code == ERR_UNSUPPORTED;

	if (check_is_final(e->code))
		return e->code;
	if (e->code == ERR_NOTFOUND) {	/* a collector took it since it was listed */
		err_clear(e);
		return 0;
	}
	snprintf(text, sizeof(text), "%s", e->cause);
	err_clear(e);
	return check_find(c, foreign ? CHECK_WARNING : CHECK_DAMAGE, foreign ? "object-foreign" : "object-damaged",
			  name, e, "%s", text);
}

static unsigned mark_of(enum object_type type)
{
	switch (type) {
	case OBJECT_SESSION: case OBJECT_READING: case OBJECT_COLLECTOR:
		return HAS_SESSION;
	case OBJECT_MANIFEST:
		return HAS_MANIFEST;
	case OBJECT_RUN_TAIL:
		return HAS_RUN;
	case OBJECT_RENEWAL: case OBJECT_END:
		return HAS_OTHER;
	default:
		return 0;
	}
}

static int check_type(struct check *c, enum object_type type, struct check_sessions *marks, struct err *e)
{
	struct progress_state ps = { .phase = "checking objects" };
	struct name_list names;
	struct object_name n;
	int rc = 0;

	if (object_list(c->r, type, &names, e) < 0)
		return e->code;
	ps.total = names.n;
	for (size_t i = 0; i < names.n && rc == 0; i++) {
		ps.done = i;
		ps.what = names.p[i];
		progress_update(c->o.progress, &ps);
		rc = cancel_check(c->cancel, e);
		if (rc == 0 && mark_of(type) && object_name_parse(names.p[i], &n))
			rc = add_mark(marks, &n, mark_of(type), NULL, e);
		if (rc == 0 && open_object(c, type, names.p[i], marks, e) < 0)
			rc = check_unusable(c, names.p[i], e);
	}
	name_list_free(&names);
	return rc;
}

/* --- what the others miss ----------------------------------------------------------------------------------------- */

/* A manifest's VM is sealed in it; the session knows it too. */
static int report_backups(struct check *c, struct err *e)
{
	for (size_t i = 0; i < c->problems.n; i++) {
		const struct check_problem *p = &c->problems.p[i];
		const struct check_session *s = session_of(c, p->object);
		struct check_finding f = {
			.severity = CHECK_DAMAGE, .what = p->what, .text = p->text, .object = p->object};

		f.vm = p->vm ? p->vm : s ? s->vm : NULL;
		if (f.vm)
			f.manifest = p->object;
		if (check_report(c, &f, e) < 0)
			return e->code;
	}
	return 0;
}

/* A tombstone that no restore record undoes explains that the manifest of a session is gone. */
static bool was_forgotten(const struct check *c, const struct check_session *s)
{
	struct object_name n;

	for (size_t i = 0; i < c->view->forgotten.n; i++)
		if (object_name_parse(c->view->forgotten.p[i], &n) && slot_eq(&n.slot, &s->slot) &&
		    session_eq(&n.session, &s->session))
			return true;
	return false;
}

static int judge_session(struct check *c, const struct check_session *s, struct err *e)
{
	char slot[2 * SLOT_BYTES + 1], session[2 * SESSION_BYTES + 1], name[OBJECT_NAME_BYTES];
	struct check_finding f = { .severity = CHECK_DAMAGE, .what = "backup-missing", .object = name,
				   .manifest = name };

	text_hex(s->slot.b, SLOT_BYTES, slot);
	text_hex(s->session.b, SESSION_BYTES, session);
	if (!(s->has & HAS_SESSION)) {
		snprintf(name, sizeof(name), "%s%s/%s/?", object_prefix(OBJECT_SESSION), slot, session);
		return check_find(c, CHECK_WARNING, "session-missing", name, e,
				  "it is not there, and other objects of that session are");
	}
	if ((s->has & (HAS_DONE | IS_BACKUP | HAS_MANIFEST)) != (HAS_DONE | IS_BACKUP) ||
	    protocol_evicted(c->view, &s->slot, &s->session) || was_forgotten(c, s))
		return 0;
	snprintf(name, sizeof(name), "%s%s/%s/?", object_prefix(OBJECT_MANIFEST), slot, session);
	f.vm = s->vm;
	f.text = "its session ended with a backup, which is not there";
	return check_report(c, &f, e);
}

int check_objects(struct check *c, struct err *e)
{
	/* end markers before manifests and runs, sessions last; the order of the others does not matter */
	static const uint8_t types[] = { OBJECT_END, OBJECT_RENEWAL, OBJECT_MANIFEST, OBJECT_RUN_TAIL, OBJECT_READING,
					 OBJECT_COLLECTOR, OBJECT_EPOCH, OBJECT_EVICTION, OBJECT_SWEEP, OBJECT_DOOMED,
					 OBJECT_TOMBSTONE, OBJECT_RESTORE, OBJECT_EXTENSION, OBJECT_CATALOGUE,
					 OBJECT_PARITY, OBJECT_LIKENESS, OBJECT_REMOVAL, OBJECT_SESSION };

	for (size_t i = 0; i < sizeof(types); i++)
		if (check_type(c, types[i], &c->sessions, e) < 0)
			return e->code;
	merge_marks(&c->sessions);
	if (report_backups(c, e) < 0)
		return e->code;
	for (size_t i = 0; i < c->sessions.p.n; i++)
		if (judge_session(c, &c->sessions.p.p[i], e) < 0)
			return e->code;
	return check_slots(c, e);
}
