/* object.c - objects in the store: put, get with every check, list (docs/format.md, sections 1.2 and 10). */
#include <assert.h>
#include <inttypes.h>

#include "base/num.h"
#include "base/text.h"
#include "repo/repo_internal.h"
#include "repo/sha256.h"
#include "transport/store.h"

#define PIECE_BYTES ((size_t)1 << 20)

/* What was sealed, opened as any reader will, against a second copy of what should be in it. */
static int opens_to(struct repo *r, const struct object_name *n, const struct buf *sealed, const void *same,
		    size_t same_len, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *back = NULL;
	struct slot_id signer;
	size_t len;

	if (r->keys->role == ROLE_PUT && (n->type == OBJECT_MANIFEST || n->type == OBJECT_CATALOGUE))
		return 0;	/* it can't open it; envelope_seal has, by the key that it had made */
	if (envelope_open(r, n->type, sealed->p, sealed->len, &back, &len, &signer, NULL, e) < 0)
		return e->code;
	if (len != same_len || memcmp(back, same, len) != 0)
		return err_set(e, ERR_CORRUPT, "its content differs");
	return 0;
}

int object_outgoing(struct repo *r, struct object_name *n, const struct buf *sealed, const void *same, size_t same_len,
		    struct outgoing *ret, struct err *e)
{
	char text[ERR_CAUSE_BYTES / 2];

	ret->sum = sum_of(sealed->p, sealed->len);
	if (n->type == OBJECT_CONFIG)
		snprintf(ret->name, sizeof(ret->name), "config");
	else if (object_name_new(r, n, sealed->p, sealed->len, ret->name, e) < 0)
		return e->code;
	if (repo_keys_check(r, e) < 0)
		return e->code;
	if (opens_to(r, n, sealed, same, same_len, e) == 0)
		return sum_check(sealed->p, sealed->len, &ret->sum, "an object", e);
	if (e->code == ERR_NOMEM)
		return e->code;
	err_text(e, text, sizeof(text));
	err_set(e, ERR_INTERNAL, "memory or codec error: an object does not come back as it went in: %s", text);
	return err_hint(e, "It was not stored.  Test this computer's memory before you trust it with backups.");
}

int object_send(struct repo *r, const struct outgoing *o, const struct buf *sealed, struct err *e)
{
	int flags = strcmp(o->name, "config") == 0 ? STORE_PUT_IF_ABSENT : 0;

	if (store_put(r->store, o->name, sealed->p, sealed->len, flags, e) < 0)
		return e->code;
	return sum_check(sealed->p, sealed->len, &o->sum, "an object that was being stored", e);
}

int object_put(struct repo *r, enum object_type type, const struct session_id *session, const void *payload, size_t len,
	       char *name, struct err *e)
{
	return object_put_twice(r, type, session, payload, len, payload, len, name, e);
}

int object_put_twice(struct repo *r, enum object_type type, const struct session_id *session, const void *payload,
		     size_t len, const void *same, size_t same_len, char *name, struct err *e)
{
	struct object_name n = { .type = type, .slot = r->own };
	struct outgoing o;
	struct buf out;
	int rc;

	if (session)
		n.session = *session;
	buf_init(&out, ENVELOPE_MAX_BYTES);
	rc = envelope_seal(r, type, payload, len, &out, e);
	if (rc == 0)
		rc = object_outgoing(r, &n, &out, same, same_len, &o, e);
	if (rc == 0)
		rc = object_send(r, &o, &out, e);
	buf_done(&out);
	if (rc == 0)
		memcpy(name, o.name, sizeof(o.name));
	return rc;
}

int object_check_signer(struct repo *r, enum object_type type, const struct slot_id *signer, struct err *e)
{
	char hex[2 * SLOT_BYTES + 1];
	const struct slot_info *s;

	switch (type) {
	case OBJECT_COLLECTOR: case OBJECT_EPOCH: case OBJECT_EVICTION: case OBJECT_SWEEP: case OBJECT_DOOMED:
	case OBJECT_TOMBSTONE: case OBJECT_RESTORE: case OBJECT_EXTENSION: case OBJECT_REMOVAL:
		break;
	default:
		return 0;
	}
	s = repo_slot(r, signer);
	if (s && (s->role == ROLE_FULL || (s->role == ROLE_MAINTAIN && type != OBJECT_REMOVAL)))
		return 0;
	return err_set(e, ERR_AUTH, "it is signed by slot %s, a %s key, which may not",
		       text_hex(signer->b, SLOT_BYTES, hex), s ? slot_role_name(s->role) : "unknown");
}

static int open_checked(struct repo *r, const struct object_name *n, const void *p, size_t len, uint8_t **ret_payload,
			size_t *ret_len, struct slot_id *ret_signer, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *payload = NULL;
	struct slot_id signer;
	struct id hash;
	size_t plen;

	if (hash_bytes(r, p, len, &hash, e) < 0)
		return e->code;
	if (!id_eq(&hash, &n->hash))
		return err_set(e, ERR_CORRUPT, "its bytes are not those that its name promises");
	if (envelope_open(r, n->type, p, len, &payload, &plen, &signer, NULL, e) < 0)
		return e->code;
	if (n->type != OBJECT_SLOT && !slot_eq(&signer, &n->slot))
		return err_set(e, ERR_AUTH, "it lies under another slot's name than the one that signed it");
	if (object_check_signer(r, n->type, &signer, e) < 0)
		return e->code;
	*ret_len = plen;
	if (ret_signer)
		*ret_signer = signer;
	*ret_payload = STEAL(payload);
	return 0;
}

