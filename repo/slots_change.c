/* slots_change.c - adding and re-keying key slots (docs/format.md, section 2). */
#include <sodium.h>

#include "base/clock.h"
#include "base/text.h"
#include "repo/protocol_internal.h"
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

static bool is_removed(const struct slot_list *records)
{
	return records->n && records->p[0].removed;
}

/*
 * Who removes a slot marks its record and then lists its key objects.  So whoever has put one looks at the record after
 * that: one of the two sees what the other did.
 */
static int check_stays(struct repo *r, const struct slot_id *id, struct err *e)
{
	struct slot_list l = { 0 };
	char hex[2 * SLOT_BYTES + 1];
	int rc;

	if (protocol_settle(r, e) < 0 || slot_records_read(r, id, &l, e) < 0)
		return e->code;
	rc = is_removed(&l);
	slot_list_free(&l);
	if (rc == 0)
		return 0;
	if (slot_remove_objects(r, OBJECT_KEY, id, e) < 0)
		return e->code;
	return err_set(e, ERR_AUTH, "key slot %s was removed meanwhile", text_hex(id->b, SLOT_BYTES, hex));
}

int repo_slot_add(struct repo *r, const struct secret *secret, const struct slot_new_opts *o, struct slot_id *ret,
		  struct err *e)
{
	struct slot_id id;

	if (slot_need_full(r, "adding a key slot", e) < 0 || slot_store(r, secret, o, &id, e) < 0 ||
	    check_stays(r, &id, e) < 0 || slots_load(r, e) < 0)
		return e->code;
	*ret = id;
	return 0;
}

static int remove_names(struct repo *r, const struct name_list *l, struct err *e)
{
	for (size_t i = 0; i < l->n; i++)
		if (object_remove(r, l->p[i], e) < 0)
			return e->code;
	return 0;
}

int slot_remove_objects(struct repo *r, enum object_type type, const struct slot_id *id, struct err *e)
{
	struct name_list l;
	int rc;

	if (object_list_of(r, type, id, NULL, &l, e) < 0)
		return e->code;
	rc = remove_names(r, &l, e);
	name_list_free(&l);
	/* what is not listed any more may have been removed by a run that died before that was durable */
	return rc < 0 ? rc : object_sync(r, type, id, NULL, e);
}

/* The record names the kind of secret; where that changes, so must the record.  Only a full key can sign one. */
static int update_kind(struct repo *r, const struct slot_info *own, const struct secret *secret, struct err *e)
{
	struct slot_info changed = *own;	/* borrows label and vms */

	if (own->kind == secret->kind)
		return 0;
	if (slot_need_full(r, "changing the kind of a key slot's secret", e) < 0)
		return e->code;
	changed.kind = secret->kind;
	changed.serial++;
	changed.time_ns = clock_wall_ns();
	return slot_record_put(r, &changed, e);
}

/* As the record is now, which others may have changed since this repository was opened. */
static int update_record(struct repo *r, const struct secret *secret, struct err *e)
{
	struct slot_list l = { 0 };
	int rc;

	if (slot_records_read(r, &r->own, &l, e) < 0)
		return e->code;
	rc = is_removed(&l) ? err_set(e, ERR_AUTH, "the key slot in use has been removed") :
	     l.n	    ? update_kind(r, &l.p[0], secret, e) : 0;
	slot_list_free(&l);
	return rc;
}

/* The printed key would open nothing any more, and nothing makes another. */
static int refuse_recovery(struct repo *r, const struct name_list *own, struct err *e)
{
	struct key_header h;

	for (size_t i = 0; i < own->n; i++) {
		if (key_object_look(r, own->p[i], &h, e) < 0) {
			if (e->code != ERR_NOTFOUND && e->code != ERR_CORRUPT && e->code != ERR_UNSUPPORTED)
				return e->code;
			err_clear(e);
			continue;
		}
		if (h.kind != SECRET_RECOVERY)
			continue;
		err_set(e, ERR_INVALID, "the repository was opened with the recovery key, whose secret can't be changed");
		return err_hint(e, "`kedge key add` gives a new passphrase; `kedge key remove SLOT` takes a forgotten one "
				   "away");
	}
	return 0;
}

/* The objects to go are listed before the new one is put: the one that is put last of all is in nobody's list, so that
 * one stays however many change the secret at once. */
int repo_slot_passwd(struct repo *r, const struct secret *secret, struct err *e)
{
	char name[OBJECT_NAME_BYTES];
	struct name_list old;
	struct key_header h;
	int rc;

	if (object_list_of(r, OBJECT_KEY, &r->own, NULL, &old, e) < 0)
		return e->code;
	rc = refuse_recovery(r, &old, e);
	name_list_free(&old);
	if (rc < 0 || new_header(r, secret, &r->own, 0, 0, &h, e) < 0 || update_record(r, secret, e) < 0 ||
	    object_list_of(r, OBJECT_KEY, &r->own, NULL, &old, e) < 0)
		return e->code;
	rc = put_key(r, &h, secret, r->keys->role, r->keys->slot_seed, name, e);
	if (rc == 0)
		rc = check_stays(r, &r->own, e);
	if (rc == 0)
		rc = remove_names(r, &old, e);
	name_list_free(&old);
	if (rc < 0 || object_sync(r, OBJECT_KEY, &r->own, NULL, e) < 0)
		return e->code;
	return slots_load(r, e);
}
