/* repo.c - making and opening a repository (docs/format.md, sections 2, 4 and 11). */
#include <inttypes.h>
#include <stdarg.h>
#include <sodium.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "base/text.h"
#include "repo/json_internal.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

#define KEYS_TRIED_MAX 1024u		/* a store that shows more key objects than this is playing games */
#define NOTICE_BYTES 2048

const struct repo_config *repo_config(const struct repo *r) { return &r->cfg; }
struct store *repo_store(struct repo *r) { return r->store; }
const struct slot_id *repo_own_slot(const struct repo *r) { return &r->own; }
enum slot_role repo_own_role(const struct repo *r) { return r->keys->role; }
struct cancel *repo_cancel(struct repo *r) { return r->cancel; }

struct sum repo_ids_sum(const struct repo *r)
{
	uint8_t ids[CIPHER_ID_BYTES + SLOT_BYTES];

	memcpy(ids, r->cfg.cipher_id, CIPHER_ID_BYTES);
	memcpy(ids + CIPHER_ID_BYTES, r->own.b, SLOT_BYTES);
	return sum_of(ids, sizeof(ids));
}

int repo_keys_check(const struct repo *r, struct err *e)
{
	struct sum ids = repo_ids_sum(r);

	if ((r->ids.lo || r->ids.hi) && !sum_eq(&ids, &r->ids))
		return sum_error(e, "the id of this repository");
	return keyring_check(r->keys, e);
}

