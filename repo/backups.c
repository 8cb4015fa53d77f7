/* backups.c - which backups the repository lists, and whether the store still shows what it did (docs/format.md
 * 10.1). */
#include <inttypes.h>

#include "base/clock.h"
#include "base/text.h"
#include "repo/backups.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

void backup_list_free(struct backup_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->p[i].name);
		manifest_free(l->p[i].m);
	}
	free(l->p);
	*l = (struct backup_list){ 0 };
}

/* The hash of a manifest that another names as its previous. */
struct link {
	struct slot_id slot;
	struct id hash;
	uint64_t sequence;	/* of the one that names it */
	int64_t end_ns;
};

struct loading {
	struct repo *r;
	const char *vm;			/* NULL = all */
	struct protocol_view *view;
	struct name_list names;		/* manifests that the store lists */
	VEC(struct backup) found;
	VEC(struct link) links;
	struct seen before;		/* what was remembered before the store was asked */
	struct seen seen;		/* newest of each writer, to be remembered */
	bool quiet;			/* only count what is missing */
	uint32_t missing;
	uint32_t bad;
	backup_problem_fn fn;		/* may be NULL */
	void *opaque;
};

static void loading_done(struct loading *l)
{
	struct backup_list rest = { .p = l->found.p, .n = l->found.n };

	backup_list_free(&rest);
	VEC_DONE(&l->links);
	seen_done(&l->before);
	seen_done(&l->seen);
	name_list_free(&l->names);
	protocol_free(l->view);
}

static int tell(struct loading *l, const char *what, const char *object, const char *vm, const char *text,
		struct err *e)
{
	struct backup_problem p = { .what = what, .object = object, .vm = vm, .text = text };

	l->bad++;
	return l->fn ? l->fn(l->opaque, &p, e) : 0;
}

/* Opens a manifest and checks that it may be there: it speaks for its own name, of a VM that its writer may write. */
static int load_manifest(struct repo *r, const char *name, struct manifest **ret, struct err *e)
{
	CLEANUP(manifest_free_cleanup) struct manifest *m = NULL;
	CLEANUP(free_ptr) uint8_t *payload = NULL;
	char hex[2 * SLOT_BYTES + 1];
	const struct slot_info *s;
	struct slot_id signer;
	struct object_name n;
	size_t len;
	int rc;

	if (!object_name_parse(name, &n))
		return err_set(e, ERR_INVALID, "\"%s\" is not the name of a manifest", name);
	if (object_get(r, name, &payload, &len, &signer, e) < 0)
		return e->code;
	rc = manifest_decode(payload, len, r->cfg.chunk_size, &m, e);
	if (rc == 0 && (!slot_eq(&m->writer, &n.slot) || !session_eq(&m->session, &n.session)))
		rc = err_set(e, ERR_CORRUPT, "it speaks for another session than its name");
	s = repo_slot(r, &signer);
	if (rc == 0 && (!s || !slot_may_write(s, m->vm)))
		rc = err_set(e, ERR_AUTH, "slot %s may not write backups of %s", text_hex(signer.b, SLOT_BYTES, hex),
			     m->vm);
	if (rc < 0)
		return err_ctx(e, "%s: %s", r->store->location, name);
	*ret = STEAL(m);
	return 0;
}

static void head_of(const struct manifest *m, const struct id *hash, struct seen_head *h)
{
	*h = (struct seen_head){ .slot = m->writer, .session = m->session, .hash = *hash,
				 .sequence = m->sequence, .end_ns = m->end_ns };
	snprintf(h->vm, sizeof(h->vm), "%s", m->vm);
}

/* Keeps the newest of each writer in l->seen, and every link to a previous one. */
static int note_chain(struct loading *l, const struct manifest *m, const struct id *hash, struct err *e)
{
	struct seen_head *h = NULL;
	struct link *k;

	if (m->has_previous) {
		k = VEC_PUSH(&l->links, e);
		if (!k)
			return e->code;
		*k = (struct link){ .slot = m->writer, .hash = m->previous, .sequence = m->sequence,
				    .end_ns = m->end_ns };
	}
	for (size_t i = 0; i < l->seen.heads.n && !h; i++)
		if (slot_eq(&l->seen.heads.p[i].slot, &m->writer))
			h = &l->seen.heads.p[i];
	if (h && h->sequence >= m->sequence)
		return 0;
	if (!h)
		h = VEC_PUSH(&l->seen.heads, e);
	if (!h)
		return e->code;
	head_of(m, hash, h);
	return 0;
}

/* One that can't be used is left out. */
static int leave_out(struct loading *l, const char *name, struct err *e)
{
	char text[ERR_CTX_BYTES + ERR_CAUSE_BYTES];

	repo_notice_err(l->r, e, "backup not listed");
	err_text(e, text, sizeof(text));
	err_clear(e);
	return tell(l, "manifest-unusable", name, NULL, text, e);
}

