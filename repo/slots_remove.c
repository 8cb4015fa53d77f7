/*
 * slots_remove.c - removing key slots (docs/format.md, sections 2.2 and 10; docs/design.md, 7: K1 to K6).
 *
 * Two who each remove the other's slot must not both succeed: nobody could open the repository fully any more.  So each
 * says what it is about to remove before it looks whether another full slot stays.  Of any number who do so, the one
 * who said it last sees all the others, and goes on only if a slot stays that none of them is about to remove.
 */
#include <sodium.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

#define LOOKS 25u		/* for the others to give up */
#define PAUSE_US 200000u

struct removing {
	struct repo *r;
	struct slot_id id;
	bool force;
	struct session_id session;		/* of what it says */
	char intent[OBJECT_NAME_BYTES];		/* what it said, "" = nothing */
	int64_t said_ns;			/* when it said it, by either clock */
	double said;
	struct slot_list l;
};

static bool is_full(const struct slot_info *s) { return s->role == ROLE_FULL && !s->removed; }

/* It opens everything, with a secret that people have, as far as is known. */
static bool is_usable(const struct slot_info *s)
{
	return is_full(s) && (s->kinds & ~(1u << SECRET_RECOVERY));
}

/* Removing it may take away what is_usable: also what was damaged may be brought back. */
static bool is_precious(const struct slot_info *s)
{
	return is_usable(s) || (is_full(s) && s->nkeys && s->kind != SECRET_RECOVERY);
}

/* What else opens fully: slots that nobody is about to remove, those that somebody is, and the least of these. */
struct others {
	size_t staying, leaving;
	const struct slot_info *least;
};

static struct others others_of(const struct removing *m)
{
	struct others o = { 0 };

	for (size_t i = 0; i < m->l.n; i++) {
		const struct slot_info *s = &m->l.p[i];

		if (slot_eq(&s->id, &m->id) || !is_usable(s))
			continue;
		o.staying += !s->leaving_ns;
		o.leaving += s->leaving_ns != 0;
		if (s->leaving_ns && (!o.least || memcmp(s->id.b, o.least->id.b, SLOT_BYTES) < 0))
			o.least = s;
	}
	return o;
}

static int look(struct removing *m, bool strays, struct err *e)
{
	slot_list_free(&m->l);
	return slots_look(m->r, strays, &m->l, e);
}

static struct slot_info *own_copy(struct removing *m)
{
	const struct slot_info *s = slot_list_find(&m->l, &m->id);

	return s ? &m->l.p[s - m->l.p] : NULL;
}

/* --- saying so ---------------------------------------------------------------------------------------------------- */

static int say(struct removing *m, struct err *e)
{
	struct protocol_object p = { .type = OBJECT_REMOVAL, .removes = m->id };

	m->said_ns = clock_wall_ns();
	m->said = clock_mono();
	randombytes_buf(m->session.b, SESSION_BYTES);
	p.session = m->session;
	return protocol_put(m->r, &p, m->intent, e);
}

/*
 * What can't be taken back keeps others from removing slots until `key keep`; nothing else.  By its session, because
 * the store may have it although the put failed.
 */
static void take_back(struct removing *m)
{
	struct err e = ERR_INIT;
	struct name_list l;
	int rc = object_list_of(m->r, OBJECT_REMOVAL, &m->r->own, &m->session, &l, &e);

	if (rc == 0) {
		for (size_t i = 0; i < l.n && rc == 0; i++)
			rc = object_remove(m->r, l.p[i], &e);
		name_list_free(&l);
	}
	if (rc < 0)
		repo_notice_err(m->r, &e, "that this removal was given up could not be stored; `kedge key keep` does "
					  "that");
}

/* Whatever was said of the slot by anybody. */
static int unsay_all(struct repo *r, const struct slot_id *id, struct err *e)
{
	struct protocol_set said;
	int rc = 0;

	if (protocol_set_load(r, OBJECT_REMOVAL, &said, e) < 0)
		return e->code;
	for (size_t i = 0; i < said.p.n && rc == 0; i++)
		if (slot_eq(&said.p.p[i]->removes, id))
			rc = object_remove(r, said.names.p[i], e);
	protocol_set_done(&said);
	return rc;
}

/* --- may it go? --------------------------------------------------------------------------------------------------- */

