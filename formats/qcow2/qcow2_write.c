/* qcow2_write.c - the qcow2 writer: its operations and its states. */
#include "formats/qcow2/qcow2_write.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/qcow2/qcow2_write_internal.h"
#include "formats/target.h"

#define DEFAULT_MODE 0600

static void state_done(struct q2w_state *s)
{
	free(s->name);
	free(s->id);
}

static void q2w_free(struct q2w *q)
{
	q2w_pack_free(q->pack);
	q2w_crypt_free(q->crypt);
	q2w_meta_free(q->meta);
	for (size_t i = 0; i < q->states.n; i++)
		state_done(&q->states.p[i]);
	VEC_DONE(&q->states);
	VEC_DONE(&q->blocks);
	fs_atomic_done(&q->file);
	free(q->table);
	free(q->cluster);
	free(q->packed);
	free(q->path);
	free(q->backing);
	free(q->backing_format);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

uint64_t q2w_region_end(const struct q2w *q, uint64_t off)
{
	const struct q2w_state *s = &q->states.p[q2w_now(q)];

	return off < s->vm_base ? s->size : s->vm_base + s->vm_bytes;
}

/* ---- data ---- */

int q2w_check_begun(const struct q2w *q, struct err *e)
{
	return q->states.n ? 0 : err_set(e, ERR_INTERNAL, "no state was begun");
}

int q2w_write_any(struct q2w *q, const uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	return q->pack ? q2w_pack_write(q, buf, len, off, e) : q2w_write_plain(q, buf, len, off, e);
}

static int q2w_write(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct q2w *q = (struct q2w *)w;

	if (q2w_check_begun(q, e) < 0 || q2w_write_any(q, buf, len, off, e) < 0)
		return err_ctx(e, "%s", q->path);
	return 0;
}

static int q2w_write_vm_state(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	struct q2w *q = (struct q2w *)w;
	const struct q2w_state *s;

	if (q2w_check_begun(q, e) < 0)
		return e->code;
	s = &q->states.p[q2w_now(q)];
	if (!range_ok(off, len, s->vm_bytes))
		return err_set(e, ERR_INTERNAL, "%zu bytes at %" PRIu64 " of %" PRIu64 " of machine memory", len, off,
			       s->vm_bytes);
	if (q2w_write_any(q, buf, len, s->vm_base + off, e) < 0)
		return err_ctx(e, "%s: machine memory", q->path);
	return 0;
}

/* ---- states ---- */

static int too_large(const struct q2w *q, uint64_t size, struct err *e)
{
	err_set(e, ERR_INVALID, "%s: a disk of %" PRIu64 " bytes is too large for clusters of %" PRIu64 " bytes",
		q->path, size, q2w_cluster_size(q));
	return err_hint(e, "use a larger cluster size (at most 2 MiB)");
}

/* L1 entries that a disk and its machine memory need; QEMU wants a table even for an empty disk to be valid. */
static int count_l1(const struct q2w *q, uint64_t size, uint64_t vm_bytes, uint64_t *ret, struct err *e)
{
	uint64_t slot = (uint64_t)1 << q2w_slot_bits(q), n = div_up(size, slot);

	if (size > INT64_MAX || vm_bytes > INT64_MAX)
		return too_large(q, max_u64(size, vm_bytes), e);
	n += div_up(vm_bytes, slot);
	if (n > Q2W_L1_MAX_BYTES / 8)
		return too_large(q, size + vm_bytes, e);
	*ret = max_u64(n, 1);
	return 0;
}

/* One more than the largest id that is a number. */
static char *next_id(const struct q2w *q, struct err *e)
{
	uint64_t max = 0, n;

	for (size_t i = 0; i < q->states.n; i++)
		if (q->states.p[i].id && parse_u64(q->states.p[i].id, 0, UINT64_MAX - 1, &n))
			max = max_u64(max, n);
	return text_printf(e, "%" PRIu64, max + 1);
}

static int name_state(const struct q2w *q, struct q2w_state *s, const struct writer_state_opts *o, struct err *e)
{
	if (!o->name)
		return 0;
	if (strlen(o->name) > UINT16_MAX || (o->id && strlen(o->id) > UINT16_MAX))
		return err_set(e, ERR_INVALID, "the name or id of a snapshot is longer than qcow2 can hold");
	s->name = strdup(o->name);
	s->id = o->id ? strdup(o->id) : next_id(q, e);
	return s->name && s->id ? 0 : err_set(e, ERR_NOMEM, "names of a snapshot");
}

static int check_state(const struct q2w *q, const struct writer_state_opts *o, struct err *e)
{
	if (q->active)
		return err_set(e, ERR_INTERNAL, "a state after the current one");
	if (q->backing && o->name)
		return err_set(e, ERR_INVALID, "an overlay is written without snapshots");
	if (!o->name && (o->size != q->size || o->vm_state_bytes))
		return err_set(e, ERR_INTERNAL, "the current state has %" PRIu64 " bytes and no machine memory",
			       q->size);
	if (o->name && q->states.n == Q2W_SNAPSHOTS_MAX)
		return err_set(e, ERR_INVALID, "qcow2 holds at most %d snapshots", Q2W_SNAPSHOTS_MAX);
	return 0;
}

/* Takes over what s points to. */
static int add_state_locked(struct q2w *q, struct q2w_state *s, struct err *e)
{
	struct q2w_state *slot = VEC_PUSH(&q->states, e);
	uint64_t first;

	if (!slot || q2w_alloc(q, div_up(s->l1_entries * 8, q2w_cluster_size(q)), &first, e) < 0)
		return e->code;
	s->l1_off = first << q->cluster_bits;
	*slot = *s;
	*s = (struct q2w_state){ 0 };
	return 0;
}

static int add_state(struct q2w *q, struct q2w_state *s, struct err *e)
{
	int rc;

	pthread_mutex_lock(&q->lock);
	rc = add_state_locked(q, s, e);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

static int q2w_begin_state(struct image_writer *w, const struct writer_state_opts *o, struct err *e)
{
	struct q2w *q = (struct q2w *)w;
	CLEANUP(state_done)
	struct q2w_state s = {
		.size = o->size, .vm_bytes = o->vm_state_bytes, .date_ns = o->date_ns, .vm_clock_ns = o->vm_clock_ns
	};

	if (check_state(q, o, e) < 0 || (q->pack && q->states.n && q2w_pack_drain(q, e) < 0))
		return err_ctx(e, "%s", q->path);
	if (count_l1(q, o->size, o->vm_state_bytes, &s.l1_entries, e) < 0 || name_state(q, &s, o, e) < 0)
		return e->code;
	s.vm_base = round_up(o->size, (uint64_t)1 << q2w_slot_bits(q));
	if (add_state(q, &s, e) < 0)
		return err_ctx(e, "%s", q->path);
	q->active = !o->name;
	w->size = o->size;
	/* with snapshots before it, what is shared is known only at the end */
	if (q->active && q->states.n == 1 && q->preallocation != PREALLOC_OFF && q2w_preallocate(q, e) < 0)
		return err_ctx(e, "%s", q->path);
	return 0;
}

/* ---- the writer ---- */

static int finish(struct q2w *q, struct err *e)
{
	if (!q->active)
		return err_set(e, ERR_INTERNAL, "finished without a current state");
	if (q->pack && q2w_pack_drain(q, e) < 0)
		return e->code;
	if (q->preallocation != PREALLOC_OFF && q->states.n > 1 && q2w_preallocate(q, e) < 0)
		return e->code;
	return q2w_end(q, e);
}

static int q2w_finish(struct image_writer *w, struct err *e)
{
	struct q2w *q = (struct q2w *)w;
	int rc = finish(q, e);

	if (rc < 0)
		err_ctx(e, "%s", q->path);
	else
		rc = fs_atomic_commit(&q->file, q->replace, e);
	q2w_free(q);
	return rc;
}

static void q2w_abort(struct image_writer *w)
{
	q2w_free((struct q2w *)w);
}

static const struct writer_ops q2w_ops = {
	.format = "qcow2",
	.concurrent = true,
	.snapshots = true,
	.begin_state = q2w_begin_state,
	.expect = q2w_expect,
	.write = q2w_write,
	.zero = q2w_zero,
	.share = q2w_share,
	.write_vm_state = q2w_write_vm_state,
	.finish = q2w_finish,
	.abort = q2w_abort,
};

static int check_backing(const struct writer_opts *o, struct err *e)
{
	if (!o->backing)
		return 0;
	if (o->preallocation != PREALLOC_OFF)
		return err_set(e, ERR_INVALID, "an overlay cannot be preallocated: it would hide its backing file");
	if (o->subformat && !strcmp(o->subformat, "v2"))
		return err_set(e, ERR_INVALID,
			       "an overlay needs version 3 of qcow2: version 2 can't hide what the backing file has");
	if (!*o->backing || strlen(o->backing) > Q2W_BACKING_MAX_BYTES || !o->backing_format ||
	    strlen(o->backing_format) > 16)
		return err_set(e, ERR_INVALID, "the name of a backing file has 1 to %d bytes in qcow2",
			       Q2W_BACKING_MAX_BYTES);
	return 0;
}

/* What only version 3 has. */
static int check_features(const struct writer_opts *o, struct err *e)
{
	const char *what = o->zstd ? "compression by zstd" : o->extended_l2 ? "extended L2 entries" : NULL;

	if (what && o->subformat && !strcmp(o->subformat, "v2"))
		return err_set(e, ERR_INVALID, "version 2 of qcow2 doesn't have %s", what);
	if (o->extended_l2 && o->cluster_size && o->cluster_size < Q2W_CLUSTER_MIN_EXTENDED)
		return err_set(e, ERR_INVALID,
			       "qcow2 clusters with extended L2 entries have at least 16 KiB, not %" PRIu32, o->cluster_size);
	return 0;
}

static int check_opts(const struct writer_opts *o, struct err *e)
{
	struct target t;

	if (target_look(o->path, &t, e) < 0 || check_backing(o, e) < 0 || check_features(o, e) < 0)
		return e->code;
	if (t.block_device)
		return err_set(e, ERR_INVALID, "%s is a block device: only a raw image can be written to it", o->path);
	if (o->cluster_size && (!is_pow2(o->cluster_size) || o->cluster_size < Q2W_CLUSTER_MIN ||
				o->cluster_size > Q2W_CLUSTER_MAX))
		return err_set(e, ERR_INVALID, "qcow2 clusters have 512 bytes to 2 MiB, a power of two, not %" PRIu32,
			       o->cluster_size);
	if (o->secret && (o->compress || o->preallocation != PREALLOC_OFF || o->id_seed))
		return err_set(e, ERR_INVALID, "an encrypted qcow2 cannot %s",
			       o->compress  ? "be compressed"
			       : o->id_seed ? "be made from a seed: its key is random"
					    : "be preallocated: what isn't written would be noise");
	if (o->compress && o->preallocation != PREALLOC_OFF)
		return err_set(e, ERR_INVALID, "compressed clusters cannot be preallocated: choose one of the two");
	return 0;
}

/* Half of the memory is for tables, half for compression. */
static int open_parts(struct q2w *q, const struct writer_opts *o, struct err *e)
{
	size_t max = o->max_bytes ? o->max_bytes : Q2W_MAX_BYTES_DEFAULT, size = q->w.cluster_size;
	uint64_t n;

	q->path = strdup(o->path);
	q->table = malloc(size);
	q->cluster = malloc(size);
	q->packed = malloc(size);
	if (o->backing) {
		q->backing = strdup(o->backing);
		q->backing_format = strdup(o->backing_format);
	}
	if (!q->path || !q->table || !q->cluster || !q->packed || (o->backing && (!q->backing || !q->backing_format)))
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	if (count_l1(q, max_u64(o->size, o->max_size), 0, &n, e) < 0)
		return e->code;
	if (fs_atomic_open(&q->file, o->path, o->replace, o->mode ? o->mode : DEFAULT_MODE, e) < 0)
		return e->code;
	q->reserves = q->reserve_ahead = q->preallocation == PREALLOC_OFF && fs_reserve_pays(q->file.fd);
	if (q2w_meta_new(q->file.fd, q->w.cluster_size, max / 2, &q->meta, e) < 0)
		return e->code;
	if (o->compress && q2w_pack_new(q, o->threads, max / 2, &q->pack, e) < 0)
		return e->code;
	if (q2w_alloc(q, 1, &n, e) < 0)	/* cluster 0 is the header's */
		return e->code;
	return o->secret ? q2w_crypt_new(q, o->secret, o->secret_ms, e) : 0;
}

int qcow2_create(const struct writer_opts *o, struct image_writer **ret, struct err *e)
{
	uint32_t size = o->cluster_size ? o->cluster_size : Q2W_CLUSTER_DEFAULT;
	struct q2w *q;

	if (check_opts(o, e) < 0)
		return e->code;
	q = calloc(1, sizeof(*q));
	if (!q)
		return err_set(e, ERR_NOMEM, "writer of %s", o->path);
	q->w = (struct image_writer){ .ops = &q2w_ops, .cluster_size = size, .in_order = o->id_seed };
	q->file.fd = -1;
	q->cluster_bits = (unsigned)__builtin_ctz(size);
	q->extended = o->extended_l2;
	q->l2_bits = q->cluster_bits - (q->extended ? 4 : 3);
	q->unit_bits = q->cluster_bits - (q->extended ? Q2W_SUBCLUSTER_BITS : 0);
	q->zstd = o->compress && o->zstd;
	/* a compressed cluster has no subclusters */
	q->w.backing_unit = o->compress ? size : (uint32_t)q2w_unit_size(q);
	q->version = o->subformat && !strcmp(o->subformat, "v2") ? 2 : 3;
	q->size = o->size;
	q->replace = o->replace;
	q->preallocation = o->preallocation;
	pthread_mutex_init(&q->lock, NULL);
	if (open_parts(q, o, e) < 0) {
		q2w_free(q);
		return e->code;
	}
	*ret = &q->w;
	return 0;
}
