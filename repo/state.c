/*
 * state.c - what a client remembers of a repository between runs, in its state folder.
 *
 *	STATE/INSTANCE.seen	"KEDGESEE", u32 version 1, u32 generation, AEAD of a JSON object: the newest manifest
 *				seen of each writer and the newest record seen of each key slot.  A store that shows
 *				less has lost or hides something.
 *	STATE/CIPHERID.slot	which key slot opened last, in hex: only a hint
 *
 * The file is sealed (key: B2(shared secret, "kedge-state-v1", instance id); associated data: the first 16 bytes), so
 * that it tells nobody what the repository holds and cannot be changed unnoticed.  Two processes that write at once:
 * each merges with what it finds, the later rename wins; what is lost so is at worst one run's newest entry.
 */
#include <sodium.h>

#include "base/bytes.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/text.h"
#include "repo/json_internal.h"
#include "repo/repo_internal.h"

#define STATE_MAX_BYTES ((size_t)64 << 20)
#define STATE_HEAD_BYTES 16u
#define ROWS_MAX 1000000u

void seen_done(struct seen *s)
{
	VEC_DONE(&s->heads);
	VEC_DONE(&s->slots);
}

/* --- content ------------------------------------------------------------------------------------------------------ */

static int seen_encode(const struct seen *s, char **ret, size_t *ret_len, struct err *e)
{
	json_t *o = json_object(), *heads = json_array(), *slots = json_array();

	for (size_t i = 0; i < s->heads.n; i++) {
		const struct seen_head *h = &s->heads.p[i];
		json_t *row = json_object();

		js_set(&row, "slot", js_new_hex(h->slot.b, SLOT_BYTES));
		js_set(&row, "session", js_new_hex(h->session.b, SESSION_BYTES));
		js_set(&row, "hash", js_new_hex(h->hash.b, ID_BYTES));
		js_set(&row, "sequence", js_new_uint(h->sequence));
		js_set(&row, "end", json_integer(h->end_ns));
		js_set(&row, "vm", json_string(h->vm));
		js_push(&heads, row);
	}
	for (size_t i = 0; i < s->slots.n; i++) {
		json_t *row = json_object();

		js_set(&row, "slot", js_new_hex(s->slots.p[i].slot.b, SLOT_BYTES));
		js_set(&row, "serial", js_new_uint(s->slots.p[i].serial));
		js_push(&slots, row);
	}
	js_set(&o, "heads", heads);
	js_set(&o, "slots", slots);
	return js_dump(o, ret, ret_len, e);
}

static int head_decode(const json_t *row, struct seen_head *h, struct err *e)
{
	CLEANUP(free_ptr) char *vm = NULL;

	if (js_hex(row, "slot", h->slot.b, SLOT_BYTES, e) < 0 ||
	    js_hex(row, "session", h->session.b, SESSION_BYTES, e) < 0 ||
	    js_hex(row, "hash", h->hash.b, ID_BYTES, e) < 0 ||
	    js_uint(row, "sequence", 1, INT64_MAX, &h->sequence, e) < 0 || js_time(row, "end", &h->end_ns, e) < 0 ||
	    js_name(row, "vm", &vm, e) < 0)
		return e->code;
	snprintf(h->vm, sizeof(h->vm), "%s", vm);
	return 0;
}

static int rows_decode(const json_t *o, struct seen *s, struct err *e)
{
	const json_t *heads, *slots;

	if (js_array(o, "heads", ROWS_MAX, &heads, e) < 0 || js_array(o, "slots", ROWS_MAX, &slots, e) < 0)
		return e->code;
	for (size_t i = 0; i < json_array_size(heads); i++) {
		struct seen_head *h = VEC_PUSH(&s->heads, e);

		if (!h || head_decode(json_array_get(heads, i), h, e) < 0)
			return e->code;
	}
	for (size_t i = 0; i < json_array_size(slots); i++) {
		const json_t *row = json_array_get(slots, i);
		struct seen_slot *p = VEC_PUSH(&s->slots, e);

		if (!p || js_hex(row, "slot", p->slot.b, SLOT_BYTES, e) < 0 ||
		    js_uint(row, "serial", 0, INT64_MAX, &p->serial, e) < 0)
			return e->code;
	}
	return 0;
}

int seen_decode(const void *json, size_t len, struct seen *ret, struct err *e)
{
	CLEANUP(js_decref) json_t *o = NULL;
	struct seen s = { 0 };

	if (js_parse(json, len, &o, e) < 0)
		return e->code;
	if (rows_decode(o, &s, e) < 0) {
		seen_done(&s);
		return e->code;
	}
	*ret = s;
	return 0;
}

