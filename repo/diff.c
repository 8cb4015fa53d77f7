/* diff.c - changed chunks of two trees joined to ranges, and two states compared disk by disk. */
#include "repo/diff.h"

#include <string.h>

#include "base/num.h"

struct joiner {
	uint64_t chunk_size, size;	/* size: of the longer one */
	diff_range_fn fn;
	void *opaque;
	uint64_t off, len;		/* the range at hand; len 0: none */
	struct diff_counts c;
};

static int emit(struct joiner *j, struct err *e)
{
	int r = 0;

	if (j->len == 0)
		return 0;
	j->c.ranges++;
	if (j->fn)
		r = j->fn(j->opaque, j->off, j->len, e);
	j->len = 0;
	return r;
}

static int changed(void *opaque, uint64_t index, const struct id *a, const struct id *b, struct err *e)
{
	struct joiner *j = opaque;
	uint64_t off = index * j->chunk_size, len = min_u64(j->chunk_size, j->size - off);

	if (j->len && j->off + j->len != off && emit(j, e) < 0)
		return e->code;
	if (j->len == 0)
		j->off = off;
	j->len += len;
	j->c.chunks++;
	j->c.bytes += len;
	if (!a)
		j->c.bytes_filled += len;
	if (!b)
		j->c.bytes_zeroed += len;
	return 0;
}

int diff_trees(const struct node_source *src, const struct tree_ref *a, const struct tree_ref *b, uint32_t chunk_size,
	       diff_range_fn fn, void *opaque, struct diff_counts *ret, struct err *e)
{
	struct joiner j = { .chunk_size = chunk_size, .size = max_u64(a->size, b->size), .fn = fn, .opaque = opaque };

	if (tree_diff(src, a, b, chunk_size, changed, &j, e) < 0 || emit(&j, e) < 0)
		return e->code;
	*ret = j.c;
	return 0;
}

void diff_result_done(struct diff_result *d)
{
	for (size_t i = 0; i < d->disks.n; i++)
		free(d->disks.p[i].name);
	VEC_DONE(&d->disks);
}

struct to_disk {
	diff_disk_fn fn;
	void *opaque;
	const struct diff_disk *disk;
};

static int range_of_disk(void *opaque, uint64_t off, uint64_t len, struct err *e)
{
	struct to_disk *t = opaque;

	return t->fn(t->opaque, t->disk, off, len, e);
}

/* The row of the disk of that name in a state; NULL: it has none. */
static const struct manifest_state_disk *row_of(const struct manifest *m, uint32_t state, const char *name)
{
	const struct manifest_state *s = &m->states.p[state];

	for (size_t i = 0; i < s->disks.n; i++)
		if (strcmp(m->disks.p[s->disks.p[i].disk].name, name) == 0)
			return &s->disks.p[i];
	return NULL;
}

static bool same_domain(const struct manifest *a, const struct manifest_state_disk *ra, const struct manifest *b,
			const struct manifest_state_disk *rb)
{
	const char *da = ra ? a->disks.p[ra->disk].domain : NULL, *db = rb ? b->disks.p[rb->disk].domain : NULL;

	return !da || !db || strcmp(da, db) == 0;
}

struct pair {
	struct repo_reader *rd;
	uint32_t chunk_size;
	const struct manifest *a, *b;
	uint32_t sa, sb;
	diff_disk_fn fn;
	void *opaque;
};

static int diff_one(const struct pair *p, const char *name, struct diff_result *ret, struct err *e)
{
	const struct manifest_state_disk *ra = row_of(p->a, p->sa, name), *rb = row_of(p->b, p->sb, name);
	struct tree_ref none = { 0 };
	struct node_source src = repo_reader_nodes(p->rd);
	struct diff_disk *d = VEC_PUSH(&ret->disks, e);
	struct to_disk t = { .fn = p->fn, .opaque = p->opaque, .disk = d };

	if (!d)
		return e->code;
	d->name = strdup(name);
	if (!d->name)
		return err_set(e, ERR_NOMEM, "no memory for a name");
	d->in_a = ra;
	d->in_b = rb;
	d->other_domain = !same_domain(p->a, ra, p->b, rb);
	d->size_a = ra ? ra->tree.size : 0;
	d->size_b = rb ? rb->tree.size : 0;
	if (diff_trees(&src, ra ? &ra->tree : &none, rb ? &rb->tree : &none, p->chunk_size,
		       p->fn ? range_of_disk : NULL, &t, &d->counts, e) < 0)
		return err_ctx(e, "disk %s", name);
	return 0;
}

static int diff_all(const struct pair *p, const char *only, struct diff_result *ret, struct err *e)
{
	const struct manifest *side[2] = { p->a, p->b };
	const uint32_t state[2] = { p->sa, p->sb };

	for (unsigned k = 0; k < 2; k++) {
		const struct manifest_state *s = &side[k]->states.p[state[k]];

		for (size_t i = 0; i < s->disks.n; i++) {
			const char *name = side[k]->disks.p[s->disks.p[i].disk].name;

			if (only && strcmp(only, name) != 0)
				continue;
			if (k == 1 && row_of(p->a, p->sa, name))
				continue;
			if (diff_one(p, name, ret, e) < 0)
				return e->code;
		}
	}
	return 0;
}

int diff_states(struct repo_reader *rd, uint32_t chunk_size, const struct manifest *a, uint32_t sa,
		const struct manifest *b, uint32_t sb, const char *disk, diff_disk_fn fn, void *opaque,
		struct diff_result *ret, struct err *e)
{
	const struct pair p = {
		.rd = rd, .chunk_size = chunk_size, .a = a, .b = b, .sa = sa, .sb = sb, .fn = fn, .opaque = opaque
	};
	struct diff_result d = { 0 };
	int r = diff_all(&p, disk, &d, e);

	if (r == 0 && disk && d.disks.n == 0)
		r = err_set(e, ERR_NOTFOUND, "neither state has a disk \"%s\"", disk);
	if (r < 0) {
		diff_result_done(&d);
		return r;
	}
	*ret = d;
	return 0;
}
