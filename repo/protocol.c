/*
 * protocol.c - the protocol objects as bytes: one table says which members each type has (docs/format.md, section 10).
 */
#include <assert.h>
#include <stddef.h>
#include <unistd.h>

#include "base/clock.h"
#include "repo/json_internal.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

#define NAMES_MAX 1000000u
#define SETTLE_STEP_US 200000

enum member_kind { M_TEXT, M_TEXT_OR_NULL, M_NAME, M_NAMES, M_NUMBER, M_TIME, M_KIND, M_OUTCOME, M_EVICTED, M_SLOT };

#define T(type) (1u << (type))
#define PACKS (T(OBJECT_DATA_SEGMENT) | T(OBJECT_NODE_SEGMENT))
#define RUNS T(OBJECT_RUN_TAIL)
#define ANY 0xffffffffu

struct member {
	uint32_t of;		/* types that have it */
	const char *name;
	enum member_kind kind;
	size_t at;		/* offset in struct protocol_object */
	uint32_t names;		/* M_NAME, M_NAMES: types of object that may be named */
};

#define AT(field) offsetof(struct protocol_object, field)
static const struct member members[] = {
	{ T(OBJECT_SESSION), "kind", M_KIND, AT(kind), 0 },
	{ T(OBJECT_SESSION), "host", M_TEXT, AT(host), 0 },
	{ T(OBJECT_SESSION), "vm", M_TEXT_OR_NULL, AT(vm), 0 },
	{ T(OBJECT_SESSION), "epochs", M_NAMES, AT(epochs), T(OBJECT_EPOCH) },
	{ T(OBJECT_RENEWAL), "number", M_NUMBER, AT(number), 0 },
	{ T(OBJECT_READING), "points", M_NAMES, AT(points), T(OBJECT_MANIFEST) },
	{ T(OBJECT_READING), "purpose", M_TEXT, AT(purpose), 0 },
	{ T(OBJECT_END), "outcome", M_OUTCOME, AT(done), 0 },
	{ T(OBJECT_EPOCH), "condemned", M_NAMES, AT(condemned), PACKS | T(OBJECT_MANIFEST) },
	{ T(OBJECT_EVICTION), "evicted", M_EVICTED, AT(evicted_slot), 0 },
	{ T(OBJECT_SWEEP), "epoch", M_NAME, AT(epoch), T(OBJECT_EPOCH) },
	{ T(OBJECT_SWEEP), "evictions", M_NAMES, AT(evictions), T(OBJECT_EVICTION) },
	{ T(OBJECT_SWEEP), "accepted", M_NAMES, AT(accepted),
	  T(OBJECT_MANIFEST) | T(OBJECT_RESTORE) | T(OBJECT_SWEEP) },
	{ T(OBJECT_SWEEP) | T(OBJECT_DOOMED), "doomed", M_NAMES, AT(doomed), PACKS | RUNS | T(OBJECT_MANIFEST) },
	{ T(OBJECT_SWEEP), "reprieved", M_NAMES, AT(reprieved), PACKS },
	{ T(OBJECT_DOOMED), "sweeps", M_NAMES, AT(sweeps), T(OBJECT_SWEEP) },
	{ T(OBJECT_TOMBSTONE) | T(OBJECT_RESTORE), "manifest", M_NAME, AT(manifest), T(OBJECT_MANIFEST) },
	{ T(OBJECT_RESTORE), "tombstones", M_NAMES, AT(tombstones), T(OBJECT_TOMBSTONE) },
	{ T(OBJECT_EXTENSION), "objects", M_NAMES, AT(objects), ANY },
	{ T(OBJECT_EXTENSION), "until", M_TIME, AT(until_ns), 0 },
	{ T(OBJECT_REMOVAL), "removes", M_SLOT, AT(removes), 0 },
};
#define NMEMBERS (sizeof(members) / sizeof(*members))

