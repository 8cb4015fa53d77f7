/* slots.c - key slots: their records, signed by the authority (docs/format.md, section 2). */
#include "base/clock.h"
#include "base/num.h"
#include "base/text.h"
#include "repo/json_internal.h"
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
	free(l->unread);
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

/* What was taken away stays away: who changes a record while another removes the slot may not know of that yet. */
static bool supersedes(const struct slot_info *a, const struct slot_info *b)
{
	return a->removed == b->removed ? a->serial > b->serial : a->removed;
}

static int keep_newest(struct slot_list *l, struct slot_info *s, struct err *e)
{
	struct slot_info *p;

	for (size_t i = 0; i < l->n; i++) {
		uint64_t serial = max_u64(l->p[i].serial, s->serial);

		if (!slot_eq(&l->p[i].id, &s->id))
			continue;
		if (supersedes(s, &l->p[i])) {
			slot_info_done(&l->p[i]);
			l->p[i] = *s;
		} else {
			slot_info_done(s);
		}
		l->p[i].serial = serial;	/* none that was seen may seem to be lost */
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

int slot_record_is_foreign(struct repo *r, const char *name, bool *ret, struct err *e)
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

	if (e->code == ERR_CORRUPT && slot_record_is_foreign(r, name, &foreign, &why) < 0) {
		*e = why;
		return e->code;
	}
	if (foreign && told_foreign(r))
		return 0;
	if (foreign && object_name_parse(name, &n))
		repo_notice(r, "%s: key slot record ignored: it is of another repository, as an interrupted init "
			       "leaves it; `kedge key remove %s` takes it away if so",
			    name, text_hex(n.slot.b, SLOT_BYTES, slot));
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

int slot_records_read(struct repo *r, const struct slot_id *id, struct slot_list *ret, struct err *e)
{
	struct slot_list l = { 0 };
	struct name_list names;
	int rc = 0;

	if (object_list_of(r, OBJECT_SLOT, id, NULL, &names, e) < 0)
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

	if (slot_records_read(r, NULL, &l, e) < 0)
		return e->code;
	pthread_mutex_lock(&r->lock);
	r->slots_loaded = clock_mono();
	for (size_t i = 0; i < l.n && rc == 0; i++)
		rc = adopt(r, &l.p[i], e);
	pthread_mutex_unlock(&r->lock);
	slot_list_free(&l);
	return rc;
}