void repo_notice(struct repo *r, const char *fmt, ...)
{
	char text[NOTICE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	LOG_DEBUG("notice: %s", text);
	if (r->notice)
		r->notice(r->opaque, text);
}

void repo_notice_err(struct repo *r, const struct err *e, const char *what)
{
	char text[ERR_CTX_BYTES + ERR_CAUSE_BYTES + 8];

	repo_notice(r, "%s: %s", what, err_text(e, text, sizeof(text)));
}

void repo_close(struct repo *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->slots.p.n; i++) {
		slot_info_done(r->slots.p.p[i]);
		free(r->slots.p.p[i]);
	}
	for (size_t i = 0; i < r->slots.old.n; i++) {
		slot_info_done(r->slots.old.p[i]);
		free(r->slots.old.p[i]);
	}
	VEC_DONE(&r->slots.p);
	VEC_DONE(&r->slots.old);
	keyring_free(r->keys);
	sha256_free(r->sha256);
	free(r->state_dir);
	free(r->cache_dir);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

int repo_new(struct store *s, const struct repo_open_opts *o, struct repo **ret, struct err *e)
{
	struct repo *r;

	js_begin();
	if (sodium_init() < 0)
		return err_set(e, ERR_INTERNAL, "the cryptographic library does not start");
	r = calloc(1, sizeof(*r));
	if (!r)
		return err_set(e, ERR_NOMEM, "no memory for a repository");
	pthread_mutex_init(&r->lock, NULL);
	r->store = s;
	if (sha256_new(&r->sha256, e) < 0) {
		repo_close(r);
		return e->code;
	}
	if (o) {
		r->cancel = o->cancel;
		r->notice = o->notice;
		r->opaque = o->opaque;
		r->state_dir = o->state_dir ? strdup(o->state_dir) : NULL;
		r->cache_dir = o->cache_dir ? strdup(o->cache_dir) : NULL;
		if ((o->state_dir && !r->state_dir) || (o->cache_dir && !r->cache_dir)) {
			repo_close(r);
			return err_set(e, ERR_NOMEM, "no memory for a repository");
		}
	}
	*ret = r;
	return 0;
}

/* --- open --------------------------------------------------------------------------------------------------------- */

static int missing_config(struct repo *r, struct err *e)
{
	struct name_list keys;
	bool any;

	err_clear(e);
	if (object_list(r, OBJECT_KEY, &keys, e) < 0)
		return e->code;
	any = keys.n > 0;
	name_list_free(&keys);
	if (!any) {
		err_set(e, ERR_NOTFOUND, "no repository at %s", r->store->location);
		return err_hint(e, "`kedge -r %s init` makes one",
				text_shell(r->store->location, (char[300]){ 0 }, 300));
	}
	err_set(e, ERR_NOTFOUND, "no repository at %s: there are key slots, but no config", r->store->location);
	return err_hint(e, "an interrupted init leaves this: run init again. If there was a repository, its object "
			   "\"config\" is lost: bring it back from a copy of the storage");
}

static int load_config(struct repo *r, const uint8_t cipher_id[CIPHER_ID_BYTES], struct err *e)
{
	CLEANUP(free_ptr) uint8_t *sealed = NULL, *payload = NULL;
	struct repo_config c;
	size_t len, plen;
	int rc;

	if (store_get(r->store, CONFIG_NAME, ENVELOPE_MAX_BYTES, &sealed, &len, e) < 0)
		return e->code;
	memcpy(r->cfg.cipher_id, cipher_id, CIPHER_ID_BYTES);	/* what the seal is checked with */
	rc = envelope_open(r, OBJECT_CONFIG, sealed, len, &payload, &plen, NULL, NULL, e);
	if (rc == 0)
		rc = config_decode(payload, plen, &c, e);
	if (rc == ERR_AUTH)	/* the secret is right, or there were no keys to check it with */
		rc = e->code = ERR_CORRUPT;
	if (rc == 0 && memcmp(c.cipher_id, cipher_id, CIPHER_ID_BYTES) != 0)
		rc = err_set(e, ERR_CORRUPT, "it belongs to another repository than the key slot");
	if (rc < 0)
		err_ctx(e, "%s: " CONFIG_NAME, r->store->location);
	if (rc == ERR_CORRUPT)
		return err_hint(e, "nothing opens without it: bring that object back from a copy of the storage; what "
				   "is beside it is not touched by that");
	if (rc == ERR_UNSUPPORTED && !e->hint[0])
		return err_hint(e, "a newer kedge may know it; if this one made it, the object is damaged: bring it "
				   "back from a copy of the storage");
	if (rc < 0)
		return rc;
	r->cfg = c;
	return 0;
}

/* Our own record decides what others think of us: it must be there and say what the key says. */
static int check_own_slot(struct repo *r, struct err *e)
{
	const struct slot_info *s = repo_slot(r, &r->own);
	char hex[2 * SLOT_BYTES + 1], when[32];

	text_hex(r->own.b, SLOT_BYTES, hex);
	if (!s) {
		err_set(e, ERR_CORRUPT, "%s: slots/%s: the record of this key slot is missing or damaged",
			r->store->location, hex);
		return err_hint(e, "bring what is in that folder back from a copy of the storage; what other key slots "
				   "wrote opens with their secrets, or with the recovery key, where `kedge check` says "
				   "what is damaged");
	}
	if (s->removed)
		return err_set(e, ERR_AUTH, "%s: key slot %s, which this secret opens, was removed at %s",
			       r->store->location, hex, clock_local_text(s->time_ns, when));
	if (s->role != r->keys->role || memcmp(s->sign_public, r->keys->slot_public, 32) != 0)
		return err_set(e, ERR_CORRUPT,
			       "%s: the record of key slot %s says %s and does not fit its key, which is a %s key",
			       r->store->location, hex, slot_role_name(s->role), slot_role_name(r->keys->role));
	return 0;
}

struct unlocking {
	size_t tried;		/* key objects of the secret's kind */
	bool opened;		/* the one at hand opened; what fails now is the config */
	bool other;		/* the one at hand is whole, but of another version or draft of the format */
};

/* The first draft named objects by BLAKE2b-256. */
static bool named_by_first_draft(const uint8_t *p, size_t len, const struct id *name)
{
	struct id hash;

	return crypto_generichash(hash.b, ID_BYTES, p, len, NULL, 0) == 0 && id_eq(&hash, name);
}

/* One key object.  1: it opened; 0: it is not for this secret; negative: it is damaged, or something failed. */
static int try_key(struct repo *r, const char *name, const struct secret *secret, struct unlocking *u, struct err *e)
{
	CLEANUP(keyring_free_cleanup) struct keyring *k = NULL;
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct object_name n;
	struct key_header h;
	struct id hash;
	size_t len;
	int rc;

	u->opened = u->other = false;
	if (!object_name_parse(name, &n))
		return err_set(e, ERR_INTERNAL, "\"%s\" is not the name of a key object", name);
	if (store_get(r->store, name, KEY_OBJECT_MAX, &p, &len, e) < 0)
		return e->code;
	if (hash_bytes(r, p, len, &hash, e) < 0)
		return e->code;
	if (!id_eq(&hash, &n.hash)) {
		u->other = named_by_first_draft(p, len, &n.hash);
		return u->other ? key_object_draft(0, e) :
				  err_set(e, ERR_CORRUPT, "its bytes are not those that its name promises");
	}
	if (key_object_parse(p, len, &h, e) < 0) {
		u->other = e->code == ERR_UNSUPPORTED;
		return e->code;
	}
	if (!slot_eq(&h.slot, &n.slot))
		return err_set(e, ERR_CORRUPT, "it is the key of another slot than its name says");
	if (h.kind != secret->kind)
		return 0;
	u->tried++;
	rc = key_object_open(p, len, secret, &k, e);
	if (rc == ERR_AUTH) {
		err_clear(e);
		return 0;
	}
	if (rc < 0)
		return rc;
	u->opened = true;
	r->keys = k;
	r->own = n.slot;
	rc = load_config(r, h.cipher_id, e);
	if (rc < 0) {
		r->keys = NULL;
		return rc;
	}
	(void)STEAL(k);
	return 1;
}

static int no_key_opens(const struct secret *secret, size_t tried, size_t total, struct err *e)
{
	static const char *const shown[] = {
		[SECRET_PASSPHRASE] = "password", [SECRET_KEYFILE] = "key file", [SECRET_RECOVERY] = "recovery key"
	};

	err_set(e, ERR_AUTH, "no key slot opens with this %s (%zu tried)", shown[secret->kind], tried);
	if (secret_is_mistyped_recovery(secret))
		return err_hint(e,
				"it looks like a recovery key with a mistake in it: compare it character by character");
	if (tried == 0)
		return err_hint(e, "none of the %zu key slots there opens with a %s", total, shown[secret->kind]);
	return e->code;
}

/* The slot that opened last first: each wrong guess at a passphrase costs a key derivation. */
static void last_first(struct repo *r, struct name_list *keys, const struct secret *secret)
{
	struct object_name n;
	struct slot_id last;
	struct key_header h;
	struct err e = ERR_INIT;

	if (!r->state_dir || secret->kind != SECRET_PASSPHRASE || keys->n < 2)
		return;
	for (size_t i = 0; i < keys->n; i++) {
		CLEANUP(free_ptr) uint8_t *p = NULL;
		size_t len;

		if (store_get(r->store, keys->p[i], KEY_OBJECT_MAX, &p, &len, &e) < 0 ||
		    key_object_parse(p, len, &h, &e) < 0)
			continue;
		if (!state_last_slot(r->state_dir, h.cipher_id, &last))
			return;		/* all key objects of a repository have one cipher id */
		for (size_t k = 0; k < keys->n; k++) {
			if (object_name_parse(keys->p[k], &n) && slot_eq(&n.slot, &last)) {
				char *first = keys->p[k];

				memmove(keys->p + 1, keys->p, k * sizeof(*keys->p));
				keys->p[0] = first;
				return;
			}
		}
		return;
	}
}

static bool is_damage(int rc)
{
	return rc == ERR_CORRUPT || rc == ERR_UNSUPPORTED || rc == ERR_AUTH || rc == ERR_NOTFOUND;
}

/*
 * Tries the key objects until one opens and the config opens with what is in it: a stray or damaged one must not stand
 * in the way of the others.  What was wrong is the answer only if none does.
 */
static int unlock(struct repo *r, const struct secret *secret, struct err *e)
{
	struct err config = ERR_INIT, other = ERR_INIT, damage = ERR_INIT;
	struct unlocking u = { 0 };
	struct name_list keys;
	int rc = 0;

	if (object_list(r, OBJECT_KEY, &keys, e) < 0)
		return e->code;
	last_first(r, &keys, secret);
	for (size_t i = 0; i < keys.n && rc == 0 && u.tried < KEYS_TRIED_MAX; i++) {
		rc = cancel_check(r->cancel, e);
		if (rc == 0)
			rc = try_key(r, keys.p[i], secret, &u, e);
		if (!is_damage(rc))
			continue;
		if (u.opened) {
			config = *e;
		} else if (u.other) {
			err_ctx(e, "%s", keys.p[i]);
			other = *e;
		} else if (rc != ERR_NOTFOUND) {	/* that is one removed meanwhile */
			err_ctx(e, "%s", keys.p[i]);
			repo_notice_err(r, e, "key object ignored");
			damage = *e;
		}
		err_clear(e);
		rc = 0;
	}
	if (rc == 0) {
		rc = no_key_opens(secret, u.tried, keys.n, e);
		if (config.code || ((other.code || damage.code) && u.tried == 0)) {
			*e = config.code ? config : other.code ? other : damage;
			rc = e->code;
		}
		if (!config.code && damage.code)
			(void)err_hint(e, "a key object is damaged: if it is the one of this secret, bring it back "
					  "from a copy of the storage, or open with another key or the recovery key");
	}
	name_list_free(&keys);
	if (rc > 0 && other.code)
		repo_notice_err(r, &other, "key object ignored");
	return rc < 0 ? rc : 0;
}

int repo_open(struct store *s, const struct secret *secret, const struct repo_open_opts *o, struct repo **ret,
	      struct err *e)
{
	CLEANUP(repo_close_cleanup) struct repo *r = NULL;
	struct store_stat st;
	int rc;

	if (repo_new(s, o, &r, e) < 0)
		return e->code;
	rc = store_stat(s, CONFIG_NAME, &st, e);
	if (rc == ERR_NOTFOUND)
		return missing_config(r, e);
	if (rc < 0 || unlock(r, secret, e) < 0 || slots_load(r, e) < 0 || check_own_slot(r, e) < 0)
		return e->code;
	r->ids = repo_ids_sum(r);
	state_set_last_slot(r->state_dir, r->cfg.cipher_id, &r->own);
	*ret = STEAL(r);
	return 0;
}
