/* slots.c - key slots: their records, signed by the authority, and which there are (docs/format.md, section 2). */
#include "base/clock.h"
#include "base/text.h"
#include "repo/json_internal.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

#define VMS_MAX 100000u

static const char *const role_names[] = { "put", "maintain", "full" };
static const char *const kind_names[] = { "passphrase", "keyfile", "recovery" };
static const char *const status_names[] = { "active", "removed" };

const char *slot_role_name(enum slot_role role)
{
	return role >= ROLE_PUT && role <= ROLE_FULL ? role_names[role - 1] : "unknown";
}

void slot_info_done(struct slot_info *s)
{
	for (size_t i = 0; s->vms && s->vms[i]; i++)
		free(s->vms[i]);
	free(s->vms);
	free(s->label);
	*s = (struct slot_info){ 0 };
}

void slot_list_free(struct slot_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		slot_info_done(&l->p[i]);
	free(l->p);
	free(l->stray);
	*l = (struct slot_list){ 0 };
}

const struct slot_info *slot_list_find(const struct slot_list *l, const struct slot_id *id)
{
	for (size_t i = 0; i < l->n; i++)
		if (slot_eq(&l->p[i].id, id))
			return &l->p[i];
	return NULL;
}

const struct slot_stray *slot_list_stray(const struct slot_list *l, const struct slot_id *id)
{
	for (size_t i = 0; i < l->nstrays; i++)
		if (slot_eq(&l->stray[i].id, id))
			return &l->stray[i];
	return NULL;
}

bool slot_may_write(const struct slot_info *s, const char *vm)
{
	if (!s->vms)
		return true;
	for (size_t i = 0; s->vms[i]; i++)
		if (!strcmp(s->vms[i], vm))
			return true;
	return false;
}

/* --- the record as JSON ------------------------------------------------------------------------------------------- */

static json_t *vms_json(char *const *vms)
{
	json_t *a;

	if (!vms)
		return json_null();
	a = json_array();
	for (size_t i = 0; vms[i]; i++)
		js_push(&a, json_string(vms[i]));
	return a;
}

int slot_record_encode(const struct slot_info *s, char **ret, size_t *ret_len, struct err *e)
{
	json_t *o = json_object();

	js_set(&o, "slot", js_new_hex(s->id.b, SLOT_BYTES));
	js_set(&o, "sign", js_new_hex(s->sign_public, sizeof(s->sign_public)));
	js_set(&o, "role", json_string(slot_role_name(s->role)));
	js_set(&o, "label", js_new_text(s->label ? s->label : ""));
	js_set(&o, "kdf", json_string(secret_kind_name(s->kind)));
	js_set(&o, "vms", vms_json(s->vms));
	js_set(&o, "trusted", json_boolean(s->trusted));
	js_set(&o, "status", json_string(status_names[s->removed]));
	js_set(&o, "serial", js_new_uint(s->serial));
	js_set(&o, "time", json_integer(s->time_ns));
	return js_dump(o, ret, ret_len, e);
}

static int vms_decode(const json_t *o, struct slot_info *s, struct err *e)
{
	const json_t *a;
	size_t n;

	if (!js_has(o, "vms"))
		return 0;
	if (js_array(o, "vms", VMS_MAX, &a, e) < 0)
		return e->code;
	n = json_array_size(a);
	s->vms = calloc(n + 1, sizeof(*s->vms));
	if (!s->vms)
		return err_set(e, ERR_NOMEM, "no memory for %zu names", n);
	for (size_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_array_get(a, i));

		if (!name || !text_is_name(name))
			return err_set(e, ERR_CORRUPT, "member \"vms\" has an element that is no VM's name");
		s->vms[i] = strdup(name);
		if (!s->vms[i])
			return err_set(e, ERR_NOMEM, "no memory for %zu names", n);
	}
	return 0;
}

static int record_fields(const json_t *o, struct slot_info *s, struct err *e)
{
	size_t role, kind, status;

	if (js_hex(o, "slot", s->id.b, SLOT_BYTES, e) < 0 ||
	    js_hex(o, "sign", s->sign_public, sizeof(s->sign_public), e) < 0 ||
	    js_choice(o, "role", role_names, 3, &role, e) < 0 || js_text(o, "label", &s->label, e) < 0 ||
	    js_choice(o, "kdf", kind_names, 3, &kind, e) < 0 || vms_decode(o, s, e) < 0 ||
	    js_bool(o, "trusted", &s->trusted, e) < 0 || js_choice(o, "status", status_names, 2, &status, e) < 0 ||
	    js_uint(o, "serial", 0, INT64_MAX - 1, &s->serial, e) < 0 || js_time(o, "time", &s->time_ns, e) < 0)
		return e->code;
	s->role = (enum slot_role)(role + 1);
	s->kind = (enum secret_kind)(kind + 1);
	s->removed = status == 1;
	return 0;
}

