/*
 * index_run.c - the bytes of an index run: tail and blocks, encoded, and decoded without belief (docs/format.md,
 * section 8).
 */
#include <assert.h>
#include <inttypes.h>

#include "base/bytes.h"
#include "base/num.h"
#include "repo/index_internal.h"

void run_tail_done(struct run_tail *t)
{
	VEC_DONE(&t->slots);
	VEC_DONE(&t->packs);
	VEC_DONE(&t->segments);
	VEC_DONE(&t->blocks);
}

void run_shape_done(struct run_shape *s)
{
	free(STEAL(s->nsegments));
	free(STEAL(s->fences));
}

int run_shape_take(struct run_tail *t, struct run_shape *ret, struct err *e)
{
	uint32_t *nsegments = calloc(t->packs.n + 1, sizeof(*nsegments));

	if (!nsegments)
		return err_set(e, ERR_NOMEM, "index run of %zu packs", t->packs.n);
	for (size_t i = 0; i < t->packs.n; i++)
		nsegments[i] = t->packs.p[i].nsegments;
	*ret = (struct run_shape){ (uint32_t)t->packs.n, (uint32_t)t->blocks.n, nsegments, STEAL(t->blocks.p) };
	t->blocks.n = t->blocks.cap = 0;
	return 0;
}

static int encode_pack(const struct run_tail *t, const struct run_pack *p, struct buf *out, struct err *e)
{
	uint32_t writer = 0;

	while (writer < t->slots.n && memcmp(t->slots.p[writer].b, p->name.slot.b, SLOT_BYTES) != 0)
		writer++;
	if (writer == t->slots.n)
		return err_set(e, ERR_INTERNAL, "index run: a pack's writer is not in the table of slots");
	if (buf_u8(out, p->name.type == OBJECT_DATA_SEGMENT ? PACK_DATA : PACK_NODES, e) < 0 || buf_u8(out, 0, e) < 0 ||
	    buf_le16(out, 0, e) < 0 || buf_le32(out, p->generation, e) < 0 || buf_le32(out, writer, e) < 0 ||
	    buf_le32(out, p->nsegments, e) < 0 || buf_add(out, p->name.session.b, SESSION_BYTES, e) < 0 ||
	    buf_add(out, p->name.hash.b, ID_BYTES, e) < 0 || buf_le64(out, p->size, e) < 0 ||
	    buf_le64(out, p->envelope_off, e) < 0 || buf_le32(out, p->envelope_len, e) < 0 || buf_le32(out, 0, e) < 0 ||
	    buf_le64(out, p->retain_until, e) < 0)
		return e->code;
	return 0;
}

int run_tail_encode(const struct run_tail *t, struct buf *out, struct err *e)
{
	if (buf_le32(out, FORMAT_VERSION, e) < 0 || buf_le32(out, t->generation, e) < 0 ||
	    buf_le32(out, (uint32_t)t->slots.n, e) < 0 || buf_le32(out, (uint32_t)t->packs.n, e) < 0 ||
	    buf_le32(out, (uint32_t)t->blocks.n, e) < 0 || buf_le32(out, 0, e) < 0 || buf_le64(out, t->nentries, e) < 0)
		return e->code;
	for (size_t i = 0; i < t->slots.n; i++)
		if (buf_add(out, t->slots.p[i].b, SLOT_BYTES, e) < 0)
			return e->code;
	for (size_t i = 0; i < t->packs.n; i++)
		if (encode_pack(t, &t->packs.p[i], out, e) < 0)
			return e->code;
	for (size_t i = 0; i < t->segments.n; i++)
		if (buf_le32(out, t->segments.p[i], e) < 0)
			return e->code;
	for (size_t i = 0; i < t->blocks.n; i++)
		if (buf_add(out, t->blocks.p[i].first.b, ID_BYTES, e) < 0 ||
		    buf_add(out, t->blocks.p[i].hash.b, ID_BYTES, e) < 0)
			return e->code;
	return 0;
}

struct tail_counts {
	uint32_t slots, packs, blocks;
};

static int decode_tail_head(struct rd *rd, struct run_tail *t, struct tail_counts *n, uint64_t data_end, struct err *e)
{
	uint32_t version, zero;

	if (!rd_le32(rd, &version) || !rd_le32(rd, &t->generation) || !rd_le32(rd, &n->slots) ||
	    !rd_le32(rd, &n->packs) || !rd_le32(rd, &n->blocks) || !rd_le32(rd, &zero) || !rd_le64(rd, &t->nentries))
		return err_set(e, ERR_CORRUPT, "it ends inside its head");
	if (version != FORMAT_VERSION)
		return err_set(e, ERR_UNSUPPORTED, "index run of version %" PRIu32, version);
	if (zero != 0 || n->slots > RUN_SLOTS_MAX || n->blocks > data_end / INDEX_BLOCK_BYTES)
		return err_set(e, ERR_CORRUPT, "%" PRIu32 " slots, %" PRIu32 " blocks in %" PRIu64 " bytes", n->slots,
			       n->blocks, data_end);
	if (t->nentries < n->blocks || t->nentries > (uint64_t)n->blocks * RUN_BLOCK_ENTRIES)
		return err_set(e, ERR_CORRUPT, "%" PRIu64 " entries in %" PRIu32 " blocks", t->nentries, n->blocks);
	for (uint32_t i = 0; i < n->slots; i++) {
		struct slot_id *s = VEC_PUSH(&t->slots, e);

		if (!s)
			return e->code;
		if (!rd_copy(rd, s->b, SLOT_BYTES))
			return err_set(e, ERR_CORRUPT, "it ends inside its slots");
	}
	return 0;
}

