/*
 * vec.h - typed growable arrays.
 *
 *	VEC(uint64_t) offs = { 0 };
 *	uint64_t *slot = VEC_PUSH(&offs, e);	NULL: out of memory, *e set, the array is as before
 *	for (size_t i = 0; i < offs.n; i++) use(offs.p[i]);
 *	VEC_DONE(&offs);			frees the array, not what its elements point to
 *
 * New elements are zeroed.  Pointers into the array are valid until the next push.
 */
#ifndef KEDGE_BASE_VEC_H
#define KEDGE_BASE_VEC_H

#include <stddef.h>
#include <stdlib.h>

#include "base/err.h"

#define VEC(type) struct { type *p; size_t n, cap; }
/* Grows by one element and returns it; NULL with *e set. */
#define VEC_PUSH(v, e) \
	((__typeof__((v)->p))vec_push_((void **)&(v)->p, &(v)->n, &(v)->cap, sizeof(*(v)->p), (e)))
#define VEC_DONE(v) (free((v)->p), (v)->p = NULL, (v)->n = (v)->cap = 0)

void *vec_push_(void **p, size_t *n, size_t *cap, size_t size, struct err *e);

#endif