int slot_record_decode(const void *json, size_t len, struct slot_info *ret, struct err *e)
{
	CLEANUP(js_decref) json_t *o = NULL;
	struct slot_info s = { 0 };

	if (js_parse(json, len, &o, e) < 0)
		return e->code;
	if (record_fields(o, &s, e) < 0) {
		slot_info_done(&s);
		return e->code;
	}
	*ret = s;
	return 0;
}

/* --- reading them all --------------------------------------------------------------------------------------------- */

/* Of two records the one with the higher serial counts; with equal serials a removal does: what was taken away stays
 * away. */
static bool supersedes(const struct slot_info *a, const struct slot_info *b)
{
	if (a->serial != b->serial)
		return a->serial > b->serial;
	return a->removed && !b->removed;
}

static int keep_newest(struct slot_list *l, struct slot_info *s, struct err *e)
{
	struct slot_info *p;

	for (size_t i = 0; i < l->n; i++) {
		if (!slot_eq(&l->p[i].id, &s->id))
			continue;
		if (supersedes(s, &l->p[i])) {
			slot_info_done(&l->p[i]);
			l->p[i] = *s;
		} else {
			slot_info_done(s);
		}
		return 0;
	}
	p = reallocarray(l->p, l->n + 1, sizeof(*p));
	if (!p) {
		slot_info_done(s);
		return err_set(e, ERR_NOMEM, "no memory for %zu key slots", l->n + 1);
	}
	l->p = p;
	l->p[l->n++] = *s;
	return 0;
}

/* Its bytes are what its name promises, and this repository's keys did not seal them. */
static int is_foreign_record(struct repo *r, const char *name, bool *ret, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *payload = NULL;
	size_t len;
	int rc = object_compare_hash(r, name, r->cancel, e);
	bool whole = rc == 0;

	if (whole)
		rc = object_get(r, name, &payload, &len, NULL, e);
	if (rc < 0 && rc != ERR_CORRUPT && rc != ERR_AUTH && rc != ERR_UNSUPPORTED && rc != ERR_NOTFOUND)
		return rc;
	err_clear(e);
	*ret = rc == ERR_NOTFOUND || (whole && rc == ERR_CORRUPT);	/* what is gone meanwhile is no obstacle */
	return 0;
}

/* Records are read again and again; that they are foreign is said when they are read first. */
static bool told_foreign(struct repo *r)
{
	bool told;

	pthread_mutex_lock(&r->lock);
	told = r->slots_loaded > 0;
	pthread_mutex_unlock(&r->lock);
	return told;
}

/* What is wrong with a record, and what to do about it. */
static int ignore_record(struct repo *r, const char *name, struct err *e)
{
	char slot[2 * SLOT_BYTES + 1];
	struct err why = ERR_INIT;
	struct object_name n;
	bool foreign = false;

	if (e->code == ERR_CORRUPT && is_foreign_record(r, name, &foreign, &why) < 0) {
		*e = why;
		return e->code;
	}
	if (foreign && told_foreign(r))
		return 0;
	if (foreign && object_name_parse(name, &n))
		repo_notice(r, "%s: key slot record ignored: it is of another repository, as an interrupted init leaves "
			       "it; `kedge key remove %s` takes it away if so", name, text_hex(n.slot.b, SLOT_BYTES, slot));
	else
		repo_notice_err(r, e, "key slot record ignored");
	return 0;
}

/* One record; what must not count is reported and left out. */
static int read_record(struct repo *r, const char *name, struct slot_list *l, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *payload = NULL;
	struct slot_info s = { 0 };
	struct object_name n;
	size_t len;
	int rc;

	rc = object_get(r, name, &payload, &len, NULL, e);
	if (rc == 0) {
		rc = slot_record_decode(payload, len, &s, e);
		if (rc == 0 && object_name_parse(name, &n) && !slot_eq(&n.slot, &s.id)) {
			slot_info_done(&s);
			rc = err_set(e, ERR_CORRUPT, "it is the record of another slot than its name says");
		}
		if (rc < 0)
			err_ctx(e, "%s: %s", r->store->location, name);
	}
	if (rc == 0)
		return keep_newest(l, &s, e);
	if (rc == ERR_CORRUPT || rc == ERR_AUTH || rc == ERR_UNSUPPORTED)
		rc = ignore_record(r, name, e);
	else if (rc == ERR_NOTFOUND)	/* it may be removed while we list */
		rc = 0;
	if (rc == 0)
		err_clear(e);
	return rc;
}

static int read_records(struct repo *r, struct slot_list *ret, struct err *e)
{
	struct slot_list l = { 0 };
	struct name_list names;
	int rc = 0;

	if (object_list(r, OBJECT_SLOT, &names, e) < 0)
		return e->code;
	for (size_t i = 0; i < names.n && rc == 0; i++) {
		rc = cancel_check(r->cancel, e);
		if (rc == 0)
			rc = read_record(r, names.p[i], &l, e);
	}
	name_list_free(&names);
	if (rc < 0)
		slot_list_free(&l);
	else
		*ret = l;
	return rc;
}