static const char *const session_kinds[] = { "backup", "copy", "repair", "undelete" };
static const char *const outcomes[] = { "failed", "done" };
static const char *const evicted_kinds[] = { "writer", "collector" };

/* One of docs/format.md, 10. */
static bool is_protocol_type(enum object_type type)
{
	return (type >= OBJECT_SESSION && type <= OBJECT_EXTENSION) || type == OBJECT_REMOVAL;
}

void protocol_object_free(struct protocol_object *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < NMEMBERS; i++) {
		void *at = (char *)p + members[i].at;

		if (members[i].kind == M_NAMES)
			name_list_free(at);
		else if (members[i].kind == M_TEXT || members[i].kind == M_TEXT_OR_NULL || members[i].kind == M_NAME)
			free(*(char **)at);
	}
	free(p);
}

/* --- encoding ----------------------------------------------------------------------------------------------------- */

static json_t *names_json(const struct name_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		js_push(&a, json_string(l->p[i]));
	return a;
}

static json_t *evicted_json(const struct protocol_object *p)
{
	json_t *o = json_object();

	js_set(&o, "slot", js_new_hex(p->evicted_slot.b, SLOT_BYTES));
	js_set(&o, "session", js_new_hex(p->evicted_session.b, SESSION_BYTES));
	js_set(&o, "kind", json_string(evicted_kinds[p->evicted_collector]));
	return o;
}

static json_t *member_json(const struct protocol_object *p, const struct member *m)
{
	const void *at = (const char *)p + m->at;

	switch (m->kind) {
	case M_TEXT: return js_new_text(*(char *const *)at ? *(char *const *)at : "");
	case M_TEXT_OR_NULL: return js_new_text(*(char *const *)at);
	case M_NAME: return json_string(*(char *const *)at ? *(char *const *)at : "");
	case M_NAMES: return names_json(at);
	case M_NUMBER: return js_new_uint(*(const uint64_t *)at);
	case M_TIME: return json_integer(*(const int64_t *)at);
	case M_KIND: return json_string(session_kinds[*(const enum session_kind *)at]);
	case M_OUTCOME: return json_string(outcomes[*(const bool *)at]);
	case M_EVICTED: return evicted_json(p);
	case M_SLOT: return js_new_hex(at, SLOT_BYTES);
	}
	return NULL;
}

int protocol_encode(const struct protocol_object *p, char **ret, size_t *ret_len, struct err *e)
{
	json_t *o = json_object();

	assert(is_protocol_type(p->type));
	js_set(&o, "slot", js_new_hex(p->slot.b, SLOT_BYTES));
	js_set(&o, "session", js_new_hex(p->session.b, SESSION_BYTES));
	js_set(&o, "time", json_integer(p->time_ns));
	for (size_t i = 0; i < NMEMBERS; i++)
		if (members[i].of & T(p->type))
			js_set(&o, members[i].name, member_json(p, &members[i]));
	return js_dump(o, ret, ret_len, e);
}

/* --- decoding ----------------------------------------------------------------------------------------------------- */

static int name_value(const json_t *v, const struct member *m, const char **ret, struct err *e)
{
	const char *name = json_string_value(v);
	struct object_name n;

	if (!name || !object_name_parse(name, &n) || !(m->names & T(n.type)))
		return err_set(e, ERR_CORRUPT, "member \"%s\" names what is no object that it may name", m->name);
	*ret = name;
	return 0;
}

static int name_decode(const json_t *o, const struct member *m, char **ret, struct err *e)
{
	const char *name = NULL;

	if (name_value(json_object_get(o, m->name), m, &name, e) < 0)
		return e->code;
	*ret = strdup(name);
	return *ret ? 0 : err_set(e, ERR_NOMEM, "no memory for a name");
}

