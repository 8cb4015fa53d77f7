/*
 * cleanup.h - release at end of scope, and handing ownership over.
 *
 *	CLEANUP(free_ptr) char *text = NULL;	released on every way out
 *	*ret_text = STEAL(text);		text is NULL now, nothing is released
 *
 * The cleanup function gets a pointer to the variable.  DEFINE_CLEANUP(type, fn) makes `fn_cleanup` from a plain
 * `void fn(type *)` that accepts NULL.
 */
#ifndef KEDGE_BASE_CLEANUP_H
#define KEDGE_BASE_CLEANUP_H

#include <stdlib.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define STEAL(p) __extension__({ __typeof__(p) steal_tmp_ = (p); (p) = NULL; steal_tmp_; })
#define DEFINE_CLEANUP(type, fn) \
	static inline __attribute__((unused)) void fn##_cleanup(type **p) { fn(*p); }
#define MUST_CHECK __attribute__((warn_unused_result))

/* For any malloc'ed pointer. */
static inline void free_ptr(void *p) { free(*(void **)p); }
/* For an int file descriptor, -1 = none; keeps errno.  Defined in fs.c. */
void close_fd(int *fd);

#endif
