/* writer.c - the callers' side of an image writer: ranges are checked here, once, for every format. */
#include "formats/writer.h"

#include <assert.h>
#include <inttypes.h>

#include "base/num.h"

/* A writer that fails says why; a full target is the one failure that every format has in common. */
static int answer(int rc, struct err *e)
{
	assert(rc >= 0 || e->code == rc);
	if (rc == ERR_NOSPACE)
		return err_hint(e, "make room, or choose another target; the unfinished image is removed");
	return rc;
}

static int check_range(const struct image_writer *w, uint64_t len, uint64_t off, struct err *e)
{
	if (range_ok(off, len, w->size))
		return 0;
	return err_set(e, ERR_INTERNAL, "%" PRIu64 " bytes at %" PRIu64 " of a disk of %" PRIu64, len, off, w->size);
}

int writer_begin_state(struct image_writer *w, const struct writer_state_opts *o, struct err *e)
{
	if (!w->ops->snapshots && (o->name || o->vm_state_bytes))
		return err_set(e, ERR_UNSUPPORTED, "%s images hold no snapshots", w->ops->format);
	return answer(w->ops->begin_state(w, o, e), e);
}

int writer_write(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	if (check_range(w, len, off, e) < 0)
		return e->code;
	return len ? answer(w->ops->write(w, buf, len, off, e), e) : 0;
}

int writer_expect(struct image_writer *w, uint64_t off, uint64_t len, struct err *e)
{
	if (check_range(w, len, off, e) < 0)
		return e->code;
	return len && w->ops->expect ? answer(w->ops->expect(w, off, len, e), e) : 0;
}

int writer_zero(struct image_writer *w, uint64_t off, uint64_t len, struct err *e)
{
	if (check_range(w, len, off, e) < 0)
		return e->code;
	return len && w->ops->zero ? answer(w->ops->zero(w, off, len, e), e) : 0;
}

int writer_share(struct image_writer *w, uint32_t from, uint64_t off, uint64_t len, struct err *e)
{
	if (!w->ops->share)
		return err_set(e, ERR_UNSUPPORTED, "%s images cannot share bytes between states", w->ops->format);
	if (check_range(w, len, off, e) < 0)
		return e->code;
	return len ? answer(w->ops->share(w, from, off, len, e), e) : 0;
}

int writer_write_vm_state(struct image_writer *w, const void *buf, size_t len, uint64_t off, struct err *e)
{
	if (!w->ops->write_vm_state)
		return err_set(e, ERR_UNSUPPORTED, "%s images hold no machine memory", w->ops->format);
	return len ? answer(w->ops->write_vm_state(w, buf, len, off, e), e) : 0;
}

int writer_finish(struct image_writer *w, struct err *e)
{
	return answer(w->ops->finish(w, e), e);
}

void writer_abort(struct image_writer *w)
{
	if (w)
		w->ops->abort(w);
}
