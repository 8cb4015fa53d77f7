/*
 * check_slots.c - key slots: records and key objects, each by itself and both together; what interrupted commands left.
 *
 * A record is stored before its key object, and marked as removed before that goes.  So an interrupted `key add` leaves
 * a record alone, an interrupted `key remove` a removed slot's key object, an interrupted `key passwd` two key objects
 * or one that is not of the kind that the record says, and an init that never came to its config slots of a repository
 * that there is not.
 */
#include "base/clock.h"
#include "base/text.h"
#include "repo/check_internal.h"
#include "repo/repo_internal.h"
#include "transport/store.h"


/* --- each by itself ----------------------------------------------------------------------------------------------- */

static int open_key(struct check *c, const char *name, struct err *e)
{
	struct key_header h;

	/* the first counts what was read, and reads large ones piece by piece */
	return check_hash_of(c, name, e) < 0 || key_object_look(c->r, name, &h, e) < 0 ? e->code : 0;
}

static int open_record(struct check *c, const char *name, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *payload = NULL;
	struct slot_info s = { 0 };
	struct object_name n;
	bool same;
	size_t len;

	if (object_get(c->r, name, &payload, &len, NULL, e) < 0 || slot_record_decode(payload, len, &s, e) < 0)
		return e->code;
	same = object_name_parse(name, &n) && slot_eq(&n.slot, &s.id);
	slot_info_done(&s);
	return same ? 0 : err_set(e, ERR_CORRUPT, "it is the record of another slot than its name says");
}

/* The objects of a type, but those of foreign slots, which are told of as a whole. */
static int check_each(struct check *c, enum object_type type, const struct slot_list *l, struct err *e)
{
	const struct slot_stray *s;
	struct name_list names;
	struct object_name n;
	int rc = 0;

	if (object_list(c->r, type, &names, e) < 0)
		return e->code;
	for (size_t i = 0; i < names.n && rc == 0; i++) {
		s = object_name_parse(names.p[i], &n) ? slot_list_stray(l, &n.slot) : NULL;
		if (s && s->foreign)
			continue;
		rc = cancel_check(c->cancel, e);
		if (rc == 0 && (type == OBJECT_KEY ? open_key(c, names.p[i], e) : open_record(c, names.p[i], e)) < 0)
			rc = check_unusable(c, names.p[i], e);
	}
	name_list_free(&names);
	return rc;
}

/* --- together ----------------------------------------------------------------------------------------------------- */

/* Young, it may be under way. */
static enum check_severity unfinished(int64_t since_ns)
{
	return clock_wall_ns() - since_ns < SLOT_CHANGE_NS ? CHECK_INFO : CHECK_WARNING;
}

static int judge_slot(struct check *c, const struct slot_info *s, struct err *e)
{
	char slot[2 * SLOT_BYTES + 1], name[OBJECT_NAME_BYTES];
	bool used = s->kind == SECRET_RECOVERY || check_slot_used(c, &s->id);

	snprintf(name, sizeof(name), "%s%s/?", object_prefix(OBJECT_KEY), text_hex(s->id.b, SLOT_BYTES, slot));
	if (used)
		return check_find(c, CHECK_DAMAGE, "key-missing", name, e,
				  "key slot \"%s\" has no key object, so its secret opens nothing",
				  s->label ? s->label : "");
	return check_find(c, unfinished(s->time_ns), "key-missing", name, e,
			  "key slot \"%s\" has no key object, so its secret opens nothing; an interrupted `kedge key "
			  "add` leaves that, too: `kedge key remove %s` removes it", s->label ? s->label : "", slot);
}

static int judge_removed(struct check *c, const struct slot_info *s, struct err *e)
{
	char slot[2 * SLOT_BYTES + 1], name[OBJECT_NAME_BYTES];

	snprintf(name, sizeof(name), "%s%s/?", object_prefix(OBJECT_KEY), text_hex(s->id.b, SLOT_BYTES, slot));
	return check_find(c, unfinished(s->time_ns), "key-removal-unfinished", name, e,
			  "key slot \"%s\" was removed, and %s still there: `kedge key remove %s` ends that",
			  s->label ? s->label : "", s->nkeys ? "its key object is" : "that it is to be removed is",
			  slot);
}

static int judge_leaving(struct check *c, const struct slot_info *s, struct err *e)
{
	char slot[2 * SLOT_BYTES + 1], name[OBJECT_NAME_BYTES];

	snprintf(name, sizeof(name), "%s%s/?", object_prefix(OBJECT_SLOT), text_hex(s->id.b, SLOT_BYTES, slot));
	return check_find(c, unfinished(s->leaving_ns), "key-removal-begun", name, e,
			  "somebody began to remove key slot \"%s\"; where that was interrupted, `kedge key remove %s` "
			  "ends it and `kedge key keep %s` gives it up", s->label ? s->label : "", slot, slot);
}

