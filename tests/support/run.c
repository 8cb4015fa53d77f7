/* run.c - backups of made-up chunks. */
#include "tests/test.h"

#include "repo/manifest.h"
#include "tests/support/repo.h"
#include "tests/support/run.h"

static int hook(void *opaque, const struct store_fault_call *c, struct err *e)
{
	struct run_fx *fx = opaque;
	unsigned n;

	if (c->when == STORE_FAULT_BEFORE && strcmp(c->op, "put") == 0) {
		char **slot;

		pthread_mutex_lock(&fx->lock);
		slot = VEC_PUSH(&fx->puts, e);
		assert_non_null(slot);
		*slot = strdup(c->name);
		pthread_mutex_unlock(&fx->lock);
	}
	if (fx->stat_fails && atomic_load(&fx->calls) > 0 && strcmp(c->op, "stat") == 0)
		return err_set(e, ERR_TRANSIENT, "no route");
	if (!fx->op || fx->fail_at == 0 || strcmp(c->op, fx->op) != 0 || c->when != fx->when ||
	    strncmp(c->name, fx->prefix, strlen(fx->prefix)) != 0)
		return 0;
	n = atomic_fetch_add(&fx->calls, 1) + 1;
	if (n < fx->fail_at || (fx->fail_calls && n >= fx->fail_at + fx->fail_calls))
		return 0;
	return err_set(e, fx->fail_code, "made to fail");
}

static void notice(void *opaque, const char *text)
{
	struct run_fx *fx = opaque;

	(void)text;
	atomic_fetch_add(&fx->notices, 1);
}

static void open_store(struct run_fx *fx)
{
	struct store *mem = NULL;
	struct err e = ERR_INIT;

	memset(fx, 0, sizeof(*fx));
	pthread_mutex_init(&fx->lock, NULL);
	assert_ok(store_mem_new(&mem, &e), &e);
	assert_ok(store_fault_new(mem, hook, fx, &fx->store, &e), &e);
}

static void open_repo(struct run_fx *fx)
{
	struct repo_open_opts o = { .cancel = &fx->cancel, .notice = notice, .opaque = fx };
	struct secret *s = test_secret(TEST_PASSWORD);
	struct err e = ERR_INIT;

	assert_ok(repo_open(fx->store, s, &o, &fx->repo, &e), &e);
	secret_free(s);
}

void run_fx_new(struct run_fx *fx)
{
	struct repo_init_opts o = {
		.chunk_size = RUN_CHUNK, .pack_size = 1 << 20, .argon_passes = 1, .argon_kib = 8192
	};
	struct secret *s = test_secret(TEST_PASSWORD), *recovery = NULL;
	struct err e = ERR_INIT;

	open_store(fx);
	assert_ok(repo_init(fx->store, s, &o, &recovery, &e), &e);
	secret_free(recovery);
	secret_free(s);
	open_repo(fx);
	run_fx_calm(fx);
}

struct copy {
	struct store *from, *to;
};

static int copy_one(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct copy *c = opaque;
	uint8_t *p = NULL;
	size_t len;

	(void)st;
	if (strcmp(name, "config") != 0 && strncmp(name, "keys/", 5) != 0 && strncmp(name, "slots/", 6) != 0)
		return 0;
	assert_ok(store_get(c->from, name, 1 << 20, &p, &len, e), e);
	assert_ok(store_put(c->to, name, p, len, 0, e), e);
	free(p);
	return 0;
}

void run_fx_like(struct run_fx *fx, struct run_fx *other)
{
	struct copy c = { .from = other->store };
	struct err e = ERR_INIT;

	open_store(fx);
	c.to = fx->store;
	assert_ok(store_list(other->store, "", copy_one, &c, &e), &e);
	open_repo(fx);
	run_fx_calm(fx);
}

void run_fx_calm(struct run_fx *fx)
{
	fx->op = fx->prefix = NULL;
	fx->fail_at = fx->fail_calls = 0;
	fx->stat_fails = false;
	atomic_store(&fx->calls, 0);
	atomic_store(&fx->cancel.requested, 0);
	pthread_mutex_lock(&fx->lock);
	for (size_t i = 0; i < fx->puts.n; i++)
		free(fx->puts.p[i]);
	VEC_DONE(&fx->puts);
	pthread_mutex_unlock(&fx->lock);
}

