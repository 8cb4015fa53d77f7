/*
 * check_damage.c - lost chunks and nodes as the guest ranges of the points that need them.
 *
 * Subtrees in which nothing is lost are remembered, so that many points that share them cost one walk.
 */
#include <inttypes.h>

#include "base/num.h"
#include "base/text.h"
#include "repo/check_internal.h"
#include "repo/tree_internal.h"

#define SET_ID_BYTES 48u
#define RANGES_PER_TREE 20u /* told one by one; what follows is summed up */

struct mapping {
	struct check *c;
	struct node_source src;
	struct id_set clean;
	size_t clean_max;
	uint32_t chunk_size;
	const struct check_tree *t;
	uint64_t from, to; /* the range at hand; from == to: none */
	uint64_t ranges, bytes; /* of this tree */
	const struct manifest_state *damaged; /* the state that was counted last */
};

static int tell(struct mapping *m, const char *what, uint64_t off, uint64_t len, const char *text, struct err *e)
{
	const struct check_tree *t = m->t;
	struct check_finding f = { .severity = CHECK_DAMAGE,
				   .what = what,
				   .text = text,
				   .vm = t->backup->m->vm,
				   .manifest = t->backup->name,
				   .off = off,
				   .len = len };
	CLEANUP(free_ptr) char *point = t->state ? manifest_state_selector(t->state, e) : NULL;
	CLEANUP(free_ptr) char *disk = text_printf(e, "%s%s", t->disk, t->vm_state ? " (VM state)" : "");

	if ((t->state && !point) || !disk)
		return e->code;
	f.point = point;
	f.disk = disk;
	return check_report(m->c, &f, e);
}

/* Ends the range at hand. */
static int end_range(struct mapping *m, struct err *e)
{
	uint64_t off = m->from, len = m->to - m->from;

	m->from = m->to = 0;
	if (!len)
		return 0;
	m->ranges++;
	m->bytes += len;
	return m->ranges <= RANGES_PER_TREE ? tell(m, "range-lost", off, len, "these bytes can't be restored", e) : 0;
}

static int add_range(struct mapping *m, uint64_t chunk, uint64_t nchunks, struct err *e)
{
	uint64_t size = m->t->tree->size, from = 0, to = 0;

	if (!mul_u64(chunk, m->chunk_size, &from) || from >= size)
		return 0;
	if (!mul_u64(nchunks, m->chunk_size, &to) || to > size - from)
		to = size - from;
	to += from;
	if (m->to != from || m->from == m->to) {
		if (end_range(m, e) < 0)
			return e->code;
		m->from = from;
	}
	m->to = to;
	return 0;
}

/* 1: something below is lost; 0: nothing. */
static int walk(struct mapping *m, const struct id *id, uint32_t level, uint64_t index, struct err *e)
{
	uint64_t nchunks = tree_nchunks(m->t->tree->size, m->chunk_size);
	struct node n;
	int dirty = 0;

	if (level > 0 && id_set_has(&m->clean, id))
		return 0;
	if (id_set_has(&m->c->lost, id))
		return add_range(m, index * tree_span(level), tree_span(level), e) < 0 ? e->code : 1;
	if (level == 0)
		return 0;
	if (cancel_check(m->c->cancel, e) < 0)
		return e->code;
	if (tree_load_node(&m->src, id, level, index, nchunks, &n, e) < 0) {
		if (check_is_final(e->code))
			return e->code;
		err_clear(e);
		return add_range(m, index * tree_span(level), tree_span(level), e) < 0 ? e->code : 1;
	}
	for (uint32_t i = node_next_child(&n, 0); i < TREE_FANOUT; i = node_next_child(&n, i + 1)) {
		int rc = walk(m, &n.child[i], level - 1, index * TREE_FANOUT + i, e);

		if (rc < 0)
			return rc;
		dirty |= rc;
	}
	if (!dirty && m->clean.n < m->clean_max && id_set_add(&m->clean, id, e) < 0)
		return e->code;
	return dirty;
}

static int map_tree(void *opaque, const struct check_tree *t, struct err *e)
{
	struct mapping *m = opaque;
	char text[128];
	int rc;

	m->t = t;
	m->ranges = m->bytes = m->from = m->to = 0;
	if (!t->tree->has_root)
		return 0;
	rc = walk(m, &t->tree->root, t->tree->height, 0, e);
	if (rc < 0 || end_range(m, e) < 0)
		return e->code;
	if (!m->ranges)
		return 0;
	if (t->state && t->state != m->damaged) {
		m->damaged = t->state;
		m->c->res.points_damaged++;
	}
	if (m->ranges <= RANGES_PER_TREE)
		return 0;
	snprintf(text, sizeof(text),
		 "%" PRIu64 " bytes in %" PRIu64 " ranges can't be restored; the first %u are listed", m->bytes,
		 m->ranges, RANGES_PER_TREE);
	return tell(m, "disk-lost", 0, 0, text, e);
}

static void mapping_done(struct mapping *m)
{
	id_set_done(&m->clean);
}

int check_map_damage(struct check *c, struct err *e)
{
	CLEANUP(mapping_done)
	struct mapping m = {
		.c = c,
		.src = repo_reader_nodes(c->rd),
		.clean_max = c->budget / 4 / SET_ID_BYTES,
		.chunk_size = repo_config(c->r)->chunk_size,
	};

	if (!c->lost.n)
		return 0;
	for (size_t i = 0; i < c->backups.n; i++)
		if (check_each_tree(&c->backups.p[i], map_tree, &m, e) < 0)
			return e->code;
	if (c->lost_full)
		return check_find(
			c, CHECK_DAMAGE, "much-lost", NULL, e,
			"%" PRIu64
			" chunks are lost, more than are remembered: more points may be damaged than are listed",
			c->res.chunks_lost);
	return 0;
}