static int load_one(struct loading *l, const char *name, struct err *e)
{
	enum manifest_standing standing = protocol_standing(l->view, name, false);
	CLEANUP(manifest_free_cleanup) struct manifest *m = NULL;
	struct object_name n;
	struct backup *b;
	int rc;

	if (standing == STANDING_VOID || standing == STANDING_FORGOTTEN || !object_name_parse(name, &n))
		return 0;
	rc = load_manifest(l->r, name, &m, e);
	if (rc == ERR_NOTFOUND) {	/* a collector took it between listing and reading */
		err_clear(e);
		return 0;
	}
	if (rc == ERR_CORRUPT || rc == ERR_AUTH || rc == ERR_UNSUPPORTED)
		return leave_out(l, name, e);
	if (rc < 0)
		return rc;
	/* A pending one may be void and gone the next time we look: not something to insist on. */
	if (standing == STANDING_LISTED && note_chain(l, m, &n.hash, e) < 0)
		return e->code;
	if (l->vm && strcmp(l->vm, m->vm) != 0)
		return 0;
	b = VEC_PUSH(&l->found, e);
	if (!b)
		return e->code;
	b->m = STEAL(m);
	b->hash = n.hash;
	b->distrusted = !repo_slot_trusted(l->r, &n.slot);
	b->pending = protocol_standing(l->view, name, true) != STANDING_LISTED;
	b->name = strdup(name);
	return b->name ? 0 : err_set(e, ERR_NOMEM, "no memory for a name");
}

/* --- does the store show less than it did? ------------------------------------------------------------------------ */

static int by_hash(const void *a, const void *b)
{
	return id_cmp(a, b);
}

static int report_missing(struct loading *l, const char *name, const char *vm, const char *which, uint64_t sequence,
			  const struct slot_id *slot, int64_t end_ns, struct err *e)
{
	char hex[2 * SLOT_BYTES + 1], when[32], text[200];

	l->missing++;
	if (l->quiet)
		return 0;
	snprintf(text, sizeof(text), "backup %" PRIu64 "%s%s%s%s of %s by slot %s is missing", sequence, vm ? " (" : "",
		 vm ? vm : "", vm ? ")" : "", which, clock_local_text(end_ns, when),
		 text_hex(slot->b, SLOT_BYTES, hex));
	repo_notice(l->r, "the storage shows less than it did: %s", text);
	return tell(l, "backup-missing", name, vm, text, e);
}

static int check_heads(struct loading *l, struct err *e)
{
	for (size_t i = 0; i < l->before.heads.n; i++) {
		const struct seen_head *h = &l->before.heads.p[i];
		struct object_name n = {
			.type = OBJECT_MANIFEST, .slot = h->slot, .session = h->session, .hash = h->hash
		};
		char name[OBJECT_NAME_BYTES];
		enum manifest_standing standing;

		object_name_text(&n, name);
		standing = protocol_standing(l->view, name, false);
		if (name_list_has(&l->names, name) || standing == STANDING_VOID || standing == STANDING_FORGOTTEN)
			continue;
		if (report_missing(l, name, h->vm, "", h->sequence, &h->slot, h->end_ns, e) < 0)
			return e->code;
	}
	return 0;
}

static int report_gap(struct loading *l, const struct link *k, struct err *e)
{
	char slot[2 * SLOT_BYTES + 1], hash[2 * ID_BYTES + 1], name[OBJECT_NAME_BYTES];

	snprintf(name, sizeof(name), "%s%s/?/%s", object_prefix(OBJECT_MANIFEST), text_hex(k->slot.b, SLOT_BYTES, slot),
		 text_hex(k->hash.b, ID_BYTES, hash));
	return report_missing(l, name, NULL, ", the one before that", k->sequence - 1, &k->slot, k->end_ns, e);
}

/* Each manifest names its writer's previous one: a gap that neither a tombstone nor an eviction explains is a loss. */
static int check_links(struct loading *l, struct err *e)
{
	VEC(struct id) there = { 0 };
	struct object_name n;

	for (size_t i = 0; i < l->names.n; i++) {
		struct id *p = VEC_PUSH(&there, e);

		if (!p) {
			VEC_DONE(&there);
			return e->code;
		}
		if (object_name_parse(l->names.p[i], &n))
			*p = n.hash;
	}
	if (there.n)
		qsort(there.p, there.n, sizeof(*there.p), by_hash);
	for (size_t i = 0; i < l->links.n; i++) {
		const struct link *k = &l->links.p[i];
		bool reported = false;

		for (size_t s = 0; s < l->before.heads.n; s++)
			reported |= id_eq(&l->before.heads.p[s].hash, &k->hash);
		if (reported || bsearch(&k->hash, there.p, there.n, sizeof(*there.p), by_hash) ||
		    protocol_explains_missing(l->view, &k->slot, &k->hash))
			continue;
		if (report_gap(l, k, e) < 0)
			break;
	}
	VEC_DONE(&there);
	return e->code;
}

