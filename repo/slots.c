/* slots.c - key slots: their records, signed by the authority, and adding, removing and re-keying them (docs/format.md,
 * section 2). */
#include <inttypes.h>
#include <sodium.h>

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
	*l = (struct slot_list){ 0 };
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
		repo_notice_err(r, e, "key slot record ignored");
	else if (rc != ERR_NOTFOUND)	/* it may be removed while we list */
		return rc;
	err_clear(e);
	return 0;
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

int repo_slots(struct repo *r, struct slot_list *ret, struct err *e)
{
	struct slot_list l = { 0 };

	if (read_records(r, &l, e) < 0)
		return e->code;
	if (mark_present(r, &l, e) < 0) {
		slot_list_free(&l);
		return e->code;
	}
	*ret = l;
	return 0;
}

/* --- changing them ------------------------------------------------------------------------------------------------ */

static int put_record(struct repo *r, const struct slot_info *s, struct err *e)
{
	struct object_name n = { .type = OBJECT_SLOT, .slot = s->id };
	CLEANUP(free_ptr) char *json = NULL, *same = NULL;
	struct outgoing o;
	struct buf out;
	size_t len, same_len;
	int rc;

	if (slot_record_encode(s, &json, &len, e) < 0 || slot_record_encode(s, &same, &same_len, e) < 0)
		return e->code;
	buf_init(&out, ENVELOPE_MAX_BYTES);
	rc = envelope_seal(r, OBJECT_SLOT, json, len, &out, e);
	if (rc == 0)
		rc = object_outgoing(r, &n, &out, same, same_len, &o, e);
	if (rc == 0)
		rc = object_send(r, &o, &out, e);
	buf_done(&out);
	return rc;
}

/* A key object that does not open with its secret, or holds other keys, is worse than none. */
static int key_opens(struct repo *r, const struct buf *sealed, const struct secret *secret, enum slot_role role,
		     const uint8_t seed[32], struct err *e)
{
	CLEANUP(guarded_free) uint8_t *is = NULL, *want = NULL;
	CLEANUP(keyring_free_cleanup) struct keyring *k = NULL;
	size_t len, want_len;

	if (key_object_open(sealed->p, sealed->len, secret, &k, e) < 0) {
		if (e->code == ERR_NOMEM)
			return e->code;
		err_clear(e);
		return sum_error(e, "a key object");
	}
	if (keyring_encode(k, role, k->slot_seed, &is, &len, e) < 0 ||
	    keyring_encode(r->keys, role, seed, &want, &want_len, e) < 0)
		return e->code;
	return len == want_len && !sodium_memcmp(is, want, len) ? 0 : sum_error(e, "a key object");
}

static int put_key(struct repo *r, const struct key_header *h, const struct secret *secret, enum slot_role role,
		   const uint8_t seed[32], char name[static OBJECT_NAME_BYTES], struct err *e)
{
	struct object_name n = { .type = OBJECT_KEY, .slot = h->slot };
	CLEANUP(guarded_free) uint8_t *payload = NULL;
	struct sum sum;
	struct buf out;
	size_t len;
	int rc;

	if (keyring_encode(r->keys, role, seed, &payload, &len, e) < 0)
		return e->code;
	buf_init(&out, KEY_OBJECT_MAX);
	rc = key_object_seal(h, secret, payload, len, &out, e);
	if (rc == 0) {
		sum = sum_of(out.p, out.len);
		hash_bytes(out.p, out.len, &n.hash);
		object_name_text(&n, name);
		rc = key_opens(r, &out, secret, role, seed, e);
	}
	if (rc == 0)
		rc = sum_check(out.p, out.len, &sum, "a key object", e);
	if (rc == 0)
		rc = store_put(r->store, name, out.p, out.len, 0, e);
	if (rc == 0)
		rc = sum_check(out.p, out.len, &sum, "a key object that was being stored", e);
	buf_done(&out);
	return rc;
}

static int new_header(const struct repo *r, const struct secret *secret, const struct slot_id *slot, uint32_t passes,
		      uint32_t kib, struct key_header *ret, struct err *e)
{
	struct key_header h = { .kind = secret->kind, .slot = *slot };

	if (secret->kind == SECRET_PASSPHRASE) {
		h.argon_passes = passes ? passes : ARGON_PASSES_DEFAULT;
		h.argon_kib = kib ? kib : ARGON_KIB_DEFAULT;
		if (h.argon_passes > ARGON_PASSES_MAX || h.argon_kib < ARGON_KIB_MIN || h.argon_kib > ARGON_KIB_MAX)
			return err_set(e, ERR_INVALID, "Argon2id takes 1 to %u passes over %u to %u KiB",
				       ARGON_PASSES_MAX, ARGON_KIB_MIN, ARGON_KIB_MAX);
	}
	memcpy(h.cipher_id, r->cfg.cipher_id, CIPHER_ID_BYTES);
	randombytes_buf(h.salt, SALT_BYTES);
	*ret = h;
	return 0;
}

static int check_vms(const char *const *vms, struct err *e)
{
	for (size_t i = 0; vms && vms[i]; i++)
		if (!text_is_name(vms[i]))
			return err_set(e, ERR_INVALID, "\"%s\" is not a VM's name", vms[i]);
	return 0;
}

int slot_store(struct repo *r, const struct secret *secret, const struct slot_new_opts *o, struct slot_id *ret,
	       struct err *e)
{
	CLEANUP(wiped_key_done) struct wiped_key seed = { 0 };
	uint8_t secret_key[64];
	struct slot_info s = { .role = o->role, .kind = secret->kind, .trusted = o->trusted, .serial = 1 };
	char name[OBJECT_NAME_BYTES];
	struct key_header h;

