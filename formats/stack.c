/*
 * stack.c - layers as one image: where a layer has a hole, the next one shows.
 *
 * Extents are asked for as long as layers give them, and the last answers of each layer are remembered: an empty
 * overlay over a fragmented base answers once, not once per piece of the base.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#include "base/num.h"
#include "formats/chain_internal.h"
#include "formats/file.h"

#define HINTS 4				/* per layer; readers that walk states in step use one each */
#define LOOKAHEAD (64 * MIB)		/* how far a layer is asked beyond what the caller wants */

struct hint {
	uint32_t state;
	struct extent x;		/* len 0: empty */
};

struct layer {
	struct image *im;
	uint32_t number;		/* in origins */
	struct hint hints[HINTS];
	unsigned next;			/* hint to be replaced */
};

struct stack {
	struct image im;		/* states are the top layer's, borrowed */
	pthread_mutex_t lock;		/* guards the hints */
	bool keep_holes;
	uint32_t n;
	struct layer layers[];
};

/* The rest of extent x from off on, at most limit bytes of it. */
static struct extent cut(struct extent x, uint64_t off, uint64_t limit)
{
	uint64_t skip = off - x.start;

	x.start = off;
	x.len = min_u64(x.len - skip, limit);
	if (x.kind == EXTENT_DATA && x.origin.compressed)
		x.origin.inner += (uint32_t)skip;
	else if (x.kind == EXTENT_DATA)
		x.origin.host += skip;
	return x;
}

static bool hint_get(struct stack *s, struct layer *l, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret)
{
	bool found = false;

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < HINTS && !found; i++) {
		const struct hint *h = &l->hints[i];

		found = h->state == state && off >= h->x.start && off - h->x.start < h->x.len;
		if (found)
			*ret = cut(h->x, off, limit);
	}
	pthread_mutex_unlock(&s->lock);
	return found;
}

static void hint_put(struct stack *s, struct layer *l, uint32_t state, const struct extent *x)
{
	unsigned i;

	pthread_mutex_lock(&s->lock);
	/* A walk replaces its own last answer, so that it doesn't push out the other walks'. */
	for (i = 0; i < HINTS; i++)
		if (l->hints[i].x.len && l->hints[i].state == state &&
		    l->hints[i].x.start + l->hints[i].x.len == x->start)
			break;
	if (i == HINTS) {
		i = l->next;
		l->next = (l->next + 1) % HINTS;
	}
	l->hints[i] = (struct hint){ state, *x };
	pthread_mutex_unlock(&s->lock);
}

static int layer_extent(struct stack *s, uint32_t i, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			struct err *e)
{
	struct layer *l = &s->layers[i];
	struct extent x;

	if (s->n == 1)
		return image_next_extent(l->im, state, off, limit, ret, e) < 0 ? e->code : 0;
	if (hint_get(s, l, state, off, limit, ret))
		return 0;
	if (image_next_extent(l->im, state, off, max_u64(limit, LOOKAHEAD), &x, e) < 0)
		return e->code;
	hint_put(s, l, state, &x);
	*ret = cut(x, off, limit);
	return 0;
}

/* *ret_i: which of s->layers has the data. */
static int one_extent(struct stack *s, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
		      uint32_t *ret_i, struct err *e)
{
	struct extent x;

	for (uint32_t i = 0; i < s->n; i++, state = IMAGE_STATE_CURRENT) {
		uint64_t size = image_state(s->layers[i].im, state)->size;

		if (off >= size)	/* behind a shorter layer's end are zeros, whatever is below that */
			break;
		if (layer_extent(s, i, state, off, min_u64(limit, size - off), &x, e) < 0)
			return e->code;
		limit = x.len;
		if (x.kind == EXTENT_HOLE && !s->keep_holes)
			continue;
		*ret = x;
		*ret_i = i;
		ret->origin.layer = x.kind == EXTENT_DATA ? s->layers[i].number : 0;
		return 0;
	}
	*ret = (struct extent){ .start = off, .len = limit, .kind = EXTENT_ZERO };
	return 0;
}

static bool continues(const struct extent *a, const struct extent *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind != EXTENT_DATA)
		return true;
	return a->origin.layer == b->origin.layer && a->origin.file == b->origin.file && !a->origin.compressed &&
	       !b->origin.compressed && a->origin.host + a->len == b->origin.host;
}

