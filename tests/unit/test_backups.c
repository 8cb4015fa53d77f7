/* Listing backups: what counts, what is reported, what a store that shows less is caught at; points as they are
 * written. */
#include "tests/test.h"

#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "repo/backups.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"
#include "tests/support/folder.h"
#include "tests/support/manifest.h"
#include "tests/support/repo.h"
#include "transport/store.h"

static struct test_repo t;
static char *state_dir, *cache_dir;

static int setup(void **state)
{
	(void)state;
	state_dir = test_folder_new();
	cache_dir = test_folder_new();
	test_repo_new(&t, 0, state_dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_repo_done(&t);
	test_folder_done(state_dir);
	test_folder_done(cache_dir);
	return 0;
}

/* Commits a manifest for r's slot; previous is the one before (may be NULL).  *ret_hash is its id. */
static void commit_as(struct repo *r, const char *vm, uint64_t sequence, const struct id *previous, bool complete,
		      struct id *ret_hash, char name[OBJECT_NAME_BYTES])
{
	CLEANUP(manifest_free_cleanup) struct manifest *m = test_manifest(vm, sequence);
	CLEANUP(free_ptr) char *json = NULL;
	struct object_name n;
	struct err e = ERR_INIT;
	size_t len;

	m->writer = *repo_own_slot(r);
	m->session.b[0] = (uint8_t)sequence;
	m->complete = complete;
	m->has_previous = previous != NULL;
	if (previous)
		m->previous = *previous;
	assert_ok(manifest_encode(m, &json, &len, &e), &e);
	assert_ok(object_put(r, OBJECT_MANIFEST, &m->session, json, len, name, &e), &e);
	assert_true(object_name_parse(name, &n));
	*ret_hash = n.hash;
}

static void commit(const char *vm, uint64_t sequence, const struct id *previous, struct id *ret_hash,
		   char name[OBJECT_NAME_BYTES])
{
	commit_as(t.repo, vm, sequence, previous, true, ret_hash, name);
}

static size_t list(const char *vm, struct backup_list *l, uint32_t *bad)
{
	struct err e = ERR_INIT;

	t.notices[0] = '\0';
	assert_ok(repo_backups(t.repo, vm, l, bad, &e), &e);
	return l->n;
}

static void forget(struct repo *r, const char *manifest)
{
	struct protocol_object p = { .type = OBJECT_TOMBSTONE, .session = { { 9 } } };
	char name[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;

	p.manifest = (char *)(uintptr_t)manifest;
	assert_ok(protocol_put(r, &p, name, &e), &e);
}

static void test_backups__listed_in_order(void **state)
{
	char a[OBJECT_NAME_BYTES], b[OBJECT_NAME_BYTES], c[OBJECT_NAME_BYTES];
	struct backup_list l;
	struct id ha, hb, hc;
	uint32_t bad;

	(void)state;
	commit("web", 2, NULL, &ha, a);
	commit("db", 3, &ha, &hb, b);
	commit("db", 1, NULL, &hc, c);
	assert_int_equal(list(NULL, &l, &bad), 3);
	assert_int_equal(bad, 0);
	assert_string_equal(l.p[0].name, c);
	assert_string_equal(l.p[1].name, b);
	assert_string_equal(l.p[2].name, a);
	assert_true(id_eq(&l.p[1].hash, &hb));
	assert_string_equal(l.p[2].m->vm, "web");
	backup_list_free(&l);
	assert_int_equal(list("db", &l, NULL), 2);
	backup_list_free(&l);
	assert_int_equal(list("mail", &l, NULL), 0);
	backup_list_free(&l);
	forget(t.repo, b);
	assert_int_equal(list("db", &l, &bad), 1);
	assert_int_equal(bad, 0);
	backup_list_free(&l);
}

static void test_backups__what_must_not_count(void **state)
{
	static const char *const vms[] = { "web", NULL };
	struct slot_new_opts o = {
		.label = "host", .role = ROLE_FULL, .vms = vms, .argon_passes = 1, .argon_kib = 8192
	};
	struct secret *s = test_secret("host");
	char name[OBJECT_NAME_BYTES], other[OBJECT_NAME_BYTES];
	CLEANUP(free_ptr) uint8_t *bytes = NULL;
	struct session_id session = { { 1 } };
	struct err e = ERR_INIT;
	struct backup_list l;
	struct repo *host = NULL;
	struct slot_id slot;
	struct id h;
	uint32_t bad;
	size_t len;

	(void)state;
	assert_ok(repo_slot_add(t.repo, s, &o, &slot, &e), &e);
	assert_ok(repo_open(t.store, s, &(struct repo_open_opts){ 0 }, &host, &e), &e);
	secret_free(s);
	commit_as(host, "web", 1, NULL, true, &h, name);
	commit_as(host, "db", 2, NULL, true, &h, other);	/* not its VM */
	assert_int_equal(list(NULL, &l, &bad), 1);
	assert_int_equal(bad, 1);
	assert_has(t.notices, "may not write backups of db");
	backup_list_free(&l);
	assert_ok(object_put(t.repo, OBJECT_MANIFEST, &session, "{}", 2, other, &e), &e);	/* no manifest at all */
	assert_int_equal(list(NULL, &l, &bad), 1);
	assert_int_equal(bad, 2);
	backup_list_free(&l);
	assert_ok(store_get(t.store, name, 1 << 20, &bytes, &len, &e), &e);
	bytes[len / 2] ^= 1;
	assert_ok(store_put(t.store, name, bytes, len, 0, &e), &e);
	assert_int_equal(list(NULL, &l, &bad), 0);
	assert_int_equal(bad, 3);
	assert_has(t.notices, name);
	backup_list_free(&l);
	repo_close(host);
}

static void test_backups__pending_and_void(void **state)
{
	struct protocol_object p = { .type = OBJECT_EVICTION,
				     .session = { { 7 } },
				     .evicted_slot = *repo_own_slot(t.repo),
				     .evicted_session = { { 1 } } };
	struct protocol_object sweep = { .type = OBJECT_SWEEP, .session = { { 8 } } };
	struct object_name epoch = { .type = OBJECT_EPOCH, .slot = *repo_own_slot(t.repo) };
	char name[OBJECT_NAME_BYTES], eviction[OBJECT_NAME_BYTES], text[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;
	struct backup_list l;
	struct id h;
	uint32_t bad;

	(void)state;
	commit("web", 1, NULL, &h, name);
	assert_ok(protocol_put(t.repo, &p, eviction, &e), &e);
	assert_int_equal(list(NULL, &l, &bad), 1);
	assert_true(l.p[0].pending);
	assert_int_equal(bad, 0);
	backup_list_free(&l);
	object_name_text(&epoch, text);
	sweep.epoch = text;
	assert_ok(name_list_add(&sweep.evictions, eviction, &e), &e);
	assert_ok(protocol_put(t.repo, &sweep, name, &e), &e);
	name_list_free(&sweep.evictions);
	assert_int_equal(list(NULL, &l, &bad), 0);
	assert_int_equal(bad, 0);
	backup_list_free(&l);
}

/* Brought back by a record of an evicted session, which a sweep may still refuse. */
static void test_backups__pending_by_its_restore_record(void **state)
{
	struct protocol_object dead = { .type = OBJECT_TOMBSTONE, .session = { { 9 } } };
	struct protocol_object back = { .type = OBJECT_RESTORE, .session = { { 6 } } };
	struct protocol_object evict = { .type = OBJECT_EVICTION,
					 .session = { { 7 } },
					 .evicted_slot = *repo_own_slot(t.repo),
					 .evicted_session = { { 6 } } };
	char name[OBJECT_NAME_BYTES], text[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;
	struct backup_list l;
	struct id h;

	(void)state;
	commit("web", 1, NULL, &h, name);
	dead.manifest = back.manifest = name;
	assert_ok(protocol_put(t.repo, &dead, text, &e), &e);
	assert_ok(name_list_add(&back.tombstones, text, &e), &e);
	assert_ok(protocol_put(t.repo, &back, text, &e), &e);
	name_list_free(&back.tombstones);
	for (int evicted = 0; evicted < 2; evicted++) {
		assert_int_equal(list(NULL, &l, NULL), 1);
		assert_int_equal(l.p[0].pending, evicted);
		backup_list_free(&l);
		assert_ok(protocol_put(t.repo, &evict, text, &e), &e);
	}
}

static void test_backups__of_a_slot_that_is_not_trusted(void **state)
{
	struct repo *other = test_repo_as(&t, ROLE_FULL, "other");
	char name[OBJECT_NAME_BYTES];
	struct backup_list l;
	struct id h;

	(void)state;
	commit("web", 1, NULL, &h, name);
	commit_as(other, "web", 2, NULL, true, &h, name);
	assert_int_equal(list(NULL, &l, NULL), 2);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(l.p[i].distrusted, id_eq(&l.p[i].hash, &h));
	backup_list_free(&l);
	repo_close(other);
}

static void test_backups__put_key(void **state)
{
	struct repo *put = test_repo_as(&t, ROLE_PUT, "put");
	struct err e = ERR_INIT;
	struct backup_list l;

	(void)state;
	assert_err(repo_backups(put, NULL, &l, NULL, &e), ERR_AUTH, &e);
	repo_close(put);
}

/* --- a store that shows less -------------------------------------------------------------------------------------- */

static void test_seen__newest_hidden(void **state)
{
	char a[OBJECT_NAME_BYTES], b[OBJECT_NAME_BYTES];
	struct backup_list l;
	struct err e = ERR_INIT;
	struct id ha, hb;
	uint32_t bad;

	(void)state;
	commit("web", 1, NULL, &ha, a);
	commit("web", 2, &ha, &hb, b);
	assert_int_equal(list(NULL, &l, &bad), 2);
	assert_string_equal(t.notices, "");
	backup_list_free(&l);
	test_repo_reopen(&t, TEST_PASSWORD, state_dir);
	assert_ok(store_remove(t.store, b, &e), &e);
	assert_int_equal(list(NULL, &l, &bad), 1);
	assert_int_equal(bad, 1);
	assert_has(t.notices, "the storage shows less than it did: backup 2 (web) of ");
	backup_list_free(&l);
	assert_int_equal(list(NULL, &l, &bad), 1);	/* said again until it is back */
	assert_int_equal(bad, 1);
	backup_list_free(&l);
	test_repo_reopen(&t, TEST_PASSWORD, NULL);	/* a client that has not seen it cannot know */
	assert_int_equal(list(NULL, &l, &bad), 1);
	assert_int_equal(bad, 0);
	backup_list_free(&l);
}

static void test_seen__forgotten_and_gone_is_no_loss(void **state)
{
	char a[OBJECT_NAME_BYTES];
	struct backup_list l;
	struct err e = ERR_INIT;
	struct id ha;
	uint32_t bad;

	(void)state;
	commit("web", 1, NULL, &ha, a);
	assert_int_equal(list(NULL, &l, &bad), 1);
	backup_list_free(&l);
	forget(t.repo, a);
	assert_ok(store_remove(t.store, a, &e), &e);
	assert_int_equal(list(NULL, &l, &bad), 0);
	assert_int_equal(bad, 0);
	assert_string_equal(t.notices, "");
	backup_list_free(&l);
}

/* One in the middle is missing: the chain shows it, to anybody. */
static void test_seen__gap_in_the_chain(void **state)
{
	char a[OBJECT_NAME_BYTES], b[OBJECT_NAME_BYTES], c[OBJECT_NAME_BYTES];
	struct backup_list l;
	struct err e = ERR_INIT;
	struct id ha, hb, hc;
	uint32_t bad;

	(void)state;
	commit("web", 1, NULL, &ha, a);
	commit("web", 2, &ha, &hb, b);
	commit("web", 3, &hb, &hc, c);
	assert_ok(store_remove(t.store, b, &e), &e);
	assert_int_equal(list(NULL, &l, &bad), 2);
	assert_int_equal(bad, 1);
	assert_has(t.notices, "backup 2, the one before that");
	backup_list_free(&l);
	forget(t.repo, b);
	assert_int_equal(list(NULL, &l, &bad), 2);
	assert_int_equal(bad, 0);
	backup_list_free(&l);
}

static void test_seen__older_slot_record(void **state)
{
	struct slot_new_opts o = { .label = "second", .role = ROLE_FULL, .argon_passes = 1, .argon_kib = 8192 };
	struct secret *s = test_secret("second");
	struct err e = ERR_INIT;
	struct name_list before, after;
	struct backup_list l;
	struct slot_id id;
	uint32_t bad;

	(void)state;
	assert_ok(repo_slot_add(t.repo, s, &o, &id, &e), &e);
	secret_free(s);
	assert_ok(object_list_of(t.repo, OBJECT_SLOT, &id, NULL, &before, &e), &e);
	assert_ok(repo_slot_remove(t.repo, &id, false, &e), &e);
	assert_int_equal(list(NULL, &l, &bad), 0);
	assert_int_equal(bad, 0);
	backup_list_free(&l);
	assert_ok(object_list_of(t.repo, OBJECT_SLOT, &id, NULL, &after, &e), &e);
	for (size_t i = 0; i < after.n; i++)
		if (!name_list_has(&before, after.p[i]))
			assert_ok(store_remove(t.store, after.p[i], &e), &e);	/* the removal is hidden */
	test_repo_reopen(&t, TEST_PASSWORD, state_dir);
	assert_int_equal(list(NULL, &l, &bad), 0);
	assert_int_equal(bad, 1);
	assert_has(t.notices, "newest record of key slot");
	backup_list_free(&l);
	name_list_free(&before);
	name_list_free(&after);
}

/* Another process of this client, which shares its state folder and works while this one lists. */
struct other {
	struct repo *repo;
	struct slot_id spare;
	struct id head;
	bool done;
};

static int work_meanwhile(void *opaque, const struct store_fault_call *c, struct err *e)
{
	char name[OBJECT_NAME_BYTES];
	struct other *o = opaque;
	struct backup_list l;

	if (o->done || c->when != STORE_FAULT_AFTER || strcmp(c->op, "list") || strncmp(c->name, "manifests", 9))
		return 0;
	o->done = true;
	commit_as(o->repo, "web", 2, &o->head, true, &o->head, name);
	assert_ok(repo_slot_remove(o->repo, &o->spare, false, e), e);
	assert_ok(repo_backups(o->repo, NULL, &l, NULL, e), e);	/* remembers both */
	backup_list_free(&l);
	return 0;
}

static void test_seen__others_work_meanwhile(void **state)
{
	struct slot_new_opts so = { .label = "spare", .role = ROLE_FULL, .argon_passes = 1, .argon_kib = 8192 };
	struct repo_open_opts oo = { .state_dir = state_dir };
	struct secret *spare = test_secret("spare"), *own = test_secret(TEST_PASSWORD);
	struct other o = { .done = false };
	struct err e = ERR_INIT;
	char a[OBJECT_NAME_BYTES];
	struct backup_list l;
	uint32_t bad;

	(void)state;
	commit("web", 1, NULL, &o.head, a);
	assert_ok(repo_slot_add(t.repo, spare, &so, &o.spare, &e), &e);
	assert_ok(repo_open(t.store, own, &oo, &o.repo, &e), &e);
	assert_ok(store_fault_new(t.store, work_meanwhile, &o, &t.store, &e), &e);
	t.repo->store = t.store;
	(void)list(NULL, &l, &bad);
	assert_true(o.done);
	assert_string_equal(t.notices, "");
	assert_int_equal(bad, 0);
	backup_list_free(&l);
	assert_int_equal(list(NULL, &l, &bad), 2);
	assert_int_equal(bad, 0);
	backup_list_free(&l);
	secret_free(spare);
	secret_free(own);
	repo_close(o.repo);
}

static void test_seen__damaged_state_file(void **state)
{
	CLEANUP(free_ptr) char *path = NULL;
	CLEANUP(free_ptr) uint8_t *bytes = NULL;
	char a[OBJECT_NAME_BYTES], hex[33];
	struct backup_list l;
	struct err e = ERR_INIT;
	struct id ha;
	uint32_t bad;
	size_t len;

	(void)state;
	commit("web", 1, NULL, &ha, a);
	assert_int_equal(list(NULL, &l, &bad), 1);
	backup_list_free(&l);
	path = text_printf(&e, "%s/%s.seen", state_dir, text_hex(t.repo->cfg.instance_id, 16, hex));
	assert_ok(fs_read_file(path, 1 << 20, &bytes, &len, &e), &e);
	assert_null(memmem(bytes, len, "web", 3));	/* it tells nobody what the repository holds */
	bytes[len - 1] ^= 1;
	assert_ok(fs_write_atomic(path, bytes, len, true, 0600, &e), &e);
	assert_int_equal(list(NULL, &l, &bad), 1);
	assert_has(t.notices, "not known any more");
	backup_list_free(&l);
	assert_int_equal(list(NULL, &l, &bad), 1);	/* it was written anew */
	assert_string_equal(t.notices, "");
	backup_list_free(&l);
}

/* What can't be read today is not written over: it is known again when it can be. */
static void test_seen__unreadable_state_file(void **state)
{
	CLEANUP(free_ptr) char *path = NULL, *kept = NULL;
	char a[OBJECT_NAME_BYTES], hex[33];
	struct err e = ERR_INIT;
	struct backup_list l;
	struct id ha;
	uint32_t bad;

	(void)state;
	commit("web", 1, NULL, &ha, a);
	assert_int_equal(list(NULL, &l, &bad), 1);
	backup_list_free(&l);
	path = text_printf(&e, "%s/%s.seen", state_dir, text_hex(t.repo->cfg.instance_id, 16, hex));
	kept = text_printf(&e, "%s.kept", path);
	assert_int_equal(rename(path, kept), 0);
	assert_int_equal(symlink(path, path), 0);	/* can be read by nobody */
	assert_int_equal(list(NULL, &l, &bad), 1);
	assert_has(t.notices, "not known any more");
	assert_has(t.notices, "can't be remembered");
	backup_list_free(&l);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(link(kept, path), 0);
	assert_ok(store_remove(t.store, a, &e), &e);
	assert_int_equal(list(NULL, &l, &bad), 0);
	assert_has(t.notices, "shows less than it did");
	backup_list_free(&l);
	assert_int_equal(unlink(kept), 0);
}

static void test_own_head__from_store_and_memory(void **state)
{
	char a[OBJECT_NAME_BYTES], b[OBJECT_NAME_BYTES];
	CLEANUP(manifest_free_cleanup) struct manifest *m = test_manifest("web", 5);
	struct err e = ERR_INIT;
	struct id ha, hb, h;
	uint64_t sequence;

	(void)state;
	assert_ok(repo_own_head(t.repo, &sequence, &h, &e), &e);
	assert_int_equal(sequence, 0);
	commit("web", 1, NULL, &ha, a);
	commit("db", 2, &ha, &hb, b);
	assert_ok(repo_own_head(t.repo, &sequence, &h, &e), &e);
	assert_int_equal(sequence, 2);
	assert_true(id_eq(&h, &hb));
	m->writer = *repo_own_slot(t.repo);
	repo_saw_manifest(t.repo, m, &ha);	/* committed by us, and hidden since */
	assert_ok(repo_own_head(t.repo, &sequence, &h, &e), &e);
	assert_int_equal(sequence, 5);
	assert_true(id_eq(&h, &ha));
}

/* Removes an object while the backups are listed, and puts it back: whether the notices tell of a loss. */
static bool missed(const char *name)
{
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct backup_list l;
	struct err e = ERR_INIT;
	size_t len;

	assert_ok(store_get(t.store, name, 1 << 20, &p, &len, &e), &e);
	assert_ok(store_remove(t.store, name, &e), &e);
	list(NULL, &l, NULL);
	backup_list_free(&l);
	assert_ok(store_put(t.store, name, p, len, 0, &e), &e);
	return strstr(t.notices, "shows less than it did") != NULL;
}

/* Two runs of one key slot at once have one sequence number and one previous manifest.  That is no alarm, neither then
 * nor when the next names one of them; the other nobody misses by the chain (N6 of docs/threat-model.md). */
static void test_own_head__of_two_at_once(void **state)
{
	char first[OBJECT_NAME_BYTES], a[OBJECT_NAME_BYTES], b[OBJECT_NAME_BYTES], next[OBJECT_NAME_BYTES];
	struct id hfirst, ha, hb, head, hnext;
	struct err e = ERR_INIT;
	struct backup_list l;
	uint64_t sequence;

	(void)state;
	commit("web", 1, NULL, &hfirst, first);
	commit("web", 2, &hfirst, &ha, a);
	assert_int_equal(list(NULL, &l, NULL), 2);
	backup_list_free(&l);
	commit("db", 2, &hfirst, &hb, b);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(list(NULL, &l, NULL), 3);
		assert_string_equal(t.notices, "");
		backup_list_free(&l);
	}
	assert_ok(repo_own_head(t.repo, &sequence, &head, &e), &e);
	assert_int_equal(sequence, 2);
	assert_true(id_eq(&head, &ha) || id_eq(&head, &hb));
	assert_true(missed(a));		/* the one that was seen first is remembered */
	assert_false(missed(b));
	commit("web", 3, &head, &hnext, next);
	assert_int_equal(list(NULL, &l, NULL), 4);
	assert_string_equal(t.notices, "");
	backup_list_free(&l);
	assert_int_equal(missed(a), id_eq(&head, &ha));
	assert_int_equal(missed(b), id_eq(&head, &hb));
	assert_true(missed(next) && missed(first));
}

/* --- the cache ---------------------------------------------------------------------------------------------------- */

struct reads {
	unsigned n;
};

static int count_reads(void *opaque, const struct store_fault_call *c, struct err *e)
{
	(void)e;
	if (c->when == STORE_FAULT_BEFORE && !strcmp(c->op, "read") && !strncmp(c->name, "manifests/", 10))
		((struct reads *)opaque)->n++;
	return 0;
}

static void test_cache__far_stores_are_read_once(void **state)
{
	struct reads reads = { 0 };
	char a[OBJECT_NAME_BYTES], hex[33];
	CLEANUP(free_ptr) char *path = NULL;
	struct backup_list l;
	struct err e = ERR_INIT;
	struct id ha;

	(void)state;
	commit("web", 1, NULL, &ha, a);
	assert_ok(store_fault_new(t.store, count_reads, &reads, &t.store, &e), &e);
	t.repo->store = t.store;
	t.repo->cache_dir = strdup(cache_dir);
	t.store->caps.is_local = true;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(list(NULL, &l, NULL), 1);
		backup_list_free(&l);
	}
	assert_int_equal(reads.n, 2);
	t.store->caps.is_local = false;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(list(NULL, &l, NULL), 1);
		backup_list_free(&l);
	}
	assert_int_equal(reads.n, 3);
	path = text_printf(&e, "%s/%s/%s", cache_dir, text_hex(t.repo->cfg.instance_id, 16, hex), a);
	assert_ok(fs_write_atomic(path, "rubbish", 7, true, 0600, &e), &e);	/* damaged: fetched again */
	assert_int_equal(list(NULL, &l, NULL), 1);
	backup_list_free(&l);
	assert_int_equal(reads.n, 4);
}

/* --- points ------------------------------------------------------------------------------------------------------- */

#define DAY INT64_C(86400)

/* web: complete on days 1 and 2, incomplete on day 3; db: incomplete only.  Days count from 2026-11-20 12:00 UTC. */
static void make_points(struct backup_list *l)
{
	static const struct { const char *vm; int day; bool complete; uint8_t id; } rows[] = {
		{ "db", 1, false, 0xd1 }, { "web", 1, true, 0xab }, { "web", 2, true, 0xac }, { "web", 3, false, 0xad },
	};

	l->p = calloc(4, sizeof(*l->p));
	l->n = 4;
	for (size_t i = 0; i < 4; i++) {
		struct backup *b = &l->p[i];

		b->m = test_manifest(rows[i].vm, 1);
		b->m->end_ns = (INT64_C(1795176000) + (rows[i].day - 1) * DAY) * 1000000000;
		b->m->complete = rows[i].complete;
		b->name = strdup("x");
		memset(b->hash.b, rows[i].id, ID_BYTES);
		b->hash.b[1] = 0xcd;
	}
}

static void test_point__finds(void **state)
{
	static const struct { const char *text; size_t backup, state_index; int disk;
	} found[] = {
		{ "web", 2, 0, -1 },
		{ "web@latest", 2, 0, -1 },
		{ "web/current", 2, 0, -1 },
		{ "web@abcd", 1, 0, -1 },
		{ "web@adcdad", 3, 0, -1 },
		{ "db@d1cd", 0, 0, -1 },
		{ "web@2026-11-20", 1, 0, -1 },
		{ "web@2026-11-21", 2, 0, -1 },
		{ "web@2026-11-22T00:00Z", 2, 0, -1 },
		{ "web@2026-11-21T11:59Z", 1, 0, -1 },
		{ "web@2026-11-21 12:00:00Z", 2, 0, -1 },
		{ "web@2027-01-01T00:00", 2, 0, -1 },
		{ "web:vda", 2, 0, 0 },
		{ "web:vdb@abcd", 1, 0, 1 },
		{ "web/snap:night/3", 2, 1, -1 },
		{ "web:vda@abcd/snap:night/3", 1, 1, 0 },
		{ "web/snapid:17", 2, 1, -1 },
	};
	struct backup_list l;
	struct err e = ERR_INIT;

	(void)state;
	make_points(&l);
	for (size_t i = 0; i < sizeof(found) / sizeof(*found); i++) {
		const struct backup *b = NULL;
		struct point p;

		if (point_find(&l, found[i].text, &p, &e) < 0)
			fail_msg("%s: %s", found[i].text, e.cause);
		if (p.backup != &l.p[found[i].backup] || p.state != found[i].state_index ||
		    p.has_disk != (found[i].disk >= 0) || (p.has_disk && (int)p.disk != found[i].disk))
			fail_msg("%s finds another point", found[i].text);
		if (!strpbrk(found[i].text, "/") && found[i].disk < 0) {
			assert_ok(backup_find(&l, found[i].text, &b, &e), &e);
			assert_ptr_equal(b, p.backup);
		}
	}
	assert_non_null(point_disk(l.p[1].m, 0, 1));
	assert_null(point_disk(l.p[1].m, 1, 1));
	backup_list_free(&l);
}

static void test_point__refuses(void **state)
{
	static const struct { const char *text; int code; const char *says;
	} bad[] = {
		{ "mail", ERR_NOTFOUND, "VMs here: db, web" },
		{ "", ERR_INVALID, "VM[:DISK]" },
		{ "web@", ERR_INVALID, "VM[:DISK]" },
		{ "web/", ERR_INVALID, "VM[:DISK]" },
		{ "web:", ERR_INVALID, "VM[:DISK]" },
		{ "w b", ERR_INVALID, "VM[:DISK]" },
		{ "@latest", ERR_INVALID, "VM[:DISK]" },
		{ "web@soon", ERR_INVALID, "neither latest" },
		{ "web@abc", ERR_INVALID, "neither latest" },
		{ "web@ffff", ERR_NOTFOUND, "abcdabababab" },
		{ "db", ERR_NOTFOUND, "named by its id: d1cdd1d1d1d1" },
		{ "web@2026-11-22", ERR_NOTFOUND, "incomplete" },
		{ "web@2026-11-19", ERR_NOTFOUND, "fits" },
		{ "web@2026-11-19T23:00Z", ERR_NOTFOUND, "fits" },
		{ "web:vdc", ERR_NOTFOUND, "disks there: vda, vdb" },
		{ "web/snap:x", ERR_NOTFOUND, "snap:night/3" },
		{ "web:vdb/snap:night/3", ERR_NOTFOUND, "of disk vdb" },
		{ "web/latest", ERR_INVALID, "is no state" },
		{ "web/snapid:18", ERR_NOTFOUND, "states there" },
		{ "web/layer:a.qcow2", ERR_NOTFOUND, "states there" },
	};
	const struct backup *b = NULL;
	struct backup_list l;
	struct err e = ERR_INIT;

	(void)state;
	make_points(&l);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		char all[ERR_CAUSE_BYTES + ERR_HINT_BYTES + 2];
		struct point p;

		if (point_find(&l, bad[i].text, &p, &e) != bad[i].code)
			fail_msg("\"%s\": %d %s", bad[i].text, e.code, e.cause);
		snprintf(all, sizeof(all), "%s\n%s", e.cause, e.hint);
		assert_has(all, bad[i].says);
		err_clear(&e);
	}
	assert_err(backup_find(&l, "web/current", &b, &e), ERR_INVALID, &e);
	assert_err(backup_find(&l, "web:vda", &b, &e), ERR_INVALID, &e);
	l.p[2].hash.b[0] = 0xab;	/* two ids with one beginning */
	assert_int_equal(point_find(&l, "web@abcd", &(struct point){ 0 }, &e), ERR_INVALID);
	assert_has(e.cause, "2 backups");
	backup_list_free(&l);
}