static int names_decode(const json_t *o, const struct member *m, struct name_list *l, struct err *e)
{
	const json_t *a;
	const char *name = NULL;

	if (js_array(o, m->name, NAMES_MAX, &a, e) < 0)
		return e->code;
	for (size_t i = 0; i < json_array_size(a); i++)
		if (name_value(json_array_get(a, i), m, &name, e) < 0 || name_list_add(l, name, e) < 0)
			return e->code;
	name_list_sort(l);
	return 0;
}

static int choice_decode(const json_t *o, const struct member *m, void *at, struct err *e)
{
	size_t i = 0;

	if (m->kind == M_KIND) {
		if (js_choice(o, m->name, session_kinds, 4, &i, e) < 0)
			return e->code;
		*(enum session_kind *)at = (enum session_kind)i;
		return 0;
	}
	if (js_choice(o, m->name, outcomes, 2, &i, e) < 0)
		return e->code;
	*(bool *)at = i == 1;
	return 0;
}

static int evicted_decode(const json_t *o, const struct member *m, struct protocol_object *p, struct err *e)
{
	const json_t *v;
	size_t kind = 0;

	if (js_object(o, m->name, &v, e) < 0)
		return e->code;
	if (js_hex(v, "slot", p->evicted_slot.b, SLOT_BYTES, e) < 0 ||
	    js_hex(v, "session", p->evicted_session.b, SESSION_BYTES, e) < 0 ||
	    js_choice(v, "kind", evicted_kinds, 2, &kind, e) < 0)
		return err_ctx(e, "%s", m->name);
	p->evicted_collector = kind == 1;
	return 0;
}

static int member_decode(const json_t *o, const struct member *m, struct protocol_object *p, struct err *e)
{
	void *at = (char *)p + m->at;

	switch (m->kind) {
	case M_TEXT: return js_text(o, m->name, at, e);
	case M_TEXT_OR_NULL: return js_text_opt(o, m->name, at, e);
	case M_NAME: return name_decode(o, m, at, e);
	case M_NAMES: return names_decode(o, m, at, e);
	case M_NUMBER: return js_uint(o, m->name, 1, INT64_MAX, at, e);
	case M_TIME: return js_time(o, m->name, at, e);
	case M_KIND: case M_OUTCOME: return choice_decode(o, m, at, e);
	case M_EVICTED: return evicted_decode(o, m, p, e);
	case M_SLOT: return js_hex(o, m->name, at, SLOT_BYTES, e);
	}
	return err_set(e, ERR_INTERNAL, "member \"%s\" has no kind", m->name);
}

int protocol_decode(enum object_type type, const void *json, size_t len, struct protocol_object **ret, struct err *e)
{
	CLEANUP(protocol_object_free_cleanup) struct protocol_object *p = calloc(1, sizeof(*p));
	CLEANUP(js_decref) json_t *o = NULL;

	if (!p)
		return err_set(e, ERR_NOMEM, "no memory for a protocol object");
	p->type = type;
	if (js_parse(json, len, &o, e) < 0 || js_hex(o, "slot", p->slot.b, SLOT_BYTES, e) < 0 ||
	    js_hex(o, "session", p->session.b, SESSION_BYTES, e) < 0 || js_time(o, "time", &p->time_ns, e) < 0)
		return e->code;
	for (size_t i = 0; i < NMEMBERS; i++)
		if ((members[i].of & T(type)) && member_decode(o, &members[i], p, e) < 0)
			return e->code;
	*ret = STEAL(p);
	return 0;
}

/* --- in the store ------------------------------------------------------------------------------------------------- */

int protocol_put(struct repo *r, struct protocol_object *p, char *name, struct err *e)
{
	CLEANUP(free_ptr) char *json = NULL, *same = NULL;
	size_t len, same_len;

	p->slot = r->own;
	p->time_ns = clock_wall_ns();
	if (protocol_encode(p, &json, &len, e) < 0 || protocol_encode(p, &same, &same_len, e) < 0)
		return e->code;
	return object_put_twice(r, p->type, &p->session, json, len, same, same_len, name, e);
}

