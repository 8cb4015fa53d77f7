/*
 * nodes.c - where tree nodes come from and go to during a run.
 *
 * A state is built on the tree of the state before it, whose new nodes may still wait in an open pack.  The newest
 * are kept in a direct-mapped table; one that was pushed out and is not durable yet is had by a flush of the writer.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "repo/ingest/ingest_internal.h"

struct kept {
	struct id id;
	uint8_t *p;		/* NULL: empty */
	size_t len;
};

struct nodes {
	struct repo_writer *w;
	struct node_source stored, source;
	struct kept *table;
	uint32_t mask;
	bool unflushed;		/* nodes were emitted since the last flush */
	bool missed;
};

static struct kept *slot_of(struct nodes *n, const struct id *id)
{
	return &n->table[get_le32(id->b) & n->mask];
}

static void keep(struct nodes *n, const struct id *id, const uint8_t *p, size_t len)
{
	struct kept *k = slot_of(n, id);
	uint8_t *copy = malloc(len);

	if (!copy)
		return;		/* a cache: the node can still be had by a flush */
	memcpy(copy, p, len);
	free(k->p);
	*k = (struct kept){ .id = *id, .p = copy, .len = len };
}

static int node_get(void *opaque, const struct id *id, uint8_t *buf, size_t *ret_len, struct err *e)
{
	struct nodes *n = opaque;
	const struct kept *k = slot_of(n, id);
	int r;

	if (k->p && id_eq(&k->id, id)) {
		memcpy(buf, k->p, k->len);
		*ret_len = k->len;
		return 0;
	}
	r = n->stored.get(n->stored.opaque, id, buf, ret_len, e);
	if (r == ERR_NOTFOUND && n->unflushed) {
		err_clear(e);
		if (repo_writer_flush(n->w, e) < 0)
			return e->code;
		n->unflushed = false;
		r = n->stored.get(n->stored.opaque, id, buf, ret_len, e);
	}
	if (r == ERR_NOTFOUND || r == ERR_CORRUPT)
		n->missed = true;
	return r;
}

int nodes_emit(void *opaque, const uint8_t *encoded, size_t len, struct id *ret_id, struct err *e)
{
	struct nodes *n = opaque;
	struct id id;

	if (repo_writer_add_node(n->w, encoded, len, &id, e) < 0)
		return e->code;
	n->unflushed = true;
	keep(n, &id, encoded, len);
	*ret_id = id;
	return 0;
}

int nodes_new(struct repo_writer *w, size_t max_bytes, struct nodes **ret, struct err *e)
{
	struct nodes *n = calloc(1, sizeof(*n));
	uint32_t slots = 16;

	if (!n)
		return err_set(e, ERR_NOMEM, "no memory for nodes");
	while (slots < 65536 && (size_t)slots * 2 * NODE_MAX_BYTES <= max_bytes)
		slots *= 2;
	n->w = w;
	n->stored = repo_reader_nodes(repo_writer_reader(w));
	n->source = (struct node_source){ .get = node_get, .opaque = n };
	n->mask = slots - 1;
	n->table = calloc(slots, sizeof(*n->table));
	if (!n->table) {
		nodes_free(n);
		return err_set(e, ERR_NOMEM, "no memory for %u nodes", slots);
	}
	*ret = n;
	return 0;
}

void nodes_free(struct nodes *n)
{
	if (!n)
		return;
	for (uint32_t i = 0; n->table && i <= n->mask; i++)
		free(n->table[i].p);
	free(n->table);
	free(n);
}

const struct node_source *nodes_source(struct nodes *n)
{
	return &n->source;
}

bool nodes_missed(struct nodes *n)
{
	bool missed = n->missed;

	n->missed = false;
	return missed;
}