void run_fx_done(struct run_fx *fx)
{
	run_fx_calm(fx);
	repo_close(fx->repo);
	store_close(fx->store);
	pthread_mutex_destroy(&fx->lock);
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

void run_chunk(uint64_t seed, uint64_t i, uint8_t out[RUN_CHUNK])
{
	uint64_t x;

	memset(out, 0, RUN_CHUNK);
	if (i % 5 == 4)
		return;
	if (i % 17 == 3)
		i = 3;		/* the same content in many places */
	x = mix(seed * 1000003 + i);
	for (size_t at = 0; at < RUN_CHUNK; at += 8) {
		x = i % 2 ? mix(x) : x + (at % 512 == 0);
		memcpy(out + at, &x, 8);
	}
}

static bool is_zero(const uint8_t *p)
{
	for (size_t i = 0; i < RUN_CHUNK; i++)
		if (p[i])
			return false;
	return true;
}

static int emit(void *opaque, const uint8_t *encoded, size_t len, struct id *ret_id, struct err *e)
{
	return repo_writer_add_node(opaque, encoded, len, ret_id, e);
}

static int put_chunk(struct run_fx *fx, struct repo_writer *w, struct tree_builder *b, uint64_t i, uint8_t *plain,
		     struct err *e)
{
	struct id id;
	int r;

	if (is_zero(plain)) {
		free(plain);
		return 0;
	}
	test_id_of_chunk(fx->repo, NULL, plain, RUN_CHUNK, &id);
	r = repo_writer_has(w, &id, e);
	if (r == 0)
		r = repo_writer_add_chunk(w, "default", &id, plain, e);
	else
		free(plain);
	return r < 0 ? r : tree_builder_set(b, i, &id, e);
}

int run_disk(struct run_fx *fx, struct repo_writer *w, uint64_t seed, uint64_t n, struct tree_ref *ret, struct err *e)
{
	struct tree_builder_opts o = { .size = n * RUN_CHUNK, .chunk_size = RUN_CHUNK, .emit = emit, .opaque = w };
	struct tree_builder *b = NULL;
	int r = tree_builder_new(&o, &b, e);

	for (uint64_t i = 0; r >= 0 && i < n; i++) {
		uint8_t *plain = malloc(RUN_CHUNK);

		assert_non_null(plain);
		run_chunk(seed, i, plain);
		r = put_chunk(fx, w, b, i, plain, e);
	}
	if (r >= 0)
		r = tree_builder_finish(b, ret, e);
	tree_builder_free(b);
	return r;
}

struct manifest *run_manifest(const struct tree_ref *t)
{
	struct err e = ERR_INIT;
	struct manifest *m = manifest_new(&e);
	struct manifest_disk *d;
	struct manifest_state *s;
	struct manifest_state_disk *sd;
	struct manifest_layer *l;

	assert_non_null(m);
	m->vm = strdup("vm");
	m->host = strdup("host");
	m->machine_source = strdup("host:/vm");
	m->start_ns = 1;
	m->end_ns = 2;
	m->complete = true;
	d = VEC_PUSH(&m->disks, &e);
	d->name = strdup("vda");
	d->format = strdup("raw");
	d->path = strdup("/vm.img");
	d->domain = strdup("default");
	l = VEC_PUSH(&d->layers, &e);
	l->path = strdup("/vm.img");
	l->format = strdup("raw");
	l->virtual_size = t->size;
	s = VEC_PUSH(&m->states, &e);
	s->kind = STATE_CURRENT;
	s->name = strdup("current");
	sd = VEC_PUSH(&s->disks, &e);
	sd->tree = *t;
	return m;
}

int run_backup(struct run_fx *fx, uint64_t seed, uint64_t n, bool save, struct tree_ref *ret,
	       struct repo_writer_stats *ret_stats, struct err *e)
{
	struct repo_writer_opts o = { .vm = "vm", .threads = 2 };
	struct repo_writer *w = NULL;
	struct manifest *m;
	struct tree_ref t;
	struct id id;
	int r = repo_writer_open(fx->repo, &o, &w, e);

	if (r < 0)
		return r;
	r = run_disk(fx, w, seed, n, &t, e);
	if (r >= 0) {
		m = run_manifest(&t);
		r = repo_writer_commit(w, m, &id, e);
		manifest_free(m);
	}
	if (ret_stats)
		repo_writer_stats(w, ret_stats);
	repo_writer_close(w, save);
	if (r >= 0)
		*ret = t;
	return r;
}

void run_verify(struct run_fx *fx, uint64_t seed, uint64_t n, const struct tree_ref *t)
{
	struct repo_reader *rd = NULL;
	struct err e = ERR_INIT;
	uint8_t want[RUN_CHUNK], *got = malloc(n * RUN_CHUNK + 1);

	assert_non_null(got);
	assert_ok(repo_reader_new(fx->repo, 0, &rd, &e), &e);
	assert_int_equal(t->size, n * RUN_CHUNK);
	assert_ok(repo_reader_pread(rd, "default", t, got, n * RUN_CHUNK, 0, &e), &e);
	for (uint64_t i = 0; i < n; i++) {
		run_chunk(seed, i, want);
		assert_memory_equal(got + i * RUN_CHUNK, want, RUN_CHUNK);
	}
	free(got);
	repo_reader_free(rd);
}

static int count_one(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	(void)name;
	(void)st;
	(void)e;
	++*(unsigned *)opaque;
	return 0;
}

unsigned run_count(struct run_fx *fx, const char *prefix)
{
	struct err e = ERR_INIT;
	unsigned n = 0;

	assert_ok(store_list(fx->store, prefix, count_one, &n, &e), &e);
	return n;
}
