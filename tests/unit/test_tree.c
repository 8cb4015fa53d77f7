/* test_tree.c - trees against a model that holds every chunk in an array and builds every tree from nothing. */
#include "tests/test.h"

#include <sodium.h>

#include "base/num.h"
#include "repo/tree.h"

#define CHUNK 4096u
#define MODEL_MAX 140000u	/* chunks: three levels and part of a fourth child */

/* A store of nodes: id = hash of the encoding. */
struct nodes {
	struct {
		struct id id;
		uint8_t raw[NODE_MAX_BYTES];
		size_t len;
	} *p;
	size_t n, cap;
	size_t reads, emits;
};

static void node_id(const uint8_t *raw, size_t len, struct id *ret)
{
	crypto_generichash(ret->b, ID_BYTES, raw, len, NULL, 0);
}

static size_t nodes_find(const struct nodes *s, const struct id *id)
{
	size_t i = 0;

	while (i < s->n && !id_eq(&s->p[i].id, id))
		i++;
	return i;
}

static int nodes_get(void *opaque, const struct id *id, uint8_t *buf, size_t *ret_len, struct err *e)
{
	struct nodes *s = opaque;
	size_t i = nodes_find(s, id);

	s->reads++;
	if (i == s->n)
		return err_set(e, ERR_NOTFOUND, "no such node");
	memcpy(buf, s->p[i].raw, s->p[i].len);
	*ret_len = s->p[i].len;
	return 0;
}

static int nodes_emit(void *opaque, const uint8_t *raw, size_t len, struct id *ret, struct err *e)
{
	struct nodes *s = opaque;

	(void)e;
	s->emits++;
	node_id(raw, len, ret);
	if (nodes_find(s, ret) < s->n)
		return 0;
	if (s->n == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 64;
		s->p = realloc(s->p, s->cap * sizeof(*s->p));
		assert_non_null(s->p);
	}
	s->p[s->n].id = *ret;
	memcpy(s->p[s->n].raw, raw, len);
	s->p[s->n++].len = len;
	return 0;
}

static struct node_source nodes_source(struct nodes *s)
{
	return (struct node_source){ .get = nodes_get, .opaque = s };
}

/* The model: value 0 is a zero chunk, other values stand for ids. */
struct model {
	uint64_t size;
	uint32_t v[MODEL_MAX];
};

static struct id id_of(uint32_t value)
{
	struct id id = { { 0 } };

	memcpy(id.b, &value, sizeof(value));
	id.b[31] = 1;
	return id;
}

static uint64_t model_chunks(const struct model *m)
{
	return div_up(m->size, CHUNK);
}

static void model_resize(struct model *m, uint64_t size)
{
	m->size = size;
	for (uint64_t i = model_chunks(m); i < MODEL_MAX; i++)
		m->v[i] = 0;
}

/* The naive way: each node from its whole range. */
static bool model_node(const struct model *m, struct nodes *s, uint32_t level, uint64_t index, struct id *ret)
{
	struct node n = { .level = level };
	uint8_t raw[NODE_MAX_BYTES];
	struct err e = ERR_INIT;
	bool any = false;

	if ((index << (8 * level)) >= MODEL_MAX)
		return false;
	for (uint32_t i = 0; i < TREE_FANOUT; i++) {
		uint64_t at = index * TREE_FANOUT + i;
		bool has;

		if (level > 1) {
			has = model_node(m, s, level - 1, at, &n.child[i]);
		} else {
			has = at < MODEL_MAX && m->v[at];
			if (has)
				n.child[i] = id_of(m->v[at]);
		}
		if (has)
			n.present[i / 8] |= (uint8_t)(1u << (i % 8));
		any |= has;
	}
	if (any)
		assert_ok(nodes_emit(s, raw, node_encode(&n, raw), ret, &e), &e);
	return any;
}

static struct tree_ref model_tree(const struct model *m, struct nodes *s)
{
	struct tree_ref t = { .size = m->size, .height = tree_height(m->size, CHUNK) };

	t.has_root = model_node(m, s, t.height, 0, &t.root);
	return t;
}

