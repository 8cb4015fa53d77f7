/* s3_internal.h - the store's own parts. */
#ifndef KEDGE_TRANSPORT_S3_S3_INTERNAL_H
#define KEDGE_TRANSPORT_S3_S3_INTERNAL_H

#include "transport/implement.h"
#include "transport/s3/client.h"

#define S3_NONCE_BYTES 33
#define S3_NONCE_HEADER "x-amz-meta-kedge-put"

struct s3_store {
	struct store s;
	struct s3_client *c;
};

/* One operation alone. */
MUST_CHECK int s3_run_one(struct s3_store *s, struct s3_op *op, struct err *e);
/* A random word that marks what this put makes, so that a repeated one can be told from somebody else's. */
void s3_nonce(char ret[static S3_NONCE_BYTES]);
/* Is the object that is there the one of that put? */
bool s3_is_ours(struct s3_store *s, const char *name, const char *nonce);

MUST_CHECK int s3_list(struct store *st, const char *prefix, store_list_fn fn, void *opaque, struct err *e);
/* Is anything there below the store's prefix?  ERR_NOTFOUND: no such bucket. */
MUST_CHECK int s3_is_empty(struct s3_store *s, bool *ret, struct err *e);
MUST_CHECK int s3_remove_many(struct store *st, const char *const *names, size_t n, struct err *e);

/* From here on a put goes in parts. */
#define S3_MULTIPART_BYTES ((size_t)64 << 20)
MUST_CHECK int s3_put_parts(struct s3_store *s, const char *name, const void *buf, size_t len, struct err *e);

#endif
