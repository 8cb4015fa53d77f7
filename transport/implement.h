/* implement.h - what the implementations of stores share; nobody outside transport/ includes it. */
#ifndef KEDGE_TRANSPORT_IMPLEMENT_H
#define KEDGE_TRANSPORT_IMPLEMENT_H

#include "transport/store.h"

/* The folder store behind store_open: path is what the location named, without its scheme. */
MUST_CHECK int store_local_open(const char *path, bool create, struct store **ret, struct err *e);

/* The two answers that every store gives in the same words. */
int store_err_absent(struct err *e);					/* ERR_NOTFOUND */
int store_err_short(struct err *e, uint64_t size, size_t len, uint64_t off);	/* ERR_CORRUPT */
int store_err_exists(struct err *e);					/* ERR_EXISTS */

#endif