static void assert_tree_eq(const struct tree_ref *a, const struct tree_ref *b)
{
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->height, b->height);
	assert_int_equal(a->has_root, b->has_root);
	if (a->has_root)
		assert_memory_equal(a->root.b, b->root.b, ID_BYTES);
}

static uint32_t rnd(uint32_t below)
{
	return randombytes_uniform(below);
}

static uint64_t random_size(void)
{
	static const uint32_t chunks[] = { 0,	  1,	 2,	255,	     256,    257,      600,
					   65535, 65536, 65537, 65536 + 256, 131072, MODEL_MAX };
	uint64_t n = chunks[rnd(sizeof(chunks) / sizeof(chunks[0]))];

	return n == 0 ? 0 : n * CHUNK - rnd(CHUNK);
}

static void random_fill(struct model *m)
{
	uint64_t n = model_chunks(m);

	for (uint32_t k = n ? rnd(40) : 0; k > 0; k--) {
		uint64_t at = rnd((uint32_t)n), len = rnd(2) ? 1 + rnd(3) : 1 + rnd(1500);

		for (; len > 0 && at < n; len--, at++)
			m->v[at] = rnd(8) ? 1 + rnd(100000) : 0;
	}
}

/* Applies random changes to both; returns through b's calls. */
static void random_changes(struct model *m, struct tree_builder *b)
{
	uint64_t n = model_chunks(m), at = 0;
	struct err e = ERR_INIT;

	for (uint32_t k = rnd(60); k > 0 && at < n; k--) {
		uint64_t step = rnd(4) ? rnd(20) : rnd(30000), to;
		struct id id;

		at += step;
		if (at >= n)
			break;
		switch (rnd(4)) {
		case 0:
			to = at + (rnd(2) ? rnd(10) : rnd(70000));
			assert_ok(tree_builder_zero(b, at, to, &e), &e);
			for (; at < to && at < n; at++)
				m->v[at] = 0;
			break;
		case 1:
			m->v[at] = 0;
			assert_ok(tree_builder_set(b, at++, NULL, &e), &e);
			break;
		case 2:	/* the same again, where there is something */
			id = id_of(m->v[at]);
			assert_ok(tree_builder_set(b, at, m->v[at] ? &id : NULL, &e), &e);
			at++;
			break;
		default:
			m->v[at] = 1 + rnd(100000);
			id = id_of(m->v[at]);
			assert_ok(tree_builder_set(b, at++, &id, &e), &e);
		}
	}
}

struct diff_check {
	const struct model *a, *b;
	uint64_t next;
};

static uint32_t value_at(const struct model *m, uint64_t i)
{
	return i < MODEL_MAX ? m->v[i] : 0;
}

static int diff_seen(void *opaque, uint64_t index, const struct id *a, const struct id *b, struct err *e)
{
	struct diff_check *c = opaque;
	struct id want;

	(void)e;
	assert_true(index >= c->next && index < MODEL_MAX);
	for (; c->next < index; c->next++)
		assert_int_equal(value_at(c->a, c->next), value_at(c->b, c->next));
	assert_int_not_equal(value_at(c->a, index), value_at(c->b, index));
	assert_int_equal(a != NULL, value_at(c->a, index) != 0);
	assert_int_equal(b != NULL, value_at(c->b, index) != 0);
	want = id_of(value_at(c->a, index));
	assert_true(!a || id_eq(a, &want));
	want = id_of(value_at(c->b, index));
	assert_true(!b || id_eq(b, &want));
	c->next = index + 1;
	return 0;
}

static void check_diff(struct nodes *s, const struct model *ma, const struct tree_ref *a, const struct model *mb,
		       const struct tree_ref *b)
{
	struct diff_check c = { .a = ma, .b = mb };
	struct node_source src = nodes_source(s);
	struct err e = ERR_INIT;

	assert_ok(tree_diff(&src, a, b, CHUNK, diff_seen, &c, &e), &e);
	for (; c.next < MODEL_MAX; c.next++)
		assert_int_equal(ma->v[c.next], mb->v[c.next]);
}