static int refuse_last(struct err *e)
{
	err_set(e, ERR_INVALID, "this is the last full key slot but for recovery keys");
	return err_hint(e, "add another with `kedge key add` first, or use --force");
}

static int refuse_now(const struct slot_info *other, struct err *e)
{
	char hex[2 * SLOT_BYTES + 1], when[32];

	text_hex(other->id.b, SLOT_BYTES, hex);
	err_set(e, ERR_TRANSIENT, "the other full key slots are being removed: %s since %s", hex,
		clock_local_text(other->leaving_ns, when));
	return err_hint(e, "run it again when that has ended.  If it was interrupted, `kedge key remove %s` finishes "
			   "it, or `kedge key keep %s` gives it up", hex, hex);
}

static int refuse_unread(const struct removing *m, struct err *e)
{
	err_set(e, ERR_TRANSIENT, "%s: %s: somebody may be removing the other full key slots: this can't be read",
		m->r->store->location, m->l.unread);
	return err_hint(e, "run it again; where it stays so, `kedge check` says why: when nobody removes keys now, "
			   "that file can be deleted, or --force used");
}

/* Before anything is said: what needs no look at others. */
static int check_removal(const struct removing *m, const struct slot_info *s, struct err *e)
{
	struct others o = others_of(m);

	if (m->force)
		return 0;
	if (is_precious(s) && o.staying + o.leaving == 0)
		return refuse_last(e);
	if (slot_eq(&s->id, &m->r->own)) {
		err_set(e, ERR_INVALID, "this is the key slot that opened the repository now");
		return err_hint(e, "open it with another key to remove this one, or use --force");
	}
	return 0;
}

/*
 * Looks until another full slot stays, or this one is none of those of which one must stay.  Of those who block each
 * other the one who removes the least slot gives up at once, the others wait for that: so one of two goes on, unless
 * one has died.
 */
static int await_other(struct removing *m, struct err *e)
{
	unsigned looks = m->r->hasty ? 2 : LOOKS;
	const struct slot_info *s;
	struct others o;

	for (unsigned i = 1;; i++) {
		if (protocol_settle(m->r, e) < 0 || look(m, false, e) < 0)
			return e->code;
		s = own_copy(m);
		if (m->force || !s || !is_precious(s))
			break;
		if (m->l.unread)
			return refuse_unread(m, e);
		o = others_of(m);
		if (o.staying)
			break;
		if (!o.least)
			return refuse_last(e);
		if (i == looks || memcmp(m->id.b, o.least->id.b, SLOT_BYTES) < 0)
			return refuse_now(o.least, e);
		if (!m->r->hasty)
			usleep(PAUSE_US);
		if (cancel_check(m->r->cancel, e) < 0)
			return e->code;
	}
	return 0;
}

static int64_t slow_ns(const struct repo *r) { return r->slow_ns ? r->slow_ns : SLOT_CHANGE_NS; }

/* Who stood still for long may be thought dead by others (repo_slot_keep): gives up in half the time that they wait. */
static int check_haste(const struct removing *m, struct err *e)
{
	double longest = (double)slow_ns(m->r) / 2e9;

	if (clock_mono() - m->said <= longest && (double)(clock_wall_ns() - m->said_ns) / 1e9 <= longest)
		return 0;
	err_set(e, ERR_TRANSIENT, "removing the key slot took so long that others may have thought it was interrupted");
	return err_hint(e, "run it again");
}

/* What we said is gone when another has removed the slot just now; or somebody who thought that we had died has said
 * that it is to be kept. */
static int still_said(struct removing *m, struct err *e)
{
	const struct slot_info *s;
	struct store_stat st;
	int rc = store_stat(m->r->store, m->intent, &st, e);

	if (rc != ERR_NOTFOUND)
		return rc;
	err_clear(e);
	if (look(m, false, e) < 0)
		return e->code;
	s = own_copy(m);
	if (s && s->removed)
		return 0;
	err_set(e, ERR_TRANSIENT, "somebody else decided meanwhile that this key slot is to be kept");
	return err_hint(e, "run it again if it is to go");
}

/* --- removing ----------------------------------------------------------------------------------------------------- */

