/* id_set.c - open addressing with linear probing; removal moves later entries up, so there are no tombstones. */
#include "repo/id_set.h"

#include <stdint.h>

#include "base/bytes.h"
#include "base/num.h"

static bool is_free(const struct id *slot)
{
	static const struct id none;

	return id_eq(slot, &none);	/* no id is all zero, but for one in 2^256 */
}

/* Ids are keyed hashes: uniform, and nobody outside can aim at a slot. */
static size_t home_of(const struct id_set *s, const struct id *id)
{
	return (size_t)get_le64(id->b) & (s->cap - 1);
}

/* The slot that holds id, or the free one where it would go.  cap > n. */
static size_t find(const struct id_set *s, const struct id *id)
{
	size_t i = home_of(s, id);

	while (!is_free(&s->p[i]) && !id_eq(&s->p[i], id))
		i = (i + 1) & (s->cap - 1);
	return i;
}

void id_set_done(struct id_set *s)
{
	free(s->p);
	memset(s, 0, sizeof(*s));
}

bool id_set_has(const struct id_set *s, const struct id *id)
{
	return s->n && !is_free(&s->p[find(s, id)]);
}

static int grow(struct id_set *s, struct err *e)
{
	struct id_set more = { .cap = s->cap ? s->cap * 2 : 256, .n = s->n };
	size_t bytes;

	if (!mul_size(more.cap, sizeof(*more.p), &bytes) || !(more.p = calloc(1, bytes)))
		return err_set(e, ERR_NOMEM, "no memory for a set of %zu ids", s->n);
	for (size_t i = 0; i < s->cap; i++)
		if (!is_free(&s->p[i]))
			more.p[find(&more, &s->p[i])] = s->p[i];
	free(s->p);
	*s = more;
	return 0;
}

int id_set_add(struct id_set *s, const struct id *id, struct err *e)
{
	size_t i;

	if (id_set_has(s, id))
		return 0;
	if (s->n >= s->cap / 4 * 3 && grow(s, e) < 0)
		return e->code;
	i = find(s, id);
	s->p[i] = *id;
	s->n++;
	return 1;
}

void id_set_remove(struct id_set *s, const struct id *id)
{
	size_t hole, i, mask = s->cap - 1;

	if (!id_set_has(s, id))
		return;
	hole = i = find(s, id);
	for (;;) {
		i = (i + 1) & mask;
		if (is_free(&s->p[i]))
			break;
		/* An entry may fill the hole unless its home lies behind the hole, on the way to where it is. */
		if (((i - home_of(s, &s->p[i])) & mask) >= ((i - hole) & mask)) {
			s->p[hole] = s->p[i];
			hole = i;
		}
	}
	memset(&s->p[hole], 0, sizeof(s->p[hole]));
	s->n--;
}