static void check_walk(struct nodes *s, const struct model *m, const struct tree_ref *t, uint64_t first)
{
	struct node_source src = nodes_source(s);
	struct err e = ERR_INIT;
	struct tree_walk *w = NULL;
	struct id id, want;
	uint64_t at = first, index;
	int r;

	assert_ok(tree_walk_new(&src, t, CHUNK, first, &w, &e), &e);
	while ((r = tree_walk_next(w, &index, &id, &e)) == 1) {
		for (; at < index; at++)
			assert_int_equal(value_at(m, at), 0);
		want = id_of(value_at(m, index));
		assert_memory_equal(id.b, want.b, ID_BYTES);
		at = index + 1;
		if (rnd(50) == 0) {
			at += rnd(5000);
			tree_walk_seek(w, at);
		}
	}
	assert_ok(r, &e);
	for (; at < MODEL_MAX; at++)
		assert_int_equal(m->v[at], 0);
	tree_walk_free(w);
}

static struct model *model_new(uint64_t size)
{
	struct model *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	m->size = size;
	return m;
}

static struct tree_builder *builder(struct nodes *s, const struct node_source *src, const struct tree_ref *base,
				    uint64_t size)
{
	struct tree_builder_opts o = {
		.size = size, .chunk_size = CHUNK, .base = base, .src = src, .emit = nodes_emit, .opaque = s
	};
	struct tree_builder *b = NULL;
	struct err e = ERR_INIT;

	assert_ok(tree_builder_new(&o, &b, &e), &e);
	return b;
}

static void test_tree__random_builds_equal_the_model(void **state)
{
	(void)state;
	for (int round = 0; round < 120; round++) {
		struct nodes s = { 0 };
		struct node_source src = nodes_source(&s);
		struct model *a = model_new(random_size()), *m;
		struct tree_ref base, got, want;
		struct tree_builder *b;
		struct err e = ERR_INIT;
		uint64_t size = rnd(3) ? random_size() : a->size;
		size_t stored;

		random_fill(a);
		base = model_tree(a, &s);
		m = model_new(a->size);
		memcpy(m->v, a->v, sizeof(m->v));
		model_resize(m, size);
		b = builder(&s, &src, &base, size);
		random_changes(m, b);
		assert_ok(tree_builder_finish(b, &got, &e), &e);
		tree_builder_free(b);
		stored = s.n;
		want = model_tree(m, &s);
		assert_tree_eq(&got, &want);
		assert_int_equal(s.n, stored);	/* every node of the new tree was there: emitted or the base's */
		check_diff(&s, a, &base, m, &got);
		check_diff(&s, m, &got, a, &base);
		check_walk(&s, m, &got, 0);
		check_walk(&s, m, &got, rnd(MODEL_MAX));
		free(a);
		free(m);
		free(s.p);
	}
}

static void set(struct tree_builder *b, uint64_t index, uint32_t value)
{
	struct id id = id_of(value);
	struct err e = ERR_INIT;

	assert_ok(tree_builder_set(b, index, &id, &e), &e);
}

/* A full tree of three levels: 131072 chunks. */
static struct tree_ref full_tree(struct nodes *s, struct model *m)
{
	for (uint32_t i = 0; i < 131072; i++)
		m->v[i] = i + 1;
	m->size = 131072ull * CHUNK;
	return model_tree(m, s);
}

static void test_tree__work_follows_change(void **state)
{
	struct nodes s = { 0 };
	struct node_source src = nodes_source(&s);
	struct model *m = model_new(0);
	struct tree_ref base = full_tree(&s, m), t;
	struct err e = ERR_INIT;
	struct tree_builder *b;

	(void)state;
	s.reads = s.emits = 0;
	b = builder(&s, &src, &base, base.size);
	assert_ok(tree_builder_finish(b, &t, &e), &e);
	tree_builder_free(b);
	assert_tree_eq(&t, &base);
	assert_int_equal(s.reads, 0);
	assert_int_equal(s.emits, 0);

	b = builder(&s, &src, &base, base.size);
	set(b, 70000, 70001);	/* the value it has */
	assert_ok(tree_builder_finish(b, &t, &e), &e);
	tree_builder_free(b);
	assert_tree_eq(&t, &base);
	assert_int_equal(s.emits, 0);
	assert_int_equal(s.reads, 2 * 3);	/* each twice: memory is not believed */

	s.reads = 0;
	b = builder(&s, &src, &base, base.size);
	set(b, 5, 1000000);
	set(b, 6, 1000001);
	set(b, 131071, 1000002);
	assert_ok(tree_builder_finish(b, &t, &e), &e);
	tree_builder_free(b);
	assert_int_equal(s.reads, 2 * 5);	/* root, and two nodes on each of two paths */
	assert_int_equal(s.emits, 5);

	s.reads = s.emits = 0;
	b = builder(&s, &src, &base, base.size);
	assert_ok(tree_builder_zero(b, 256, 131072, &e), &e);
	assert_ok(tree_builder_finish(b, &t, &e), &e);
	tree_builder_free(b);
	assert_int_equal(s.reads, 2 * 2);	/* root and its first child: whole subtrees go unread */
	assert_int_equal(s.emits, 2);
	free(m);
	free(s.p);
}