static int decode_pack(struct rd *rd, struct run_tail *t, uint64_t *nsegments, struct err *e)
{
	uint8_t kind, class;
	uint16_t zero16;
	uint32_t writer, zero32;
	struct run_pack p = { .first_segment = (uint32_t)*nsegments }, *to;

	if (!rd_u8(rd, &kind) || !rd_u8(rd, &class) || !rd_le16(rd, &zero16) || !rd_le32(rd, &p.generation) ||
	    !rd_le32(rd, &writer) || !rd_le32(rd, &p.nsegments) || !rd_copy(rd, p.name.session.b, SESSION_BYTES) ||
	    !rd_copy(rd, p.name.hash.b, ID_BYTES) || !rd_le64(rd, &p.size) || !rd_le64(rd, &p.envelope_off) ||
	    !rd_le32(rd, &p.envelope_len) || !rd_le32(rd, &zero32) || !rd_le64(rd, &p.retain_until))
		return err_set(e, ERR_CORRUPT, "it ends inside its packs");
	if ((kind != PACK_DATA && kind != PACK_NODES) || zero16 != 0 || zero32 != 0 || writer >= t->slots.n)
		return err_set(e, ERR_CORRUPT, "kind %u, writer %" PRIu32, kind, writer);
	if (p.size > PACK_MAX_BYTES || p.size < TRAILER_BYTES || !p.envelope_len ||
	    p.envelope_len > p.size - TRAILER_BYTES || p.envelope_off != p.size - TRAILER_BYTES - p.envelope_len)
		return err_set(e, ERR_CORRUPT,
			       "envelope of %" PRIu32 " bytes at %" PRIu64 ", the pack has %" PRIu64 " bytes",
			       p.envelope_len, p.envelope_off, p.size);
	*nsegments += p.nsegments;
	if (!p.nsegments || *nsegments > PAYLOAD_MAX_BYTES / 4)
		return err_set(e, ERR_CORRUPT, "%" PRIu32 " segments", p.nsegments);
	p.name.type = kind == PACK_DATA ? OBJECT_DATA_SEGMENT : OBJECT_NODE_SEGMENT;
	p.name.slot = t->slots.p[writer];
	to = VEC_PUSH(&t->packs, e);
	if (!to)
		return e->code;
	*to = p;
	return 0;
}

static int decode_segments(struct rd *rd, struct run_tail *t, uint64_t n, struct err *e)
{
	if (rd->left / 4 < n)
		return err_set(e, ERR_CORRUPT, "it ends inside its segments");
	for (uint64_t i = 0; i < n; i++) {
		uint32_t v, *p = VEC_PUSH(&t->segments, e);

		if (!p)
			return e->code;
		if (!rd_le32(rd, &v) || v / 2 >= t->slots.n)
			return err_set(e, ERR_CORRUPT, "segment %" PRIu64 ": a slot that is not in its table", i);
		*p = v;
	}
	return 0;
}

static int decode_fences(struct rd *rd, struct run_tail *t, uint32_t n, struct err *e)
{
	for (uint32_t i = 0; i < n; i++) {
		struct run_fence *f = VEC_PUSH(&t->blocks, e);

		if (!f)
			return e->code;
		if (!rd_copy(rd, f->first.b, ID_BYTES) || !rd_copy(rd, f->hash.b, ID_BYTES))
			return err_set(e, ERR_CORRUPT, "it ends inside its blocks");
		if (i > 0 && id_cmp(&t->blocks.p[i - 1].first, &f->first) >= 0)
			return err_set(e, ERR_CORRUPT, "block %" PRIu32 " is out of order", i);
	}
	if (rd->left)
		return err_set(e, ERR_CORRUPT, "%zu bytes after its last block", rd->left);
	return 0;
}

