/* vec.c - growth of typed arrays. */
#include "base/vec.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

void *vec_push_(void **p, size_t *n, size_t *cap, size_t size, struct err *e)
{
	char *slot;

	if (*n == *cap) {
		size_t more = *cap ? *cap : 8, bytes;
		void *grown = NULL;

		if (!__builtin_add_overflow(more, *cap, &more) && mul_size(more, size, &bytes))
			grown = realloc(*p, bytes);
		if (!grown) {
			(void)err_set(e, ERR_NOMEM, "no memory for an array of more than %zu elements of %zu bytes", *n,
				      size);
			return NULL;
		}
		*p = grown;
		*cap = more;
	}
	slot = (char *)*p + *n * size;
	memset(slot, 0, size);
	++*n;
	return slot;
}