static void test_tree__growth_and_shrink_read_the_path_only(void **state)
{
	struct nodes s = { 0 };
	struct node_source src = nodes_source(&s);
	struct model *m = model_new(0);
	struct tree_ref base = full_tree(&s, m), t, back;
	struct err e = ERR_INIT;
	struct tree_builder *b;

	(void)state;
	s.reads = s.emits = 0;
	b = builder(&s, &src, &base, (uint64_t)CHUNK << 33);
	assert_ok(tree_builder_finish(b, &t, &e), &e);
	tree_builder_free(b);
	assert_int_equal(t.height, 5);
	assert_int_equal(s.reads, 0);
	assert_int_equal(s.emits, 2);
	b = builder(&s, &src, &t, base.size);
	s.reads = s.emits = 0;
	assert_ok(tree_builder_finish(b, &back, &e), &e);
	tree_builder_free(b);
	assert_tree_eq(&back, &base);
	assert_int_equal(s.emits, 0);
	free(m);
	free(s.p);
}

static void test_tree__zero_everything_has_no_root(void **state)
{
	struct nodes s = { 0 };
	struct node_source src = nodes_source(&s);
	struct model *m = model_new(0);
	struct tree_ref base = full_tree(&s, m), t;
	struct err e = ERR_INIT;
	struct tree_builder *b;

	(void)state;
	s.reads = s.emits = 0;
	b = builder(&s, &src, &base, base.size + 1);
	assert_ok(tree_builder_zero(b, 0, UINT64_MAX, &e), &e);
	assert_ok(tree_builder_finish(b, &t, &e), &e);
	tree_builder_free(b);
	assert_false(t.has_root);
	assert_int_equal(t.height, 3);
	assert_int_equal(s.reads, 0);
	b = builder(&s, &src, &base, 0);
	assert_ok(tree_builder_finish(b, &t, &e), &e);
	tree_builder_free(b);
	assert_false(t.has_root);
	assert_int_equal(t.height, 1);
	assert_int_equal(s.emits, 0);
	free(m);
	free(s.p);
}

static void test_tree__order_and_range_are_checked(void **state)
{
	struct nodes s = { 0 };
	struct tree_builder *b = builder(&s, NULL, NULL, 10 * CHUNK);
	struct err e = ERR_INIT;
	struct id id = id_of(1);

	(void)state;
	assert_ok(tree_builder_set(b, 3, &id, &e), &e);
	assert_err(tree_builder_set(b, 3, &id, &e), ERR_INVALID, &e);
	assert_err(tree_builder_set(b, 10, &id, &e), ERR_INVALID, &e);
	assert_err(tree_builder_zero(b, 2, 5, &e), ERR_INVALID, &e);
	tree_builder_free(b);
	free(s.p);
}

static void test_tree__height_covers_size(void **state)
{
	(void)state;
	assert_int_equal(tree_height(0, CHUNK), 1);
	assert_int_equal(tree_height(1, CHUNK), 1);
	assert_int_equal(tree_height(256ull * CHUNK, CHUNK), 1);
	assert_int_equal(tree_height(256ull * CHUNK + 1, CHUNK), 2);
	assert_int_equal(tree_height(65536ull * CHUNK, CHUNK), 2);
	assert_int_equal(tree_height(65536ull * CHUNK + 1, CHUNK), 3);
	assert_int_equal(tree_height(UINT64_MAX, CHUNK), 7);
}

