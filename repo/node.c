/* node.c - one node of a tree: encoding, decoding, children; and the arithmetic of heights (docs/format.md, section
 * 7). */
#include <assert.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/text.h"
#include "repo/tree_internal.h"

#define NODE_HEAD_BYTES 34u	/* version, level, bitmap */

uint64_t tree_nchunks(uint64_t size, uint32_t chunk_size)
{
	return div_up(size, chunk_size);
}

uint32_t tree_height(uint64_t size, uint32_t chunk_size)
{
	uint64_t n = tree_nchunks(size, chunk_size);
	uint32_t h = 1;

	for (; n > TREE_FANOUT; n = div_up(n, TREE_FANOUT))
		h++;
	return h;
}

int tree_ref_check(const struct tree_ref *t, uint32_t chunk_size, struct err *e)
{
	uint32_t want = tree_height(t->size, chunk_size);

	if (t->has_root && t->height != want)
		return err_set(e, ERR_CORRUPT, "tree of %" PRIu64 " bytes has height %" PRIu32 ", not %" PRIu32,
			       t->size, t->height, want);
	return 0;
}

bool node_is_empty(const struct node *n)
{
	return bytes_all_zero(n->present, sizeof(n->present));
}

uint32_t node_next_child(const struct node *n, uint32_t from)
{
	while (from < TREE_FANOUT && !node_has(n, from))
		from = from % 8 == 0 && n->present[from / 8] == 0 ? from + 8 : from + 1;
	return from;
}

void node_set_child(struct node *n, uint32_t i, const struct id *id)
{
	if (id) {
		n->present[i / 8] |= (uint8_t)(1u << (i % 8));
		n->child[i] = *id;
	} else {
		n->present[i / 8] &= (uint8_t)~(1u << (i % 8));
		memset(&n->child[i], 0, sizeof(n->child[i]));
	}
}

bool node_child_is(const struct node *n, uint32_t i, const struct id *id)
{
	if (!node_has(n, i) || !id)
		return !node_has(n, i) && !id;
	return id_eq(&n->child[i], id);
}

size_t node_encode(const struct node *n, uint8_t out[NODE_MAX_BYTES])
{
	size_t len = NODE_HEAD_BYTES;

	assert(!node_is_empty(n));
	assert(n->level >= 1 && n->level <= TREE_HEIGHT_MAX);
	out[0] = FORMAT_VERSION;
	out[1] = (uint8_t)n->level;
	memcpy(out + 2, n->present, sizeof(n->present));
	for (uint32_t i = node_next_child(n, 0); i < TREE_FANOUT; i = node_next_child(n, i + 1)) {
		memcpy(out + len, n->child[i].b, ID_BYTES);
		len += ID_BYTES;
	}
	return len;
}

int node_decode(const void *p, size_t len, uint32_t level, struct node *ret, struct err *e)
{
	struct rd r = rd_of(p, len);
	uint8_t present[32], version, got;
	const uint8_t *ids;
	size_t count = 0;

	if (!rd_u8(&r, &version) || !rd_u8(&r, &got) || !rd_copy(&r, present, sizeof(present)))
		return err_set(e, ERR_CORRUPT, "node ends after %zu bytes", len);
	if (version != FORMAT_VERSION)
		return err_set(e, ERR_UNSUPPORTED, "node has version %u", version);
	if (got != level)
		return err_set(e, ERR_CORRUPT, "node has level %u, not %" PRIu32, got, level);
	for (uint32_t i = 0; i < sizeof(present); i++)
		count += (size_t)__builtin_popcount(present[i]);
	if (count == 0 || r.left != count * ID_BYTES)
		return err_set(e, ERR_CORRUPT, "node of %zu children has %zu bytes", count, len);
	memset(ret, 0, sizeof(*ret));
	ret->level = level;
	memcpy(ret->present, present, sizeof(present));
	for (uint32_t i = node_next_child(ret, 0); i < TREE_FANOUT; i = node_next_child(ret, i + 1))
		if (rd_take(&r, ID_BYTES, &ids))	/* counted above */
			memcpy(ret->child[i].b, ids, ID_BYTES);
	return 0;
}

int tree_load_node(const struct node_source *src, const struct id *id, uint32_t level, uint64_t index, uint64_t nchunks,
		   struct node *ret, struct err *e)
{
	uint8_t raw[NODE_MAX_BYTES];
	char hex[2 * ID_BYTES + 1];
	uint64_t first = index << (8 * level), limit;
	size_t len = 0;

	if (src->get(src->opaque, id, raw, &len, e) < 0)
		return err_ctx(e, "tree node %s", text_hex(id->b, ID_BYTES, hex));
	if (len > sizeof(raw))
		return err_set(e, ERR_INTERNAL, "tree node of %zu bytes", len);
	if (node_decode(raw, len, level, ret, e) < 0)
		return err_ctx(e, "tree node %s", text_hex(id->b, ID_BYTES, hex));
	limit = first < nchunks ? div_up(nchunks - first, tree_span(level - 1)) : 0;
	if (limit < TREE_FANOUT && node_next_child(ret, (uint32_t)limit) < TREE_FANOUT)
		return err_set(e, ERR_CORRUPT, "tree node %s names chunks beyond the end, at %" PRIu64,
			       text_hex(id->b, ID_BYTES, hex), nchunks);
	return 0;
}