/* Old and new secret both open it. */
static int judge_changing(struct check *c, const struct slot_info *s, struct err *e)
{
	char slot[2 * SLOT_BYTES + 1], name[OBJECT_NAME_BYTES];

	snprintf(name, sizeof(name), "%s%s/?", object_prefix(OBJECT_KEY), text_hex(s->id.b, SLOT_BYTES, slot));
	return check_find(c, CHECK_WARNING, "key-change-unfinished", name, e,
			  "key slot \"%s\" has %u key objects: each opens it with another secret, as after an "
			  "interrupted `kedge key passwd`, which ends that when it is run with one of them",
			  s->label ? s->label : "", s->nkeys);
}

static int judge_kind(struct check *c, const struct slot_info *s, struct err *e)
{
	char slot[2 * SLOT_BYTES + 1], name[OBJECT_NAME_BYTES];

	snprintf(name, sizeof(name), "%s%s/?", object_prefix(OBJECT_SLOT), text_hex(s->id.b, SLOT_BYTES, slot));
	return check_find(c, CHECK_WARNING, "key-change-unfinished", name, e,
			  "the record of key slot \"%s\" says that a %s opens it, and its key object is of another "
			  "sort, as after an interrupted `kedge key passwd`: run it again",
			  s->label ? s->label : "", secret_kind_name(s->kind));
}

static int judge_stray(struct check *c, const struct slot_stray *s, struct err *e)
{
	char slot[2 * SLOT_BYTES + 1], name[OBJECT_NAME_BYTES];
	enum object_type type = s->foreign ? OBJECT_SLOT : OBJECT_KEY;

	snprintf(name, sizeof(name), "%s%s/?", object_prefix(type), text_hex(s->id.b, SLOT_BYTES, slot));
	if (s->foreign)
		return check_find(c, CHECK_WARNING, "slot-foreign", name, e,
				  "nothing of this repository is in it; an interrupted init leaves that, and it does "
				  "no harm: `kedge key remove %s` removes it", slot);
	return check_find(c, CHECK_DAMAGE, "slot-record-missing", name, e,
			  "there is no record of its slot: it opens nothing");
}

static bool lacks_key(const struct slot_info *s) { return s && !s->removed && !s->nkeys; }
static bool is_half_gone(const struct slot_info *s) { return s && s->removed && (s->nkeys || s->leaving_ns); }
static bool is_changing(const struct slot_info *s) { return s && !s->removed && s->nkeys > 1; }
static bool differs(const struct slot_info *s) { return s && !s->removed && s->kinds && !(s->kinds >> s->kind & 1); }
static bool is_leaving(const struct slot_info *s) { return s && !s->removed && s->leaving_ns; }

static bool seems_odd(const struct slot_info *s)
{
	return lacks_key(s) || is_half_gone(s) || is_leaving(s) || is_changing(s) || differs(s);
}

static int judge_one(struct check *c, const struct slot_info *s, struct err *e)
{
	int rc = 0;

	if (is_half_gone(s))
		return judge_removed(c, s, e);
	if (lacks_key(s))
		rc = judge_slot(c, s, e);
	if (rc == 0 && is_changing(s))
		rc = judge_changing(c, s, e);
	if (rc == 0 && differs(s))
		rc = judge_kind(c, s, e);
	if (rc == 0 && is_leaving(s))
		rc = judge_leaving(c, s, e);
	return rc;
}

/* Records and key objects are not read at one moment, and others add and remove slots: what seems not to fit is looked
 * at once more. */
static int judge_slots(struct check *c, const struct slot_list *l, struct err *e)
{
	struct slot_list again = { 0 };
	bool looked = false;
	int rc = 0;

	for (size_t i = 0; i < l->n && rc == 0; i++) {
		const struct slot_info *now;

		if (!seems_odd(&l->p[i]))
			continue;
		if (!looked)
			rc = slots_look(c->r, false, &again, e);
		looked = true;
		now = slot_list_find(&again, &l->p[i].id);
		if (rc == 0 && seems_odd(now))
			rc = judge_one(c, now, e);
	}
	slot_list_free(&again);
	return rc;
}

/* Of a stray with a key object; without one the damaged record has been reported. */
static int judge_strays(struct check *c, const struct slot_list *l, struct err *e)
{
	struct name_list keys;
	int rc = 0;

	for (size_t i = 0; i < l->nstrays && rc == 0; i++) {
		size_t n = 1;

		if (!l->stray[i].foreign) {
			rc = object_list_of(c->r, OBJECT_KEY, &l->stray[i].id, NULL, &keys, e);
			n = rc == 0 ? keys.n : 0;
			if (rc == 0)
				name_list_free(&keys);
		}
		if (n)
			rc = judge_stray(c, &l->stray[i], e);
	}
	return rc;
}

int check_slots(struct check *c, struct err *e)
{
	struct slot_list l = { 0 };
	int rc = repo_slots(c->r, &l, e);

	if (rc == 0)
		rc = check_each(c, OBJECT_KEY, &l, e);
	if (rc == 0)
		rc = check_each(c, OBJECT_SLOT, &l, e);
	if (rc == 0)
		rc = judge_slots(c, &l, e);
	if (rc == 0)
		rc = judge_strays(c, &l, e);
	slot_list_free(&l);
	return rc;
}