/* Where a listing may lag behind, what was posted becomes visible to others, and theirs to us, only after a while. */
int protocol_settle(struct repo *r, struct err *e)
{
	double until = clock_mono() + (double)r->cfg.settling_ns / 1e9;

	if (store_caps(r->store)->strong_listing)
		return 0;
	while (clock_mono() < until) {
		if (cancel_check(r->cancel, e) < 0)
			return e->code;
		usleep(SETTLE_STEP_US);
	}
	return 0;
}

int protocol_get(struct repo *r, const char *name, struct protocol_object **ret, struct err *e)
{
	CLEANUP(protocol_object_free_cleanup) struct protocol_object *p = NULL;
	CLEANUP(free_ptr) uint8_t *payload = NULL;
	struct object_name n;
	size_t len;
	int rc;

	if (!object_name_parse(name, &n) || !is_protocol_type(n.type))
		return err_set(e, ERR_INVALID, "\"%s\" is not the name of a protocol object", name);
	if (object_get(r, name, &payload, &len, NULL, e) < 0)
		return e->code;
	rc = protocol_decode(n.type, payload, len, &p, e);
	if (rc == 0 && (!slot_eq(&p->slot, &n.slot) || !session_eq(&p->session, &n.session)))
		rc = err_set(e, ERR_CORRUPT, "it speaks for another session than its name");
	if (rc < 0)
		return err_ctx(e, "%s: %s", r->store->location, name);
	*ret = STEAL(p);
	return 0;
}

void protocol_set_done(struct protocol_set *s)
{
	for (size_t i = 0; i < s->p.n; i++)
		protocol_object_free(s->p.p[i]);
	for (size_t i = 0; i < s->names.n; i++)
		free(s->names.p[i]);
	for (size_t i = 0; i < s->unread.n; i++)
		free(s->unread.p[i]);
	VEC_DONE(&s->p);
	VEC_DONE(&s->names);
	VEC_DONE(&s->unread);
}

static int set_add(struct protocol_set *s, const char *name, struct protocol_object *p, struct err *e)
{
	struct protocol_object **at = VEC_PUSH(&s->p, e);
	char **text = at ? VEC_PUSH(&s->names, e) : NULL;

	if (at)
		*at = p;
	else
		protocol_object_free(p);
	if (!text)
		return e->code;
	*text = strdup(name);
	return *text ? 0 : err_set(e, ERR_NOMEM, "no memory for a name");
}

static int leave_out(struct repo *r, struct protocol_set *s, const char *name, struct err *e)
{
	char **text;

	repo_notice_err(r, e, "protocol object ignored");
	err_clear(e);
	text = VEC_PUSH(&s->unread, e);
	if (!text)
		return e->code;
	*text = strdup(name);
	return *text ? 0 : err_set(e, ERR_NOMEM, "no memory for a name");
}

int protocol_set_load(struct repo *r, enum object_type type, struct protocol_set *ret, struct err *e)
{
	struct protocol_set s = { 0 };
	struct name_list names;
	int rc = 0;

	if (object_list(r, type, &names, e) < 0)
		return e->code;
	for (size_t i = 0; i < names.n && rc == 0; i++) {
		struct protocol_object *p = NULL;

		rc = cancel_check(r->cancel, e);
		if (rc == 0)
			rc = protocol_get(r, names.p[i], &p, e);
		if (rc == 0) {
			rc = set_add(&s, names.p[i], p, e);
			continue;
		}
		if (rc == ERR_CORRUPT || rc == ERR_AUTH || rc == ERR_UNSUPPORTED) {
			rc = leave_out(r, &s, names.p[i], e);
		} else if (rc == ERR_NOTFOUND) {
			err_clear(e);
			rc = 0;
		}
	}
	name_list_free(&names);
	if (rc < 0)
		protocol_set_done(&s);
	else
		*ret = s;
	return rc;
}