int run_tail_decode(const void *payload, size_t len, uint64_t data_end, struct run_tail *t, struct err *e)
{
	struct rd rd = rd_of(payload, len);
	struct tail_counts n = { 0 };
	uint64_t nsegments = 0;

	if (decode_tail_head(&rd, t, &n, data_end, e) < 0)
		return err_ctx(e, "tail");
	for (uint32_t i = 0; i < n.packs; i++)
		if (decode_pack(&rd, t, &nsegments, e) < 0)
			return err_ctx(e, "tail: pack %" PRIu32, i);
	if (decode_segments(&rd, t, nsegments, e) < 0 || decode_fences(&rd, t, n.blocks, e) < 0)
		return err_ctx(e, "tail");
	return 0;
}

bool run_block_add(uint8_t plain[INDEX_BLOCK_PLAIN], uint32_t *used, uint32_t *n, const struct run_entry *en)
{
	uint32_t need = RUN_ENTRY_BYTES + (uint32_t)en->nbases * ID_BYTES;
	uint8_t *p = plain + *used;

	assert(en->nbases <= BASES_MAX);
	if (need > INDEX_BLOCK_PLAIN - *used)
		return false;
	memcpy(p, en->id.b, ID_BYTES);
	put_le32(p + 32, en->pack);
	put_le32(p + 36, en->segment);
	put_le16(p + 40, en->chunk);
	p[42] = en->nbases;
	p[43] = en->depth;
	for (unsigned i = 0; i < en->nbases; i++)
		memcpy(p + 44 + i * ID_BYTES, en->bases[i].b, ID_BYTES);
	*used += need;
	++*n;
	put_le32(plain, *n);
	return true;
}

static void entry_at(const uint8_t *p, struct run_entry *ret)
{
	memcpy(ret->id.b, p, ID_BYTES);
	ret->pack = get_le32(p + 32);
	ret->segment = get_le32(p + 36);
	ret->chunk = get_le16(p + 40);
	ret->nbases = p[42];
	ret->depth = p[43];
	for (unsigned i = 0; i < ret->nbases && i < BASES_MAX; i++)
		memcpy(ret->bases[i].b, p + 44 + i * ID_BYTES, ID_BYTES);
}

void run_block_entry(const struct run_block *b, uint32_t i, struct run_entry *ret)
{
	assert(i < b->n);
	entry_at(b->plain + b->off[i], ret);
}

static int check_entry(const uint8_t *p, const struct run_shape *s, const uint8_t *before, struct err *e)
{
	uint32_t pack = get_le32(p + 32), segment = get_le32(p + 36);

	if (before && memcmp(before, p, ID_BYTES) >= 0)
		return err_set(e, ERR_CORRUPT, "out of order");
	if (pack >= s->npacks || segment >= s->nsegments[pack] || get_le16(p + 40) >= SEGMENT_MAX_ITEMS)
		return err_set(e, ERR_CORRUPT, "pack %" PRIu32 ", segment %" PRIu32 ", chunk %u", pack, segment,
			       get_le16(p + 40));
	if (p[42] > BASES_MAX || p[43] > DELTA_DEPTH_MAX || !p[42] != !p[43])
		return err_set(e, ERR_CORRUPT, "%u bases, depth %u", p[42], p[43]);
	return 0;
}

int run_block_decode(struct run_block *b, const struct run_shape *s, uint32_t block, struct err *e)
{
	struct rd rd = rd_of(b->plain, INDEX_BLOCK_PLAIN);
	const uint8_t *before = NULL, *p = NULL;
	uint32_t n = 0;

	assert(block < s->nblocks);
	if (!rd_le32(&rd, &n) || n < 1 || n > RUN_BLOCK_ENTRIES)
		return err_set(e, ERR_CORRUPT, "block of %" PRIu32 " entries", n);
	for (uint32_t i = 0; i < n; i++) {
		b->off[i] = (uint16_t)(rd.p - b->plain);
		if (!rd_take(&rd, RUN_ENTRY_BYTES, &p))
			return err_set(e, ERR_CORRUPT, "block ends inside entry %" PRIu32, i);
		if (check_entry(p, s, before, e) < 0)
			return err_ctx(e, "entry %" PRIu32, i);
		if (!rd_skip(&rd, (size_t)p[42] * ID_BYTES))
			return err_set(e, ERR_CORRUPT, "block ends inside entry %" PRIu32, i);
		before = p;
	}
	if (!bytes_all_zero(rd.p, rd.left))
		return err_set(e, ERR_CORRUPT, "bytes after the block's last entry");
	if (memcmp(b->plain + 4, s->fences[block].first.b, ID_BYTES) != 0 ||
	    (block + 1 < s->nblocks && memcmp(before, s->fences[block + 1].first.b, ID_BYTES) >= 0))
		return err_set(e, ERR_CORRUPT, "block is not where the fence table has it");
	b->n = (uint16_t)n;
	return 0;
}

int run_block_find(const struct run_block *b, const struct id *id, struct run_entry *ret)
{
	uint32_t lo = 0, hi = b->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = memcmp(b->plain + b->off[mid], id->b, ID_BYTES);

		if (c == 0) {
			run_block_entry(b, mid, ret);
			return 1;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return 0;
}