int object_get(struct repo *r, const char *name, uint8_t **ret_payload, size_t *ret_len, struct slot_id *ret_signer,
	       struct err *e)
{
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct object_name n;
	size_t len;

	if (!object_name_parse(name, &n))
		return err_set(e, ERR_INVALID, "\"%s\" is not the name of an object", name);
	if (object_read(r, &n, name, &p, &len, e) < 0)
		return e->code;
	if (open_checked(r, &n, p, len, ret_payload, ret_len, ret_signer, e) < 0)
		return err_ctx(e, "%s: %s", r->store->location, name);
	return 0;
}

int object_compare_hash(struct repo *r, const char *name, struct cancel *cancel, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(PIECE_BYTES);
	CLEANUP(sha256_done) struct sha256_run h = { 0 };
	struct object_name n;
	struct store_stat st;
	struct id is;

	if (!buf)
		return err_set(e, ERR_NOMEM, "piece of an object");
	if (!object_name_parse(name, &n))
		return err_set(e, ERR_INTERNAL, "\"%s\" is not the name of an object", name);
	if (store_stat(r->store, name, &st, e) < 0)
		return e->code;
	if (sha256_begin(r->sha256, &h, e) < 0)
		return e->code;
	for (uint64_t off = 0; off < st.size; off += PIECE_BYTES) {
		size_t len = (size_t)min_u64(PIECE_BYTES, st.size - off);

		if (cancel_check(cancel, e) < 0 || store_read(r->store, name, buf, len, off, e) < 0 ||
		    sha256_add(&h, buf, len, e) < 0)
			return e->code;
	}
	if (sha256_end(&h, &is, e) < 0)
		return e->code;
	if (!id_eq(&is, &n.hash))
		return err_set(e, ERR_CORRUPT, "its bytes are not those that its name promises");
	return 0;
}

void name_list_free(struct name_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->p[i]);
	free(l->p);
	*l = (struct name_list){ 0 };
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

bool name_list_has(const struct name_list *l, const char *name)
{
	return l->n && bsearch(&name, l->p, l->n, sizeof(*l->p), by_name) != NULL;
}

int name_list_add(struct name_list *l, const char *name, struct err *e)
{
	char *copy;

	if ((l->n & (l->n - 1)) == 0) {		/* room for the next power of two */
		char **p = realloc(l->p, (l->n ? 2 * l->n : 1) * sizeof(*p));

		if (!p)
			return err_set(e, ERR_NOMEM, "no memory for %zu names", l->n + 1);
		l->p = p;
	}
	copy = strdup(name);
	if (!copy)
		return err_set(e, ERR_NOMEM, "no memory for %zu names", l->n + 1);
	l->p[l->n++] = copy;
	return 0;
}

void name_list_sort(struct name_list *l)
{
	if (l->n)
		qsort(l->p, l->n, sizeof(*l->p), by_name);
}

struct listing {
	struct repo *r;
	enum object_type type;
	const struct session_id *session;
	struct name_list names;
};

static int list_one(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct listing *l = opaque;
	struct object_name n;

	(void)st;
	if (cancel_check(l->r->cancel, e) < 0)
		return e->code;
	if (!object_name_parse(name, &n) || n.type != l->type) {
		repo_notice(l->r, "%s: %s: a stray object, ignored: it has no name that kedge gives",
			    l->r->store->location, name);
		return 0;
	}
	if (l->session && !session_eq(l->session, &n.session))
		return 0;
	return name_list_add(&l->names, name, e);
}

/* "kind/", "kind/SLOT/" or "kind/SLOT/SESSION/". */
static void prefix_of(enum object_type type, const struct slot_id *slot, const struct session_id *session,
		      char prefix[static OBJECT_NAME_BYTES])
{
	char slot_hex[2 * SLOT_BYTES + 1], session_hex[2 * SESSION_BYTES + 1];

	assert(object_prefix(type));
	snprintf(prefix, OBJECT_NAME_BYTES, "%s", object_prefix(type));
	if (slot)
		snprintf(prefix, OBJECT_NAME_BYTES, "%s%s/", object_prefix(type),
			 text_hex(slot->b, SLOT_BYTES, slot_hex));
	if (slot && session)
		snprintf(prefix, OBJECT_NAME_BYTES, "%s%s/%s/", object_prefix(type),
			 text_hex(slot->b, SLOT_BYTES, slot_hex), text_hex(session->b, SESSION_BYTES, session_hex));
}

int object_list_of(struct repo *r, enum object_type type, const struct slot_id *slot, const struct session_id *session,
		   struct name_list *ret, struct err *e)
{
	struct listing l = { .r = r, .type = type, .session = session };
	char prefix[OBJECT_NAME_BYTES];

	prefix_of(type, slot, session, prefix);
	if (store_list(r->store, prefix, list_one, &l, e) < 0) {
		name_list_free(&l.names);
		return e->code;
	}
	name_list_sort(&l.names);
	*ret = l.names;
	return 0;
}

int object_list(struct repo *r, enum object_type type, struct name_list *ret, struct err *e)
{
	return object_list_of(r, type, NULL, NULL, ret, e);
}

int object_remove(struct repo *r, const char *name, struct err *e)
{
	int rc = store_remove(r->store, name, e);

	if (rc == ERR_NOTFOUND) {
		err_clear(e);
		rc = 0;
	}
	return rc;
}

int object_sync(struct repo *r, enum object_type type, const struct slot_id *slot, const struct session_id *session,
		struct err *e)
{
	char prefix[OBJECT_NAME_BYTES];

	prefix_of(type, slot, session, prefix);
	return store_sync(r->store, prefix, e);
}
