/* slots_change.c - adding and re-keying key slots (docs/format.md, section 2). */
#include <inttypes.h>
#include <sodium.h>

#include "base/clock.h"
#include "base/text.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

int slot_record_put(struct repo *r, const struct slot_info *s, struct err *e)
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
		rc = object_name_new(r, &n, out.p, out.len, name, e);
	}
	if (rc == 0)
		rc = key_opens(r, &out, secret, role, seed, e);
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
	if (new_header(r, secret, &s.id, o->argon_passes, o->argon_kib, &h, e) < 0 || slot_record_put(r, &s, e) < 0 ||
	    put_key(r, &h, secret, o->role, seed.b, name, e) < 0)
		return e->code;
	*ret = s.id;
	return 0;
}

int slot_need_full(const struct repo *r, const char *what, struct err *e)
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

	if (slot_need_full(r, "adding a key slot", e) < 0 || slot_store(r, secret, o, &id, e) < 0)
		return e->code;
	if (slots_load(r, e) < 0)
		return e->code;
	*ret = id;
	return 0;
}

int slot_remove_objects(struct repo *r, enum object_type type, const struct slot_id *id, const char *but, struct err *e)
{
	struct name_list l;
	int rc = 0;

	if (object_list_of(r, type, id, NULL, &l, e) < 0)
		return e->code;
	for (size_t i = 0; i < l.n && rc == 0; i++) {
		if (but && !strcmp(l.p[i], but))
			continue;
		rc = store_remove(r->store, l.p[i], e);
		if (rc == ERR_NOTFOUND) {
			err_clear(e);
			rc = 0;
		}
	}
	name_list_free(&l);
	/* what is not listed any more may have been removed by a run that died before that was durable */
	return rc < 0 ? rc : object_sync(r, type, id, NULL, e);
}

/* The record names the kind of secret; where that changes, so must the record.  Only a full key can sign one. */
static int update_kind(struct repo *r, const struct secret *secret, struct err *e)
{
	const struct slot_info *own = repo_slot(r, &r->own);
	struct slot_info changed;

	if (!own || own->kind == secret->kind)
		return 0;
	if (slot_need_full(r, "changing the kind of a key slot's secret", e) < 0)
		return e->code;
	changed = *own;			/* borrows label and vms */
	changed.kind = secret->kind;
	changed.serial++;
	changed.time_ns = clock_wall_ns();
	return slot_record_put(r, &changed, e);
}

int repo_slot_passwd(struct repo *r, const struct secret *secret, struct err *e)
{
	char name[OBJECT_NAME_BYTES];
	struct key_header h;

	if (new_header(r, secret, &r->own, 0, 0, &h, e) < 0 || update_kind(r, secret, e) < 0 ||
	    put_key(r, &h, secret, r->keys->role, r->keys->slot_seed, name, e) < 0 ||
	    slot_remove_objects(r, OBJECT_KEY, &r->own, name, e) < 0)
		return e->code;
	memcpy(r->key_name, name, sizeof(name));
	return slots_load(r, e);
}