static void test_tree__hostile_nodes_are_refused(void **state)
{
	struct nodes s = { 0 };
	struct node_source src = nodes_source(&s);
	struct node n = { .level = 1 }, back;
	struct tree_ref t = { .has_root = true, .height = 1, .size = 3 * CHUNK };
	struct err e = ERR_INIT;
	struct tree_walk *w = NULL;
	uint8_t raw[NODE_MAX_BYTES];
	uint64_t index;
	struct id id;
	size_t len;

	(void)state;
	n.present[0] = 0x09;	/* children 0 and 3: 3 is beyond the end */
	n.child[0] = id_of(1);
	n.child[3] = id_of(2);
	len = node_encode(&n, raw);
	assert_int_equal(len, 34 + 64);
	assert_ok(nodes_emit(&s, raw, len, &t.root, &e), &e);
	assert_ok(tree_walk_new(&src, &t, CHUNK, 0, &w, &e), &e);
	assert_err(tree_walk_next(w, &index, &id, &e), ERR_CORRUPT, &e);
	tree_walk_free(w);
	t.height = 2;
	assert_err(tree_walk_new(&src, &t, CHUNK, 0, &w, &e), ERR_CORRUPT, &e);
	for (size_t cut = 0; cut < len; cut++)
		assert_err(node_decode(raw, cut, 1, &back, &e), ERR_CORRUPT, &e);
	assert_err(node_decode(raw, len, 2, &back, &e), ERR_CORRUPT, &e);
	assert_ok(node_decode(raw, len, 1, &back, &e), &e);
	assert_memory_equal(&back, &n, sizeof(n));
	raw[0] = 2;
	assert_err(node_decode(raw, len, 1, &back, &e), ERR_UNSUPPORTED, &e);
	memset(raw + 2, 0, 32);
	raw[0] = 1;
	assert_err(node_decode(raw, 34, 1, &back, &e), ERR_CORRUPT, &e);	/* no children: never stored */
	free(s.p);
}

/* Without any one node the walk finds all that does not lie below it, and says what does. */
static void test_tree__a_lost_node_costs_what_is_below(void **state)
{
	enum { SIZE = 3 * 256 + 10 };
	struct model *m = model_new((uint64_t)SIZE * CHUNK);
	struct nodes s = { 0 };
	struct node_source src = nodes_source(&s);
	struct err e = ERR_INIT;
	struct tree_ref t;

	(void)state;
	for (uint32_t i = 0; i < SIZE; i += 3)
		m->v[i] = i + 1;
	m->v[SIZE - 1] = 5;
	t = model_tree(m, &s);
	assert_int_equal(s.n, 5);
	for (size_t lost = 0; lost < s.n; lost++) {
		uint64_t index, at = 1, from, to, skipped = 0;
		struct tree_walk *w = NULL;
		struct id id;
		int r;

		s.p[lost].id.b[0] ^= 1;
		assert_ok(tree_walk_new(&src, &t, CHUNK, 1, &w, &e), &e);
		while ((r = tree_walk_next(w, &index, &id, &e)) != 0) {
			if (r < 0) {
				tree_walk_skip(w, &from, &to);
				assert_true(from >= at && to > from && to <= SIZE);
				for (; at < from; at++)
					assert_int_equal(m->v[at], 0);
				skipped += to - from;
				at = to;
				continue;
			}
			for (; at < index; at++)
				assert_int_equal(m->v[at], 0);
			at = index + 1;
		}
		for (; at < SIZE; at++)
			assert_int_equal(m->v[at], 0);
		assert_true((skipped >= 9 && skipped <= 256) || skipped == SIZE - 1);
		tree_walk_free(w);
		s.p[lost].id.b[0] ^= 1;
	}
	free(s.p);
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree__random_builds_equal_the_model),
		cmocka_unit_test(test_tree__work_follows_change),
		cmocka_unit_test(test_tree__growth_and_shrink_read_the_path_only),
		cmocka_unit_test(test_tree__zero_everything_has_no_root),
		cmocka_unit_test(test_tree__order_and_range_are_checked),
		cmocka_unit_test(test_tree__height_covers_size),
		cmocka_unit_test(test_tree__hostile_nodes_are_refused),
		cmocka_unit_test(test_tree__a_lost_node_costs_what_is_below),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