/* Record first, then key objects: a slot whose key object stays is marked as removed, and does not open. */
static int remove_slot(struct removing *m, struct slot_info *s, struct err *e)
{
	struct repo *r = m->r;

	if (!s->removed) {	/* else an earlier removal was interrupted: only the key object is left to go */
		s->removed = true;
		s->serial++;
		s->time_ns = clock_wall_ns();
		if (slot_record_put(r, s, e) < 0)
			return e->code;
	} else if (object_sync(r, OBJECT_SLOT, &s->id, NULL, e) < 0) {
		return e->code;
	}
	return slot_remove_objects(r, OBJECT_KEY, &s->id, e) < 0 ? e->code : unsay_all(r, &s->id, e);
}

static int remove_known(struct removing *m, struct err *e)
{
	struct slot_info *s = own_copy(m);

	if (check_removal(m, s, e) < 0)
		return e->code;
	/* also a recovery key's: another may be giving it another secret, and rely on that one */
	if (is_full(s)) {
		int rc = say(m, e);

		if (rc == 0)
			rc = await_other(m, e);
		if (rc == 0)
			rc = still_said(m, e);
		if (rc == 0)
			rc = check_haste(m, e);
		s = own_copy(m);	/* of the last look */
		if (rc < 0 || !s)
			take_back(m);
		if (rc < 0)
			return rc;
	}
	return s ? remove_slot(m, s, e) : err_set(e, ERR_CORRUPT, "its record can't be read any more");
}

static int remove_stray(struct repo *r, const struct slot_stray *s, bool force, struct err *e)
{
	char hex[2 * SLOT_BYTES + 1];

	if (s->foreign)		/* the record last: it is what is complained about */
		return slot_remove_objects(r, OBJECT_KEY, &s->id, e) < 0 ||
		       slot_remove_objects(r, OBJECT_SLOT, &s->id, e) < 0 ? e->code : 0;
	if (force)
		return slot_remove_objects(r, OBJECT_KEY, &s->id, e);
	err_set(e, ERR_INVALID, "the record of key slot %s is missing or damaged", text_hex(s->id.b, SLOT_BYTES, hex));
	return err_hint(e, "what is in the folder slots/%s can be brought back from a copy of the storage; --force "
			   "removes the key object, and the slot never opens again", hex);
}

static int no_such_slot(const struct slot_id *id, struct err *e)
{
	char hex[2 * SLOT_BYTES + 1];

	return err_set(e, ERR_NOTFOUND, "there is no key slot %s", text_hex(id->b, SLOT_BYTES, hex));
}

int repo_slot_remove(struct repo *r, const struct slot_id *id, bool force, struct err *e)
{
	struct removing m = { .r = r, .id = *id, .force = force };
	int rc = slot_need_full(r, "removing a key slot", e);

	if (rc == 0)
		rc = look(&m, true, e);
	if (rc == 0 && slot_list_find(&m.l, id))
		rc = remove_known(&m, e);
	else if (rc == 0 && slot_list_stray(&m.l, id))
		rc = remove_stray(r, slot_list_stray(&m.l, id), force, e);
	else if (rc == 0)
		rc = no_such_slot(id, e);
	if (rc == 0)
		rc = slots_load(r, e);
	slot_list_free(&m.l);
	return rc;
}

/* A clock that is ahead makes it look young, too. */
static int refuse_young(const struct slot_info *s, struct err *e)
{
	char when[32];

	err_set(e, ERR_TRANSIENT, "it is being removed since %s: that may go on", clock_local_text(s->leaving_ns, when));
	return err_hint(e, "an hour after that it counts as interrupted; --force keeps the key at once, when no `kedge key "
			   "remove` runs anywhere: else two keys may go that rely on each other");
}

int repo_slot_keep(struct repo *r, const struct slot_id *id, bool force, struct err *e)
{
	struct removing m = { .r = r, .id = *id };
	const struct slot_info *s;
	int rc = slot_need_full(r, "keeping a key slot", e);

	if (rc == 0)
		rc = look(&m, false, e);
	s = slot_list_find(&m.l, id);
	if (rc == 0 && !s)
		rc = no_such_slot(id, e);
	else if (rc == 0 && s->removed)
		rc = err_set(e, ERR_INVALID, "it has been removed already");
	else if (rc == 0 && !s->leaving_ns)
		rc = err_set(e, ERR_INVALID, "nobody has begun to remove it");
	else if (rc == 0 && !force && clock_wall_ns() - s->leaving_ns < slow_ns(r))
		rc = refuse_young(s, e);
	if (rc == 0)
		rc = unsay_all(r, id, e);
	slot_list_free(&m.l);
	return rc;
}
