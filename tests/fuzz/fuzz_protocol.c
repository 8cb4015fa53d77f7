/*
 * fuzz_protocol.c - any bytes as protocol objects.  The first byte chooses the type; what decodes encodes, and decodes
 * to the same again.  All that decodes is also put together with itself as a view, which must come to a verdict.
 */
#include <stdlib.h>
#include <string.h>

#include "repo/protocol_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void add(struct protocol_set *set, struct protocol_object *p, const char *name)
{
	struct err e = ERR_INIT;
	struct protocol_object **at = VEC_PUSH(&set->p, &e);
	char **text = VEC_PUSH(&set->names, &e);

	check(at && text);
	*at = p;
	*text = strdup(name);
	check(*text != NULL);
}

/* An object among evictions of its own session. */
static void try_view(struct protocol_object *p)
{
	struct protocol_view *v = calloc(1, sizeof(*v));
	struct protocol_object *eviction = calloc(1, sizeof(*eviction));
	struct object_name n = { .type = p->type, .slot = p->slot, .session = p->session };
	struct protocol_set *set;
	char name[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;

	check(v && eviction);
	set = p->type == OBJECT_TOMBSTONE ? &v->tombstones
	      : p->type == OBJECT_RESTORE ? &v->restores
	      : p->type == OBJECT_EPOCH	  ? &v->epochs
	      : p->type == OBJECT_SWEEP	  ? &v->sweeps
	      : p->type == OBJECT_DOOMED  ? &v->doomed_lists
					  : &v->evictions;
	object_name_text(&n, name);
	add(set, p, name);
	eviction->type = OBJECT_EVICTION;
	eviction->evicted_slot = p->slot;
	eviction->evicted_session = p->session;
	add(&v->evictions, eviction, p->evictions.n ? p->evictions.p[0] : name);
	check(protocol_view_settle(v, &e) == 0);
	if (p->manifest)
		(void)protocol_standing(v, p->manifest, true);
	for (size_t i = 0; i < p->accepted.n; i++)
		check(protocol_standing(v, p->accepted.p[i], false) <= STANDING_VOID);
	for (size_t i = 0; i < p->doomed.n; i++)
		check(!protocol_doomed(v, p->doomed.p[i]) || protocol_condemned(v, p->doomed.p[i]));
	(void)protocol_open_epoch(v);
	protocol_free(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(protocol_object_free_cleanup) struct protocol_object *again = NULL;
	CLEANUP(free_ptr) char *json = NULL, *json2 = NULL;
	struct protocol_object *p = NULL;
	struct err e = ERR_INIT;
	enum object_type type;
	size_t len, len2;

	if (size < 1)
		return 0;
	type = data[0] == 'R' ? OBJECT_REMOVAL
			      : (enum object_type)(OBJECT_SESSION + data[0] % (OBJECT_EXTENSION - OBJECT_SESSION + 1));
	if (protocol_decode(type, data + 1, size - 1, &p, &e) < 0) {
		check(e.code < 0 && e.cause[0] && !p);
		return 0;
	}
	check(protocol_encode(p, &json, &len, &e) == 0 && protocol_decode(type, json, len, &again, &e) == 0);
	check(protocol_encode(again, &json2, &len2, &e) == 0 && len == len2 && !memcmp(json, json2, len));
	try_view(p);
	return 0;
}