static bool same_record(const struct slot_info *a, const struct slot_info *b)
{
	return a->serial == b->serial && a->removed == b->removed &&
	       !memcmp(a->sign_public, b->sign_public, sizeof(a->sign_public));
}

/* Takes over one record; what repo_slot gave out before stays valid until repo_close. */
static int adopt(struct repo *r, struct slot_info *s, struct err *e)
{
	struct slot_info *copy = malloc(sizeof(*copy)), **place = NULL, **old;

	if (!copy)
		return err_set(e, ERR_NOMEM, "no memory for a key slot");
	for (size_t i = 0; i < r->slots.p.n && !place; i++)
		if (slot_eq(&r->slots.p.p[i]->id, &s->id))
			place = &r->slots.p.p[i];
	if (place && (same_record(*place, s) || supersedes(*place, s))) {
		free(copy);
		return 0;
	}
	old = place ? VEC_PUSH(&r->slots.old, e) : NULL;
	if (place && old)
		*old = *place;
	else if (!place)
		place = VEC_PUSH(&r->slots.p, e);
	else
		place = NULL;
	if (!place) {
		free(copy);
		return e->code;
	}
	*copy = *s;
	*s = (struct slot_info){ 0 };
	*place = copy;
	return 0;
}

int slots_load(struct repo *r, struct err *e)
{
	struct slot_list l = { 0 };
	int rc = 0;

	if (read_records(r, &l, e) < 0)
		return e->code;
	pthread_mutex_lock(&r->lock);
	r->slots_loaded = clock_mono();
	for (size_t i = 0; i < l.n && rc == 0; i++)
		rc = adopt(r, &l.p[i], e);
	pthread_mutex_unlock(&r->lock);
	slot_list_free(&l);
	return rc;
}

/* --- which there are ---------------------------------------------------------------------------------------------- */

/* Which slots have a key object. */
static int mark_present(struct repo *r, struct slot_list *l, struct err *e)
{
	struct name_list keys;
	struct object_name n;

	if (object_list(r, OBJECT_KEY, &keys, e) < 0)
		return e->code;
	for (size_t i = 0; i < keys.n; i++)
		for (size_t k = 0; object_name_parse(keys.p[i], &n) && k < l->n; k++)
			if (slot_eq(&l->p[k].id, &n.slot))
				l->p[k].present = true;
	name_list_free(&keys);
	return 0;
}

/* All key objects of a repository have its cipher id: one that has another belongs to another. */
static int is_foreign_key(struct repo *r, const char *name, bool *ret, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct key_header h;
	size_t len;
	int rc = object_compare_hash(r, name, r->cancel, e);

	if (rc == 0)
		rc = store_get(r->store, name, KEY_OBJECT_MAX, &p, &len, e);
	if (rc == 0)
		rc = key_object_parse(p, len, &h, e);
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
			rc = is_foreign_record(r, l.p[i], &one, e);
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
		if (object_prefix((enum object_type)type) && all_foreign(r, (enum object_type)type, &s->id, &s->foreign, e) < 0)
			return e->code;
	return 0;
}

/* The slots of these objects of which there is no record. */
static int add_strays(struct repo *r, const struct name_list *names, struct slot_list *l, struct err *e)
{
	struct object_name n;
	struct slot_stray *p;

	for (size_t i = 0; i < names->n; i++) {
		if (!object_name_parse(names->p[i], &n) || slot_list_find(l, &n.slot) || slot_list_stray(l, &n.slot))
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

static void mark_leaving(const struct protocol_set *removals, struct slot_list *l)
{
	for (size_t i = 0; i < removals->p.n; i++)
		for (size_t k = 0; k < l->n; k++)
			if (slot_eq(&l->p[k].id, &removals->p.p[i]->removes) && !l->p[k].removed)
				l->p[k].leaving_ns = removals->p.p[i]->time_ns;
}

/*
 * A record is stored before its key object, so keys for strays are listed before the records, and whether a slot has one
 * after them.  Who removes a slot says so before the record says that it is removed, and until after that: removals are
 * listed first of all.
 */
int repo_slots(struct repo *r, struct slot_list *ret, struct err *e)
{
	struct name_list keys = { 0 }, records = { 0 };
	struct protocol_set removals = { 0 };
	struct slot_list l = { 0 };
	int rc;

	rc = protocol_set_load(r, OBJECT_REMOVAL, &removals, e);
	if (rc == 0)
		rc = object_list(r, OBJECT_KEY, &keys, e);
	if (rc == 0)
		rc = object_list(r, OBJECT_SLOT, &records, e);
	if (rc == 0)
		rc = read_records(r, &l, e);
	if (rc == 0)
		rc = mark_present(r, &l, e);
	if (rc == 0)
		rc = add_strays(r, &keys, &l, e);
	if (rc == 0)
		rc = add_strays(r, &records, &l, e);
	mark_leaving(&removals, &l);
	protocol_set_done(&removals);
	name_list_free(&keys);
	name_list_free(&records);
	if (rc < 0)
		slot_list_free(&l);
	else
		*ret = l;
	return rc;
}