static int report_record(struct loading *l, const struct slot_id *slot, struct err *e)
{
	char hex[2 * SLOT_BYTES + 1], name[OBJECT_NAME_BYTES], text[80];

	l->missing++;
	if (l->quiet)
		return 0;
	text_hex(slot->b, SLOT_BYTES, hex);
	snprintf(name, sizeof(name), "%s%s/?", object_prefix(OBJECT_SLOT), hex);
	snprintf(text, sizeof(text), "the newest record of key slot %s is missing", hex);
	repo_notice(l->r, "the storage shows less than it did: %s", text);
	return tell(l, "slot-record-missing", name, NULL, text, e);
}

static int check_slots(struct loading *l, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; i < l->before.slots.n && rc == 0; i++) {
		const struct slot_info *s = repo_slot(l->r, &l->before.slots.p[i].slot);

		if (!s || s->serial < l->before.slots.p[i].serial)
			rc = report_record(l, &l->before.slots.p[i].slot, e);
	}
	return rc;
}

/* The newest records that we know are to be remembered. */
static int note_slots(struct loading *l, struct err *e)
{
	int rc = 0;

	pthread_mutex_lock(&l->r->lock);
	for (size_t i = 0; i < l->r->slots.p.n && rc == 0; i++) {
		struct seen_slot *p = VEC_PUSH(&l->seen.slots, e);

		if (p)
			*p = (struct seen_slot){ .slot = l->r->slots.p.p[i]->id, .serial = l->r->slots.p.p[i]->serial };
		else
			rc = e->code;
	}
	pthread_mutex_unlock(&l->r->lock);
	return rc;
}

static bool remembers_head(const struct seen *s, const struct seen_head *h)
{
	for (size_t i = 0; i < s->heads.n; i++)
		if (slot_eq(&s->heads.p[i].slot, &h->slot) && s->heads.p[i].sequence >= h->sequence)
			return true;
	return false;
}

static bool remembers_slot(const struct seen *s, const struct seen_slot *p)
{
	for (size_t i = 0; i < s->slots.n; i++)
		if (slot_eq(&s->slots.p[i].slot, &p->slot) && s->slots.p[i].serial >= p->serial)
			return true;
	return false;
}

/*
 * Remembers what was seen for the first time.  It may be something whose put has not come back, or never did: a power
 * cut would take it away again, and be reported as a loss for ever.  So it is made durable first.
 */
static void remember(struct loading *l)
{
	const struct seen *s = &l->seen;
	struct err e = ERR_INIT;
	int rc = 0;

	for (size_t i = 0; i < s->heads.n && rc == 0; i++)
		if (!remembers_head(&l->before, &s->heads.p[i]))
			rc = object_sync(l->r, OBJECT_MANIFEST, &s->heads.p[i].slot, &s->heads.p[i].session, &e);
	for (size_t i = 0; i < s->slots.n && rc == 0; i++)
		if (!remembers_slot(&l->before, &s->slots.p[i]))
			rc = object_sync(l->r, OBJECT_SLOT, &s->slots.p[i].slot, NULL, &e);
	if (rc == 0)
		state_merge(l->r, s);
	else
		repo_notice_err(l->r, &e, "what was seen of this storage is not remembered, since it may not be "
					  "durable");
}

static int check_all(struct loading *l, struct err *e)
{
	return check_heads(l, e) < 0 || check_links(l, e) < 0 || check_slots(l, e) < 0 ? e->code : 0;
}

/* Asks the store anew. */
static int look_again(struct loading *l, struct err *e)
{
	struct protocol_view *view;
	struct name_list names;

	if (slots_load(l->r, e) < 0 || object_list(l->r, OBJECT_MANIFEST, &names, e) < 0)
		return e->code;
	name_list_free(&l->names);
	l->names = names;
	if (protocol_load(l->r, false, &view, e) < 0)
		return e->code;
	protocol_free(l->view);
	l->view = view;
	return 0;
}

/*
 * Others commit, and change key slots, while we list: a listing is no moment, it can show a backup and not the one
 * before it.  So what seems to be missing is looked for once more, now that everything that we know of is older than
 * the listing.
 */
static int check_seen(struct loading *l, struct err *e)
{
	l->quiet = true;
	if (check_all(l, e) < 0)
		return e->code;
	l->quiet = false;
	if (l->missing && (look_again(l, e) < 0 || check_all(l, e) < 0))
		return e->code;
	if (note_slots(l, e) < 0)
		return e->code;
	if (l->r->state_dir)
		remember(l);
	return 0;
}

