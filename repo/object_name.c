/* object_name.c - PADME, hashes, and the names of objects: "kind/SLOT/SESSION/HASH" (docs/format.md, sections 1 and
 * 1.2). */
#include <assert.h>
#include <sodium.h>

#include "base/num.h"
#include "base/text.h"
#include "repo/repo_internal.h"

static unsigned log2_floor(uint64_t n)
{
	return 63u - (unsigned)__builtin_clzll(n);
}

uint64_t padme(uint64_t n)
{
	unsigned e, s;

	if (n < 2)
		return n;
	e = log2_floor(n);
	s = log2_floor(e) + 1;
	return round_up(n, (uint64_t)1 << (e - s));
}

int hash_bytes(const struct repo *r, const void *p, size_t len, struct id *ret, struct err *e)
{
	return sha256_of(r->sha256, p, len, ret, e);
}

void hash_b2(uint8_t out[32], const void *key, size_t key_len, const uint8_t *salt, const char *personal,
	     const void *msg, size_t len)
{
	static const uint8_t no_salt[crypto_generichash_blake2b_SALTBYTES];
	uint8_t person[crypto_generichash_blake2b_PERSONALBYTES] = { 0 };
	size_t n = strlen(personal);
	int r;

	assert(n <= sizeof(person));
	memcpy(person, personal, n);
	r = crypto_generichash_blake2b_salt_personal(out, 32, msg, len, key, key_len, salt ? salt : no_salt, person);
	assert(r == 0);
	(void)r;
}

static const char *const prefixes[OBJECT_TYPE_END] = {
	[OBJECT_KEY] = "keys/",
	[OBJECT_SLOT] = "slots/",
	[OBJECT_DATA_SEGMENT] = "data/",
	[OBJECT_NODE_SEGMENT] = "nodes/",
	[OBJECT_RUN_TAIL] = "index/",
	[OBJECT_MANIFEST] = "manifests/",
	[OBJECT_SESSION] = "session/",
	[OBJECT_RENEWAL] = "renewal/",
	[OBJECT_READING] = "reading/",
	[OBJECT_END] = "end/",
	[OBJECT_COLLECTOR] = "collector/",
	[OBJECT_EPOCH] = "epoch/",
	[OBJECT_EVICTION] = "eviction/",
	[OBJECT_SWEEP] = "sweep/",
	[OBJECT_DOOMED] = "doomed/",
	[OBJECT_TOMBSTONE] = "tombstone/",
	[OBJECT_RESTORE] = "restore/",
	[OBJECT_EXTENSION] = "extension/",
	[OBJECT_CATALOGUE] = "catalogue/",
	[OBJECT_PARITY] = "parity/",
	[OBJECT_LIKENESS] = "likeness/",
	[OBJECT_REMOVAL] = "removal/",
};

const char *object_prefix(enum object_type type)
{
	return type > 0 && type < OBJECT_TYPE_END ? prefixes[type] : NULL;
}

/* Keys and slot records belong to a slot, not to one of its sessions. */
static bool has_session(enum object_type type)
{
	return type != OBJECT_KEY && type != OBJECT_SLOT;
}

void object_name_text(const struct object_name *n, char buf[static OBJECT_NAME_BYTES])
{
	char slot[2 * SLOT_BYTES + 1], session[2 * SESSION_BYTES + 1], hash[2 * ID_BYTES + 1];
	const char *prefix = object_prefix(n->type);

	assert(prefix);
	text_hex(n->slot.b, SLOT_BYTES, slot);
	text_hex(n->session.b, SESSION_BYTES, session);
	text_hex(n->hash.b, ID_BYTES, hash);
	if (has_session(n->type))
		snprintf(buf, OBJECT_NAME_BYTES, "%s%s/%s/%s", prefix, slot, session, hash);
	else
		snprintf(buf, OBJECT_NAME_BYTES, "%s%s/%s", prefix, slot, hash);
}

/* Takes 2 * len lower-case hex digits and the byte end behind them. */
static bool take_hex(const char **text, void *out, size_t len, char end)
{
	char hex[2 * ID_BYTES + 1];
	size_t digits = 2 * len;

	if (strspn(*text, "0123456789abcdef") != digits || (*text)[digits] != end)
		return false;
	memcpy(hex, *text, digits);
	hex[digits] = '\0';
	*text += digits + (end != '\0');
	return text_unhex(hex, out, len);
}

bool object_name_parse(const char *text, struct object_name *ret)
{
	struct object_name n = { 0 };

	for (int t = 1; t < OBJECT_TYPE_END; t++) {
		size_t len = prefixes[t] ? strlen(prefixes[t]) : 0;

		if (len == 0 || strncmp(text, prefixes[t], len) != 0)
			continue;
		n.type = (enum object_type)t;
		text += len;
		if (!take_hex(&text, n.slot.b, SLOT_BYTES, '/') || sodium_is_zero(n.slot.b, SLOT_BYTES) ||
		    (has_session(n.type) && !take_hex(&text, n.session.b, SESSION_BYTES, '/')) ||
		    !take_hex(&text, n.hash.b, ID_BYTES, '\0'))
			return false;
		*ret = n;
		return true;
	}
	return false;
}

int object_name_new(const struct repo *r, struct object_name *n, const void *p, size_t len,
		    char name[static OBJECT_NAME_BYTES], struct err *e)
{
	struct object_name is;
	struct id again;

	if (hash_bytes(r, p, len, &n->hash, e) < 0)
		return e->code;
	object_name_text(n, name);
	if (hash_bytes(r, p, len, &again, e) < 0)
		return e->code;
	return object_name_parse(name, &is) && id_eq(&is.hash, &again) ? 0 : sum_error(e, "the name of an object");
}