	if (check_vms(o->vms, e) < 0)
		return e->code;
	do {
		randombytes_buf(s.id.b, SLOT_BYTES);
	} while (sodium_is_zero(s.id.b, SLOT_BYTES));	/* zero is the authority */
	randombytes_buf(seed.b, 32);
	crypto_sign_seed_keypair(s.sign_public, secret_key, seed.b);
	sodium_memzero(secret_key, sizeof(secret_key));
	/* Borrowed: encoding only reads them. */
	s.label = (char *)(uintptr_t)(o->label ? o->label : "");
	s.vms = (char **)(uintptr_t)o->vms;
	s.time_ns = clock_wall_ns();
	if (new_header(r, secret, &s.id, o->argon_passes, o->argon_kib, &h, e) < 0 || put_record(r, &s, e) < 0 ||
	    put_key(r, &h, secret, o->role, seed.b, name, e) < 0)
		return e->code;
	*ret = s.id;
	return 0;
}

static int need_full(const struct repo *r, const char *what, struct err *e)
{
	if (r->keys->role == ROLE_FULL)
		return 0;
	err_set(e, ERR_AUTH, "%s needs a full key; the one in use is a %s key", what, slot_role_name(r->keys->role));
	return err_hint(e, "open the repository with the password or recovery key of a full slot");
}

int repo_slot_add(struct repo *r, const struct secret *secret, const struct slot_new_opts *o, struct slot_id *ret,
		  struct err *e)
{
	struct slot_id id;

	if (need_full(r, "adding a key slot", e) < 0 || slot_store(r, secret, o, &id, e) < 0)
		return e->code;
	if (slots_load(r, e) < 0)
		return e->code;
	*ret = id;
	return 0;
}

static bool opens_fully(const struct slot_info *s)
{
	return s->role == ROLE_FULL && !s->removed && s->present && s->kind != SECRET_RECOVERY;
}

static int check_removal(const struct repo *r, const struct slot_list *l, const struct slot_info *s, bool force,
			 struct err *e)
{
	size_t others = 0;

	if (force)
		return 0;
	for (size_t i = 0; i < l->n; i++)
		others += &l->p[i] != s && opens_fully(&l->p[i]);
	if (opens_fully(s) && others == 0) {
		err_set(e, ERR_INVALID, "this is the last full key slot but for recovery keys");
		return err_hint(e, "add another with `kedge key add` first, or use --force");
	}
	if (slot_eq(&s->id, &r->own)) {
		err_set(e, ERR_INVALID, "this is the key slot that opened the repository now");
		return err_hint(e, "open it with another key to remove this one, or use --force");
	}
	return 0;
}

static int remove_keys_of(struct repo *r, const struct slot_id *id, const char *but, struct err *e)
{
	struct name_list keys;
	int rc = 0;

	if (object_list_of(r, OBJECT_KEY, id, NULL, &keys, e) < 0)
		return e->code;
	for (size_t i = 0; i < keys.n && rc == 0; i++) {
		if (but && !strcmp(keys.p[i], but))
			continue;
		rc = store_remove(r->store, keys.p[i], e);
		if (rc == ERR_NOTFOUND) {
			err_clear(e);
			rc = 0;
		}
	}
	name_list_free(&keys);
	/* what is not listed any more may have been removed by a run that died before that was durable */
	return rc < 0 ? rc : object_sync(r, OBJECT_KEY, id, NULL, e);
}

int repo_slot_remove(struct repo *r, const struct slot_id *id, bool force, struct err *e)
{
	char hex[2 * SLOT_BYTES + 1];
	struct slot_list l = { 0 };
	struct slot_info *s = NULL;
	int rc = need_full(r, "removing a key slot", e);

	if (rc == 0)
		rc = repo_slots(r, &l, e);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < l.n && !s; i++)
		if (slot_eq(&l.p[i].id, id))
			s = &l.p[i];
	if (!s)
		rc = err_set(e, ERR_NOTFOUND, "there is no key slot %s", text_hex(id->b, SLOT_BYTES, hex));
	else
		rc = check_removal(r, &l, s, force, e);
	if (rc == 0 && !s->removed) {	/* else an earlier removal was interrupted: only the key object is left to go */
		s->removed = true;
		s->serial++;
		s->time_ns = clock_wall_ns();
		rc = put_record(r, s, e);
	} else if (rc == 0) {
		rc = object_sync(r, OBJECT_SLOT, id, NULL, e);
	}
	if (rc == 0)
		rc = remove_keys_of(r, id, NULL, e);
	if (rc == 0)
		rc = slots_load(r, e);
	slot_list_free(&l);
	return rc;
}

/* The record names the kind of secret; where that changes, so must the record.  Only a full key can sign one. */
static int update_kind(struct repo *r, const struct secret *secret, struct err *e)
{
	const struct slot_info *own = repo_slot(r, &r->own);
	struct slot_info changed;

	if (!own || own->kind == secret->kind)
		return 0;
	if (need_full(r, "changing the kind of a key slot's secret", e) < 0)
		return e->code;
	changed = *own;			/* borrows label and vms */
	changed.kind = secret->kind;
	changed.serial++;
	changed.time_ns = clock_wall_ns();
	return put_record(r, &changed, e);
}

int repo_slot_passwd(struct repo *r, const struct secret *secret, struct err *e)
{
	char name[OBJECT_NAME_BYTES];
	struct key_header h;

	if (new_header(r, secret, &r->own, 0, 0, &h, e) < 0 || update_kind(r, secret, e) < 0 ||
	    put_key(r, &h, secret, r->keys->role, r->keys->slot_seed, name, e) < 0 ||
	    remove_keys_of(r, &r->own, name, e) < 0)
		return e->code;
	memcpy(r->key_name, name, sizeof(name));
	return slots_load(r, e);
}
