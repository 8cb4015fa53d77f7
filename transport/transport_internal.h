/* transport_internal.h - what the files of transport/ share; nobody else includes it. */
#ifndef KEDGE_TRANSPORT_TRANSPORT_INTERNAL_H
#define KEDGE_TRANSPORT_TRANSPORT_INTERNAL_H

#include "transport/store.h"

/* The folder store behind store_open: path is what the location named, without its scheme. */
MUST_CHECK int store_local_open(const char *path, bool create, struct store **ret, struct err *e);

/* The two answers that every store gives in the same words. */
int store_err_absent(struct err *e);					/* ERR_NOTFOUND */
int store_err_short(struct err *e, uint64_t size, size_t len, uint64_t off);	/* ERR_CORRUPT */
int store_err_exists(struct err *e);					/* ERR_EXISTS */

#endif
