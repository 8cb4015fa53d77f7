/*
 * vhdx_overlay.c - the file as a replay of its log would leave it, without writing to it.
 *
 * The log's writes stay where they are: the overlay says for each place where its bytes are: zeros, a page in the log.
 */
#include <inttypes.h>

#include "formats/file.h"
#include "formats/vhdx/vhdx_internal.h"

/* Writes that cover the place where the sweep is, the latest on top; numbers into a sorted array. */
struct heap {
	struct pending {
		struct vhdx_write w;
		size_t order;
	} *all;
	size_t *top, n;		/* a binary heap by order */
};

static bool later(const struct heap *h, size_t a, size_t b)
{
	return h->all[h->top[a]].order > h->all[h->top[b]].order;
}

static void swap(struct heap *h, size_t a, size_t b)
{
	size_t t = h->top[a];

	h->top[a] = h->top[b];
	h->top[b] = t;
}

static void push(struct heap *h, size_t write)
{
	h->top[h->n++] = write;
	for (size_t i = h->n - 1; i && later(h, i, (i - 1) / 2); i = (i - 1) / 2)
		swap(h, i, (i - 1) / 2);
}

static void pop(struct heap *h)
{
	h->top[0] = h->top[--h->n];
	for (size_t i = 0, c; (c = 2 * i + 1) < h->n; i = c) {
		if (c + 1 < h->n && later(h, c + 1, c))
			c++;
		if (!later(h, c, i))
			break;
		swap(h, c, i);
	}
}

static int by_start(const void *a, const void *b)
{
	const struct pending *x = a, *y = b;

	return x->w.start < y->w.start ? -1 : x->w.start > y->w.start;
}

/* Goes through the file once; between two places where a write begins or ends, the latest that covers it counts. */
static int sweep(struct vhdx *v, struct heap *h, size_t n, struct err *e)
{
	size_t next = 0, source = SIZE_MAX;
	uint64_t at = 0;

	while (next < n || h->n) {
		struct vhdx_write *w = v->writes.n ? &v->writes.p[v->writes.n - 1] : NULL;
		uint64_t stop;

		if (!h->n)
			at = max_u64(at, h->all[next].w.start);
		while (next < n && h->all[next].w.start <= at)
			push(h, next++);
		while (h->n && h->all[h->top[0]].w.end <= at)
			pop(h);
		if (!h->n)
			continue;
		stop = h->all[h->top[0]].w.end;
		if (next < n)
			stop = min_u64(stop, h->all[next].w.start);
		if (w && w->end == at && source == h->top[0]) {
			w->end = stop;
		} else {
			w = VEC_PUSH(&v->writes, e);
			if (!w)
				return e->code;
			*w = h->all[h->top[0]].w;
			w->start = at;
			w->end = stop;
		}
		source = h->top[0];
		at = stop;
	}
	return 0;
}

int vhdx_overlay_seal(struct vhdx *v, struct err *e)
{
	size_t n = v->writes.n;
	CLEANUP(free_ptr) struct pending *all = malloc(n * sizeof(*all) + 1);
	CLEANUP(free_ptr) size_t *top = malloc(n * sizeof(*top) + 1);
	struct heap h = { all, top, 0 };

	if (!all || !top)
		return err_set(e, ERR_NOMEM, "writes of the log");
	for (size_t i = 0; i < n; i++)
		all[i] = (struct pending){ v->writes.p[i], i };
	qsort(all, n, sizeof(*all), by_start);
	v->writes.n = 0;
	return sweep(v, &h, n, e);
}

/* The first write that ends behind off, or NULL. */
static const struct vhdx_write *find(const struct vhdx *v, uint64_t off)
{
	size_t lo = 0, hi = v->writes.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (v->writes.p[mid].end <= off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < v->writes.n ? &v->writes.p[lo] : NULL;
}

/* A part of the page that a data sector of the log holds. */
static int read_page(struct vhdx *v, const struct vhdx_write *w, uint8_t *buf, size_t len, uint64_t off, struct err *e)
{
	uint8_t page[VHDX_LOG_SECTOR];

	if (file_pread_padded(&v->im.file, page, sizeof(page), w->data, e) < 0)
		return err_ctx(e, "log");
	put_le64(page, w->leading);
	put_le32(page + sizeof(page) - 4, w->trailing);
	memcpy(buf, page + (off - w->start), len);
	return 0;
}

int vhdx_read(struct vhdx *v, void *buf, size_t len, uint64_t off, struct err *e)
{
	uint8_t *p = buf;
	size_t n;

	for (; len; p += n, off += n, len -= n) {
		const struct vhdx_write *w = find(v, off);
		int r = 0;

		if (!w || w->start > off) {
			n = w ? (size_t)min_u64(len, w->start - off) : len;
			r = file_pread_padded(&v->im.file, p, n, off, e);
		} else {
			n = (size_t)min_u64(len, w->end - off);
			if (w->data == VHDX_ZEROS)
				memset(p, 0, n);
			else
				r = read_page(v, w, p, n, off, e);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int vhdx_next_data(struct vhdx *v, uint64_t off, uint64_t end, bool *ret_data, uint64_t *ret_end, struct err *e)
{
	const struct vhdx_write *w = find(v, off);

	if (w && w->start <= off) {
		*ret_data = w->data != VHDX_ZEROS;
		*ret_end = min_u64(end, w->end);
		return 0;
	}
	if (w)
		end = min_u64(end, w->start);
	if (off >= v->im.file.size) {
		*ret_data = false;
		*ret_end = end;
		return 0;
	}
	return file_next_data(&v->im.file, off, min_u64(end, v->im.file.size), ret_data, ret_end, e);
}
