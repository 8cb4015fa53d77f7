/*
 * image.c - the callers' side of struct image: ranges are checked here, once, for every implementation.
 */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/image.h"

#define LIST_BYTES_MAX 400	/* of the states that an error lists */

/* A layer's errors begin with its path; an image made of layers has none of its own to add. */
static int named(const struct image *im, int r, struct err *e)
{
	char q[256];

	if (r >= 0)
		return r;
	assert(e->code == r);
	return im->file.fd < 0 ? r : err_ctx(e, "%s", text_quote(im->path, q, sizeof(q)));
}

void image_close(struct image *im)
{
	if (im)
		im->ops->close(im);
}

const struct image_state *image_state(const struct image *im, uint32_t state)
{
	assert(state < im->info.nstates);
	return &im->states[state];
}

static int range_bad(const struct image *im, uint64_t off, uint64_t len, uint64_t size, struct err *e)
{
	(void)err_set(e, ERR_INVALID, "%" PRIu64 " bytes at %" PRIu64 " of %" PRIu64 ": outside", len, off, size);
	return named(im, ERR_INVALID, e);
}

int image_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret, struct err *e)
{
	uint64_t size = image_state(im, state)->size;
	struct extent x = { 0 };
	int r;

	if (off >= size || !limit)
		return range_bad(im, off, limit, size, e);
	limit = min_u64(limit, size - off);
	r = im->ops->next_extent(im, state, off, limit, &x, e);
	if (r < 0)
		return named(im, r, e);
	assert(x.start == off && x.len && x.len <= limit);
	*ret = x;
	return r;
}

int image_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	uint64_t size = image_state(im, state)->size;

	if (!range_ok(off, len, size))
		return range_bad(im, off, len, size, e);
	return len ? named(im, im->ops->pread(im, state, buf, len, off, e), e) : 0;
}

int image_pread_vm_state(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	uint64_t size = image_state(im, state)->vm_state_bytes;

	if (!range_ok(off, len, size))
		return range_bad(im, off, len, size, e);
	if (!len)
		return 0;
	if (!im->ops->pread_vm_state) {
		(void)err_set(e, ERR_UNSUPPORTED, "format %s has no saved machine memory", im->ops->format);
		return named(im, ERR_UNSUPPORTED, e);
	}
	return named(im, im->ops->pread_vm_state(im, state, buf, len, off, e), e);
}

int image_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	assert(state < im->info.nstates);
	return named(im, im->ops->state_digest(im, state, digest, e), e);
}

void image_advise(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need)
{
	uint64_t size = image_state(im, state)->size;

	if (im->ops->advise && off < size && len)
		im->ops->advise(im, state, off, min_u64(len, size - off), will_need);
}

int image_check_unchanged(struct image *im, struct err *e)
{
	char q[256];
	int r;

	if (im->ops->check_unchanged)
		return named(im, im->ops->check_unchanged(im, e), e);
	r = file_check_unchanged(image_outer_fd(im), &im->identity, e);
	for (size_t i = 0; r == 0 && i < im->parts.n; i++) {
		r = file_check_unchanged(im->parts.p[i].fd, &im->parts.p[i].identity, e);
		if (r < 0)
			(void)err_ctx(e, "%s", text_quote(im->parts.p[i].path, q, sizeof(q)));
	}
	return named(im, r, e);
}

/* One id: the child wants it, or doesn't care. */
static bool id_fits(const char *wanted, const char *is)
{
	return !wanted[0] || !strcmp(wanted, is);
}

static int wrong_parent(const struct image *im, const struct image *parent, int code, const char *what,
			const char *wanted, const char *is, struct err *e)
{
	char a[256], b[256];

	text_quote(parent->path, a, sizeof(a));
	text_quote(im->path, b, sizeof(b));
	if (code == ERR_INVALID) {
		(void)err_set(e, code, "%s is not the parent of %s: its %s is %s, wanted is %s", a, b, what,
			      is[0] ? is : "missing", wanted);
		return err_hint(e, "put the right image there, or into the folder of %s", b);
	}
	(void)err_set(e, code, "%s was written to after %s had been made on it: its %s is %s, recorded is %s", a, b,
		      what, is[0] ? is : "missing", wanted);
	return err_hint(e, "restore the parent as it was; --force reads the two as they are, which gives neither's "
			   "content where the parent has changed");
}

int image_check_parent(const struct image *im, const struct image *parent, struct err *e)
{
	const struct image_ids *want = &im->parent.ids, *is = &parent->info.ids;

	if (im->ops->check_parent)
		return im->ops->check_parent(im, parent, e);
	if (!id_fits(want->uuid, is->uuid))
		return wrong_parent(im, parent, ERR_INVALID, "UUID", want->uuid, is->uuid, e);
	if (!id_fits(want->modify, is->modify))
		return wrong_parent(im, parent, ERR_CHANGED, "modification UUID", want->modify, is->modify, e);
	if (!id_fits(want->content, is->content))
		return wrong_parent(im, parent, ERR_CHANGED, "content id", want->content, is->content, e);
	return 0;
}

static bool selects(const struct image_state *st, const char *name, bool by_id)
{
	return strcmp(by_id ? st->id : st->name, name) == 0;
}

/* " selector, selector, ..." of the snapshots that match (NULL: of all), shortened to what fits a message. */
static void list_states(const struct image *im, const char *match, bool match_id, bool by_id, char *out, size_t len)
{
	char q[80];
	size_t n = 0;

	out[0] = '\0';
	for (uint32_t i = 1; i < im->info.nstates; i++) {
		const struct image_state *st = &im->states[i];
		int w;

		if (match && !selects(st, match, match_id))
			continue;
		w = snprintf(out + n, len - n, "%s%s:%s", n ? ", " : "", by_id ? "snapid" : "snap",
			     text_quote(by_id ? st->id : st->name, q, sizeof(q)));
		if (w < 0 || (size_t)w >= len - n - 8) {
			snprintf(out + n, len - n, "%s", n ? ", ..." : "...");
			return;
		}
		n += (size_t)w;
	}
}

int image_find_state(const struct image *im, const char *selector, uint32_t *ret, struct err *e)
{
	char list[LIST_BYTES_MAX], q[160];
	bool by_id = strncmp(selector, "snapid:", 7) == 0;
	const char *name = by_id ? selector + 7 : selector + 5;
	uint32_t found = 0, n = 0;

	if (strcmp(selector, "current") == 0) {
		*ret = IMAGE_STATE_CURRENT;
		return 0;
	}
	if (!by_id && strncmp(selector, "snap:", 5) != 0) {
		(void)err_set(e, ERR_INVALID, "\"%s\" names no state", text_quote(selector, q, sizeof(q)));
		return err_hint(e, "a state is written current, snap:NAME or snapid:ID");
	}
	for (uint32_t i = 1; i < im->info.nstates; i++) {
		if (!selects(&im->states[i], name, by_id))
			continue;
		found = i;
		n++;
	}
	if (n > 1) {
		list_states(im, name, by_id, true, list, sizeof(list));
		(void)err_set(e, ERR_INVALID, "%s fits %" PRIu32 " snapshots: %s", text_quote(selector, q, sizeof(q)),
			      n, list);
		return err_hint(e, "choose one by its id, as snapid:ID");
	}
	if (!n) {
		list_states(im, NULL, false, by_id, list, sizeof(list));
		return err_set(e, ERR_NOTFOUND, "no state %s; there is: current%s%s",
			       text_quote(selector, q, sizeof(q)), list[0] ? ", " : "", list);
	}
	*ret = found;
	return 0;
}