/* --- listing ------------------------------------------------------------------------------------------------------ */

static int by_vm_and_time(const void *a, const void *b)
{
	const struct backup *x = a, *y = b;
	int c = strcmp(x->m->vm, y->m->vm);

	if (c)
		return c;
	if (x->m->end_ns != y->m->end_ns)
		return x->m->end_ns < y->m->end_ns ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* What we remember is read before the store is asked: another process of this client may remember more meanwhile.
 * Manifests are listed before the protocol objects: what those say then holds for every manifest that was there. */
static int load_all(struct loading *l, struct err *e)
{
	int rc = state_load(l->r, &l->before, e);

	if (rc == 0)
		rc = object_list(l->r, OBJECT_MANIFEST, &l->names, e);
	if (rc == 0)
		rc = protocol_load(l->r, false, &l->view, e);
	for (size_t i = 0; i < l->names.n && rc == 0; i++) {
		rc = cancel_check(l->r->cancel, e);
		if (rc == 0)
			rc = load_one(l, l->names.p[i], e);
	}
	return rc == 0 ? check_seen(l, e) : rc;
}

static int need_reader(const struct repo *r, const char *what, struct err *e)
{
	if (r->keys->role != ROLE_PUT)
		return 0;
	return err_set(e, ERR_AUTH, "a put key cannot %s", what);
}

static int list_backups(struct loading *l, struct backup_list *ret, struct err *e)
{
	if (need_reader(l->r, "list backups", e) < 0)
		return e->code;
	if (load_all(l, e) < 0) {
		loading_done(l);
		return e->code;
	}
	if (l->found.n)
		qsort(l->found.p, l->found.n, sizeof(*l->found.p), by_vm_and_time);
	*ret = (struct backup_list){ .p = l->found.p, .n = l->found.n };
	l->found.p = NULL;
	l->found.n = 0;
	loading_done(l);
	return 0;
}

int repo_backups(struct repo *r, const char *vm, struct backup_list *ret, uint32_t *ret_bad, struct err *e)
{
	struct loading l = { .r = r, .vm = vm };

	if (list_backups(&l, ret, e) < 0)
		return e->code;
	if (ret_bad)
		*ret_bad = l.bad;
	return 0;
}

int repo_backups_told(struct repo *r, backup_problem_fn fn, void *opaque, struct backup_list *ret, struct err *e)
{
	struct loading l = { .r = r, .fn = fn, .opaque = opaque };

	return list_backups(&l, ret, e);
}

/* --- the own head ------------------------------------------------------------------------------------------------- */

static int newest_listed(struct repo *r, struct seen_head *head, struct err *e)
{
	struct name_list names;
	int rc = 0;

	if (object_list_of(r, OBJECT_MANIFEST, &r->own, NULL, &names, e) < 0)
		return e->code;
	for (size_t i = 0; i < names.n && rc == 0; i++) {
		CLEANUP(manifest_free_cleanup) struct manifest *m = NULL;
		struct object_name n;

		rc = cancel_check(r->cancel, e);
		if (rc == 0)
			rc = load_manifest(r, names.p[i], &m, e);
		if (rc == 0 && m->sequence > head->sequence && object_name_parse(names.p[i], &n))
			head_of(m, &n.hash, head);
		if (rc == ERR_NOTFOUND || rc == ERR_CORRUPT || rc == ERR_AUTH || rc == ERR_UNSUPPORTED) {
			err_clear(e);		/* repo_backups reports these */
			rc = 0;
		}
	}
	name_list_free(&names);
	return rc;
}

int repo_own_head(struct repo *r, uint64_t *ret_sequence, struct id *ret_hash, struct err *e)
{
	struct seen_head head = { 0 };
	struct seen seen;
	int rc = 0;

	if (r->keys->role != ROLE_PUT && newest_listed(r, &head, e) < 0)
		return e->code;
	if (state_load(r, &seen, e) < 0)
		return e->code;
	/* The next manifest names it, and it may be one whose put never came back. */
	if (head.sequence > 0 && !remembers_head(&seen, &head))
		rc = object_sync(r, OBJECT_MANIFEST, &head.slot, &head.session, e);
	for (size_t i = 0; i < seen.heads.n; i++)
		if (slot_eq(&seen.heads.p[i].slot, &r->own) && seen.heads.p[i].sequence > head.sequence)
			head = seen.heads.p[i];
	seen_done(&seen);
	if (rc < 0)
		return rc;
	*ret_sequence = head.sequence;
	*ret_hash = head.hash;
	return 0;
}

void repo_saw_manifest(struct repo *r, const struct manifest *m, const struct id *hash)
{
	struct seen_head head;
	struct seen seen = { 0 };

	head_of(m, hash, &head);
	seen.heads.p = &head;
	seen.heads.n = 1;
	state_merge(r, &seen);
}