static int stack_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			     struct err *e)
{
	struct stack *s = (struct stack *)im;
	struct err later = ERR_INIT;	/* of what is behind the first extent: found again in its turn */
	struct extent x, next;
	uint32_t i;

	if (one_extent(s, state, off, limit, &x, &i, e) < 0)
		return e->code;
	while (x.len < limit && one_extent(s, state, off + x.len, limit - x.len, &next, &i, &later) == 0 &&
	       continues(&x, &next))
		x.len += next.len;
	*ret = x;
	return 1;
}

static int stack_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct stack *s = (struct stack *)im;
	uint8_t *p = buf;

	if (s->n == 1)
		return image_pread(s->layers[0].im, state, buf, len, off, e);
	while (len) {
		struct extent x;
		uint32_t i = 0;

		if (one_extent(s, state, off, len, &x, &i, e) < 0)
			return e->code;
		if (x.kind != EXTENT_DATA)
			memset(p, 0, (size_t)x.len);
		else if (image_pread(s->layers[i].im, i ? IMAGE_STATE_CURRENT : state, p, (size_t)x.len, off, e) < 0)
			return e->code;
		p += x.len;
		off += x.len;
		len -= (size_t)x.len;
	}
	return 0;
}

static int stack_pread_vm_state(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	return image_pread_vm_state(((struct stack *)im)->layers[0].im, state, buf, len, off, e);
}

/* Over the layers' digests from the top down; of lower layers, the current state's. */
static int stack_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	struct stack *s = (struct stack *)im;
	crypto_generichash_state h;
	uint8_t part[32];

	(void)crypto_generichash_init(&h, NULL, 0, 32);		/* fails only for lengths out of range */
	(void)crypto_generichash_update(&h, (const uint8_t *)"kedge chain state 1", 19);
	for (uint32_t i = 0; i < s->n; i++) {
		if (image_state_digest(s->layers[i].im, i ? IMAGE_STATE_CURRENT : state, part, e) < 0)
			return e->code;
		(void)crypto_generichash_update(&h, part, sizeof(part));
	}
	(void)crypto_generichash_final(&h, digest, 32);
	return 0;
}

static void stack_advise(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need)
{
	struct stack *s = (struct stack *)im;
	struct err unheard = ERR_INIT;	/* advice: who reads will find the error */

	while (len) {
		struct extent x;
		uint32_t i = 0;

		if (one_extent(s, state, off, len, &x, &i, &unheard) < 0)
			return;
		if (x.kind == EXTENT_DATA)
			image_advise(s->layers[i].im, i ? IMAGE_STATE_CURRENT : state, off, x.len, will_need);
		off += x.len;
		len -= x.len;
	}
}

static int stack_check_unchanged(struct image *im, struct err *e)
{
	struct stack *s = (struct stack *)im;

	for (uint32_t i = 0; i < s->n; i++)
		if (image_check_unchanged(s->layers[i].im, e) < 0)
			return e->code;
	return 0;
}

static void stack_close(struct image *im)
{
	struct stack *s = (struct stack *)im;

	pthread_mutex_destroy(&s->lock);
	image_base_done(im);
	free(s);
}

static const struct image_ops stack_ops = {
	.format = "chain",
	.close = stack_close,
	.next_extent = stack_next_extent,
	.pread = stack_pread,
	.pread_vm_state = stack_pread_vm_state,
	.state_digest = stack_state_digest,
	.advise = stack_advise,
	.check_unchanged = stack_check_unchanged,
};

int stack_new(struct image *const *layers, uint32_t n, const uint32_t *numbers, bool keep_holes, struct image **ret,
	      struct err *e)
{
	struct stack *s = calloc(1, sizeof(*s) + n * sizeof(s->layers[0]));

	if (!s)
		return err_set(e, ERR_NOMEM, "chain of %" PRIu32 " layers", n);
	s->im.path = strdup(layers[0]->path);
	if (!s->im.path) {
		free(s);
		return err_set(e, ERR_NOMEM, "path of a chain");
	}
	pthread_mutex_init(&s->lock, NULL);
	s->im.ops = &stack_ops;
	s->im.file.fd = -1;
	s->im.info = layers[0]->info;
	s->im.states = layers[0]->states;
	s->im.identity = layers[0]->identity;
	if (numbers && numbers[0])	/* a lower layer as a disk: its snapshots are not looked at */
		s->im.info.nstates = 1;
	s->keep_holes = keep_holes;
	s->n = n;
	for (uint32_t i = 0; i < n; i++) {
		s->layers[i].im = layers[i];
		s->layers[i].number = numbers ? numbers[i] : i;
	}
	*ret = &s->im;
	return 0;
}
