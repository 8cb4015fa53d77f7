/*
 * slots_look.c - which key slots there are, what opens each, and what interrupted commands left (docs/format.md, 2).
 *
 * Whether a slot opens, and with what sort of secret, its key objects say, not its record: the record's word for the
 * secret is of the time before or after a change of it, and a name in a listing may be all that is left of an object.
 */
#include "base/text.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

#define LISTS 10u	/* of key objects that are being changed all the while */

/* --- key objects -------------------------------------------------------------------------------------------------- */

int key_object_look(struct repo *r, const char *name, struct key_header *ret, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct object_name n;
	struct key_header h;
	struct id hash;
	size_t len;

	if (!object_name_parse(name, &n))
		return err_set(e, ERR_INTERNAL, "\"%s\" is not the name of a key object", name);
	if (store_get(r->store, name, KEY_OBJECT_MAX, &p, &len, e) < 0 || hash_bytes(r, p, len, &hash, e) < 0)
		return e->code;
	if (!id_eq(&hash, &n.hash))
		return err_set(e, ERR_CORRUPT, "its bytes are not those that its name promises");
	if (key_object_parse(p, len, &h, e) < 0)
		return e->code;
	if (!slot_eq(&h.slot, &n.slot))
		return err_set(e, ERR_CORRUPT, "it is the key of another slot than its name says");
	*ret = h;
	return 0;
}

/* Counts one key object.  1: it has gone since it was listed. */
static int mark_key(struct repo *r, struct slot_list *l, const char *name, struct err *e)
{
	struct slot_info *s = NULL;
	struct object_name n;
	struct key_header h;
	int rc;

	for (size_t k = 0; object_name_parse(name, &n) && k < l->n; k++)
		if (slot_eq(&l->p[k].id, &n.slot))
			s = &l->p[k];
	if (!s)
		return 0;
	rc = key_object_look(r, name, &h, e);
	if (rc < 0 && rc != ERR_CORRUPT && rc != ERR_UNSUPPORTED && rc != ERR_NOTFOUND && rc != ERR_IO)
		return rc;
	err_clear(e);		/* what can't be read opens nothing; `kedge check` says why */
	if (rc == ERR_NOTFOUND)
		return 1;
	s->nkeys++;
	if (rc == 0 && !memcmp(h.cipher_id, r->cfg.cipher_id, CIPHER_ID_BYTES))
		s->kinds |= 1u << h.kind;
	return 0;
}

/* What opens each slot.  A slot whose secret is being changed has a key object at any time, but maybe none of those
 * that were listed. */
static int mark_keys(struct repo *r, struct slot_list *l, struct err *e)
{
	int rc = 1;

	for (unsigned i = 0; rc > 0 && i < LISTS; i++) {
		struct name_list keys;

		for (size_t k = 0; k < l->n; k++)
			l->p[k].nkeys = l->p[k].kinds = 0;
		if (object_list(r, OBJECT_KEY, &keys, e) < 0)
			return e->code;
		rc = 0;
		for (size_t k = 0; k < keys.n && rc >= 0; k++) {
			int one = mark_key(r, l, keys.p[k], e);

			rc = one ? one : rc;
		}
		name_list_free(&keys);
	}
	return rc < 0 ? rc : 0;
}

/* --- strays ------------------------------------------------------------------------------------------------------- */

/* All key objects of a repository have its cipher id: one that has another belongs to another. */
static int is_foreign_key(struct repo *r, const char *name, bool *ret, struct err *e)
{
	struct key_header h;
	int rc = key_object_look(r, name, &h, e);

	/* what is gone meanwhile is no obstacle */
	*ret = rc == ERR_NOTFOUND || (rc == 0 && memcmp(h.cipher_id, r->cfg.cipher_id, CIPHER_ID_BYTES) != 0);
	if (rc != 0 && rc != ERR_CORRUPT && rc != ERR_UNSUPPORTED && rc != ERR_NOTFOUND)
		return rc;
	err_clear(e);
	return 0;
}

/* All of a type below the slot's name are another repository's; *ret stays as it is when there are none. */
static int all_foreign(struct repo *r, enum object_type type, const struct slot_id *id, bool *ret, struct err *e)
{
	struct name_list l;
	bool one;
	int rc = 0;

	if (object_list_of(r, type, id, NULL, &l, e) < 0)
		return e->code;
	for (size_t i = 0; i < l.n && rc == 0 && *ret; i++) {
		one = false;
		if (type == OBJECT_KEY)
			rc = is_foreign_key(r, l.p[i], &one, e);
		else if (type == OBJECT_SLOT)
			rc = slot_record_is_foreign(r, l.p[i], &one, e);
		*ret = one;
	}
	name_list_free(&l);
	return rc;
}