/* Two snapshots of one name, and two layers of one file name. */
static void test_point__ambiguous_states(void **state)
{
	struct backup_list l;
	struct err e = ERR_INIT;
	struct manifest_state *s;
	struct manifest *m;
	struct point p;

	(void)state;
	make_points(&l);
	m = l.p[2].m;
	s = VEC_PUSH(&m->states, &e);
	s->kind = STATE_SNAPSHOT;
	s->name = strdup("night/3");
	*VEC_PUSH(&s->disks, &e) = (struct manifest_state_disk){ .disk = 0, .snapshot_id = strdup("18") };
	for (int i = 0; i < 2; i++) {
		s = VEC_PUSH(&m->states, &e);
		s->kind = STATE_LAYER;
		s->name = strdup("base.qcow2");
		*VEC_PUSH(&s->disks, &e) = (struct manifest_state_disk){ .disk = 0, .layer = (uint32_t)i };
	}
	assert_int_equal(point_find(&l, "web/snap:night/3", &p, &e), ERR_INVALID);
	assert_has(e.cause, "snapid:17, snapid:18");
	assert_ok(point_find(&l, "web/snapid:18", &p, &e), &e);
	assert_int_equal(p.state, 2);
	assert_int_equal(point_find(&l, "web/layer:base.qcow2", &p, &e), ERR_INVALID);
	assert_has(e.cause, "layer:/images/a.qcow2, layer:/images/base.qcow2");
	assert_ok(point_find(&l, "web/layer:/images/base.qcow2", &p, &e), &e);
	assert_int_equal(p.state, 4);
	backup_list_free(&l);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_backups__listed_in_order),
		T(test_backups__what_must_not_count),
		T(test_backups__pending_and_void),
		T(test_backups__of_a_slot_that_is_not_trusted),
		T(test_backups__pending_by_its_restore_record),
		T(test_backups__put_key),
		T(test_seen__newest_hidden),
		T(test_seen__forgotten_and_gone_is_no_loss),
		T(test_seen__gap_in_the_chain),
		T(test_seen__older_slot_record),
		T(test_seen__others_work_meanwhile),
		T(test_seen__damaged_state_file),
		T(test_seen__unreadable_state_file),
		T(test_own_head__from_store_and_memory),
		T(test_own_head__of_two_at_once),
		T(test_cache__far_stores_are_read_once),
		cmocka_unit_test(test_point__finds),
		cmocka_unit_test(test_point__refuses),
		cmocka_unit_test(test_point__ambiguous_states),
	};

	setenv("TZ", "UTC", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