/* --- the file ----------------------------------------------------------------------------------------------------- */

static char *seen_path(const struct repo *r, struct err *e)
{
	char instance[2 * 16 + 1];

	return text_printf(e, "%s/%s.seen", r->state_dir, text_hex(r->cfg.instance_id, 16, instance));
}

static void state_key(const struct repo *r, const struct key_generation *g, struct wiped_key *key)
{
	hash_b2(key->b, g->shared, KEY_BYTES, NULL, "kedge-state-v1", r->cfg.instance_id, sizeof(r->cfg.instance_id));
}

static int open_file(const struct repo *r, const uint8_t *p, size_t len, struct seen *ret, struct err *e)
{
	CLEANUP(wiped_key_done) struct wiped_key key = { 0 };
	CLEANUP(free_ptr) uint8_t *plain = NULL;
	const struct key_generation *g;

	if (len < STATE_HEAD_BYTES + AEAD_BYTES || memcmp(p, "KEDGESEE", 8) != 0 || get_le32(p + 8) != 1)
		return err_set(e, ERR_CORRUPT, "it is not a record of what was seen");
	g = keyring_generation(r->keys, get_le32(p + 12));
	if (!g)
		return err_set(e, ERR_CORRUPT, "it is sealed under a key generation that this key slot does not hold");
	plain = malloc(len);
	if (!plain)
		return err_set(e, ERR_NOMEM, "no memory for %zu bytes", len);
	state_key(r, g, &key);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(plain, NULL, NULL, p + STATE_HEAD_BYTES + NONCE_BYTES,
						       len - STATE_HEAD_BYTES - NONCE_BYTES, p, STATE_HEAD_BYTES,
						       p + STATE_HEAD_BYTES, key.b) != 0)
		return err_set(e, ERR_CORRUPT, "its seal does not verify");
	return seen_decode(plain, len - STATE_HEAD_BYTES - AEAD_BYTES, ret, e);
}

static int load(struct repo *r, struct seen *ret, struct err *e)
{
	CLEANUP(free_ptr) char *path = seen_path(r, e);
	CLEANUP(free_ptr) uint8_t *p = NULL;
	size_t len;

	if (!path)
		return e->code;
	if (fs_read_file(path, STATE_MAX_BYTES, &p, &len, e) < 0)
		return e->code;
	return open_file(r, p, len, ret, e) < 0 ? err_ctx(e, "%s", path) : 0;
}

int state_load(struct repo *r, struct seen *ret, struct err *e)
{
	struct err why = ERR_INIT;
	struct seen s = { 0 };
	int rc = r->state_dir ? load(r, &s, &why) : 0;

	if (rc == ERR_NOMEM) {
		*e = why;
		return rc;
	}
	if (rc < 0 && rc != ERR_NOTFOUND)
		repo_notice_err(r, &why, "what earlier runs saw of this storage is not known any more");
	*ret = s;
	return 0;
}

/* What memory has changed would be an alarm about the storage, from now on: opened again, it must say what is to be
 * remembered. */
static int says_so(const struct repo *r, const uint8_t *p, size_t len, const struct seen *s, struct err *e)
{
	CLEANUP(free_ptr) char *is = NULL, *want = NULL;
	struct seen back = { 0 };
	size_t is_len = 0, want_len = 0;
	int rc = open_file(r, p, len, &back, e);

	if (rc == 0)
		rc = seen_encode(&back, &is, &is_len, e);
	if (rc == 0)
		rc = seen_encode(s, &want, &want_len, e);
	seen_done(&back);
	if (rc == ERR_CORRUPT)
		err_clear(e);
	if (rc == ERR_CORRUPT || (rc == 0 && (is_len != want_len || memcmp(is, want, is_len) != 0)))
		return sum_error(e, "what is to be remembered of the storage");
	return rc;
}