/*
 * Nothing that opens here, or was ever used: the slot of an init that never stored its config.  Damage does not look
 * like that: a hash is wrong then, or there are things that the slot signed.
 */
static int judge_stray(struct repo *r, struct slot_stray *s, struct err *e)
{
	s->foreign = true;
	for (int type = OBJECT_KEY; type < OBJECT_TYPE_END && s->foreign; type++)
		if (object_prefix((enum object_type)type) &&
		    all_foreign(r, (enum object_type)type, &s->id, &s->foreign, e) < 0)
			return e->code;
	return 0;
}

/* A record that was put since the records were read: `key add` is at work. */
static int has_record_now(struct repo *r, const struct slot_id *id, bool *ret, struct err *e)
{
	struct slot_list one = { 0 };

	if (slot_records_read(r, id, &one, e) < 0)
		return e->code;
	*ret = one.n > 0;
	slot_list_free(&one);
	return 0;
}

/* The slots of these objects of which there is no record. */
static int add_strays(struct repo *r, const struct name_list *names, struct slot_list *l, struct err *e)
{
	struct object_name n;
	struct slot_stray *p;
	bool has = false;

	for (size_t i = 0; i < names->n; i++) {
		if (!object_name_parse(names->p[i], &n) || slot_list_find(l, &n.slot) || slot_list_stray(l, &n.slot))
			continue;
		if (has_record_now(r, &n.slot, &has, e) < 0)
			return e->code;
		if (has)
			continue;
		p = reallocarray(l->stray, l->nstrays + 1, sizeof(*p));
		if (!p)
			return err_set(e, ERR_NOMEM, "no memory for %zu key slots", l->nstrays + 1);
		l->stray = p;
		p[l->nstrays] = (struct slot_stray){ .id = n.slot };
		if (judge_stray(r, &p[l->nstrays++], e) < 0)
			return e->code;
	}
	return 0;
}

static int find_strays(struct repo *r, const struct name_list *keys, struct slot_list *l, struct err *e)
{
	struct name_list records = { 0 };
	int rc = object_list(r, OBJECT_SLOT, &records, e);

	if (rc == 0)
		rc = add_strays(r, keys, l, e);
	if (rc == 0)
		rc = add_strays(r, &records, l, e);
	name_list_free(&records);
	return rc;
}

/* --- removals ----------------------------------------------------------------------------------------------------- */

static void mark_leaving(const struct protocol_set *removals, struct slot_list *l)
{
	for (size_t i = 0; i < removals->p.n; i++)
		for (size_t k = 0; k < l->n; k++)
			if (slot_eq(&l->p[k].id, &removals->p.p[i]->removes))
				l->p[k].leaving_ns = removals->p.p[i]->time_ns;
}

/* Who may not remove slots can't keep others from it either. */
static bool may_remove(const struct slot_list *l, const char *removal)
{
	const struct slot_info *signer;
	struct object_name n;

	if (!object_name_parse(removal, &n))
		return false;
	signer = slot_list_find(l, &n.slot);
	return !signer || signer->role == ROLE_FULL;
}

/* One that can't be read may be of any slot. */
static int note_unread(const struct protocol_set *removals, struct slot_list *l, struct err *e)
{
	for (size_t i = 0; i < removals->unread.n && !l->unread; i++)
		if (may_remove(l, removals->unread.p[i])) {
			l->unread = text_printf(e, "%s", removals->unread.p[i]);
			if (!l->unread)
				return e->code;
		}
	return 0;
}

/* --- all of it ---------------------------------------------------------------------------------------------------- */

/*
 * A record is stored before its key object, so keys for strays are listed before the records, and whether a slot has
 * one after them.  Who removes a slot says so before the record says that it is removed, and until after that: removals
 * are listed first of all.
 */
int slots_look(struct repo *r, bool strays, struct slot_list *ret, struct err *e)
{
	struct protocol_set removals = { 0 };
	struct name_list keys = { 0 };
	struct slot_list l = { 0 };
	int rc;

	rc = protocol_set_load(r, OBJECT_REMOVAL, &removals, e);
	if (rc == 0 && strays)
		rc = object_list(r, OBJECT_KEY, &keys, e);
	if (rc == 0)
		rc = slot_records_read(r, NULL, &l, e);
	if (rc == 0)
		rc = mark_keys(r, &l, e);
	if (rc == 0 && strays)
		rc = find_strays(r, &keys, &l, e);
	mark_leaving(&removals, &l);
	if (rc == 0)
		rc = note_unread(&removals, &l, e);
	protocol_set_done(&removals);
	name_list_free(&keys);
	if (rc < 0)
		slot_list_free(&l);
	else
		*ret = l;
	return rc;
}

int repo_slots(struct repo *r, struct slot_list *ret, struct err *e)
{
	return slots_look(r, true, ret, e);
}