static int write_file(struct repo *r, const struct seen *s, struct err *e)
{
	const struct key_generation *g = keyring_newest(r->keys);
	CLEANUP(wiped_key_done) struct wiped_key key = { 0 };
	CLEANUP(free_ptr) char *json = NULL, *path = NULL;
	CLEANUP(free_ptr) uint8_t *out = NULL;
	size_t len;

	if (seen_encode(s, &json, &len, e) < 0)
		return e->code;
	path = seen_path(r, e);
	if (!path)
		return e->code;
	out = malloc(STATE_HEAD_BYTES + AEAD_BYTES + len);
	if (!out)
		return err_set(e, ERR_NOMEM, "no memory for %zu bytes", len);
	memcpy(out, "KEDGESEE", 8);
	put_le32(out + 8, 1);
	put_le32(out + 12, g->generation);
	state_key(r, g, &key);
	randombytes_buf(out + STATE_HEAD_BYTES, NONCE_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(out + STATE_HEAD_BYTES + NONCE_BYTES, NULL, (uint8_t *)json, len,
						   out, STATE_HEAD_BYTES, NULL, out + STATE_HEAD_BYTES, key.b);
	if (says_so(r, out, STATE_HEAD_BYTES + AEAD_BYTES + len, s, e) < 0 || fs_mkdirs(r->state_dir, 0700, e) < 0)
		return e->code;
	return fs_write_atomic(path, out, STATE_HEAD_BYTES + AEAD_BYTES + len, true, 0600, e);
}

static int merge_head(struct seen *all, const struct seen_head *h, bool *changed, struct err *e)
{
	struct seen_head *p = NULL;

	for (size_t i = 0; i < all->heads.n && !p; i++)
		if (slot_eq(&all->heads.p[i].slot, &h->slot))
			p = &all->heads.p[i];
	if (p && p->sequence >= h->sequence)
		return 0;
	if (!p)
		p = VEC_PUSH(&all->heads, e);
	if (!p)
		return e->code;
	*p = *h;
	*changed = true;
	return 0;
}

static int merge_slot(struct seen *all, const struct seen_slot *s, bool *changed, struct err *e)
{
	struct seen_slot *p = NULL;

	for (size_t i = 0; i < all->slots.n && !p; i++)
		if (slot_eq(&all->slots.p[i].slot, &s->slot))
			p = &all->slots.p[i];
	if (p && p->serial >= s->serial)
		return 0;
	if (!p)
		p = VEC_PUSH(&all->slots, e);
	if (!p)
		return e->code;
	*p = *s;
	*changed = true;
	return 0;
}

void state_merge(struct repo *r, const struct seen *s)
{
	struct err e = ERR_INIT;
	struct seen all = { 0 };
	bool changed = false;
	int rc;

	if (!r->state_dir)
		return;
	rc = load(r, &all, &e);
	/* What is damaged is lost, and written anew.  What can't be read just now is still there: not to be written
	 * over. */
	if (rc == ERR_NOTFOUND || rc == ERR_CORRUPT || rc == ERR_INVALID) {
		err_clear(&e);
		rc = 0;
	}
	for (size_t i = 0; i < s->heads.n && rc == 0; i++)
		rc = merge_head(&all, &s->heads.p[i], &changed, &e);
	for (size_t i = 0; i < s->slots.n && rc == 0; i++)
		rc = merge_slot(&all, &s->slots.p[i], &changed, &e);
	if (rc == 0 && changed)
		rc = write_file(r, &all, &e);
	if (rc < 0)
		repo_notice_err(r, &e, "what was seen of this storage can't be remembered");
	seen_done(&all);
}

/* --- the hint ----------------------------------------------------------------------------------------------------- */

static char *slot_path(const char *state_dir, const uint8_t cipher_id[CIPHER_ID_BYTES], struct err *e)
{
	char hex[2 * CIPHER_ID_BYTES + 1];

	return text_printf(e, "%s/%s.slot", state_dir, text_hex(cipher_id, CIPHER_ID_BYTES, hex));
}

bool state_last_slot(const char *state_dir, const uint8_t cipher_id[CIPHER_ID_BYTES], struct slot_id *ret)
{
	CLEANUP(free_ptr) uint8_t *text = NULL;
	CLEANUP(free_ptr) char *path = NULL;
	struct err e = ERR_INIT;
	size_t len;

	if (!state_dir)
		return false;
	path = slot_path(state_dir, cipher_id, &e);
	return path && fs_read_file(path, 2 * SLOT_BYTES, &text, &len, &e) == 0 &&
	       text_unhex((char *)text, ret->b, SLOT_BYTES);
}

void state_set_last_slot(const char *state_dir, const uint8_t cipher_id[CIPHER_ID_BYTES], const struct slot_id *slot)
{
	char hex[2 * SLOT_BYTES + 1];
	CLEANUP(free_ptr) char *path = NULL;
	struct err e = ERR_INIT;
	struct slot_id last;

	if (!state_dir || (state_last_slot(state_dir, cipher_id, &last) && slot_eq(&last, slot)))
		return;
	path = slot_path(state_dir, cipher_id, &e);
	text_hex(slot->b, SLOT_BYTES, hex);
	if (!path || fs_mkdirs(state_dir, 0700, &e) < 0 || fs_write_atomic(path, hex, strlen(hex), true, 0600, &e) < 0)
		LOG_DEBUG("%s: not remembered: %s", state_dir, e.cause);	/* only a hint */
}
