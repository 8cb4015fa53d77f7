/* local_internal.h - the folder store's own parts: walking to a folder, and the temporary files. */
#ifndef KEDGE_TRANSPORT_LOCAL_INTERNAL_H
#define KEDGE_TRANSPORT_LOCAL_INTERNAL_H

#include <pthread.h>
#include <sys/stat.h>

#include "transport/implement.h"

/* No object can have this name, so no object can be in the way. */
#define LOCAL_TMP_FOLDER ".tmp"
#define LOCAL_DURABLE_SLOTS 256

struct local {
	struct store s;
	int root_fd;
	pthread_mutex_t lock;			/* guards what follows */
	int tmp_fd;				/* LOCAL_TMP_FOLDER; -1 until the first put */
	bool unnamed;				/* files there need no name until they are finished */
	char *durable[LOCAL_DURABLE_SLOTS];	/* folders whose own entry is known to be on disk; by hash, lossy */
};

/*
 * Opens the folder that holds object name and points *ret_leaf at the last part of name.  No symbolic link is followed.
 * make: creates what is missing and sees to it that every folder on the way is durable.
 * Without make a missing folder is ERR_NOTFOUND.
 */
MUST_CHECK int local_open_parent(struct local *l, const char *name, bool make, int *ret_fd, const char **ret_leaf,
				 struct err *e);
/* fsync of a folder; a file system that has none of it is no error. */
MUST_CHECK int local_sync_folder(int fd, struct err *e);

/* A temporary file that vanishes unless it was given a name. */
struct local_tmp {
	int dir_fd, fd;		/* dir_fd is the store's */
	char name[33];		/* "" = none, or named already */
	bool unnamed;		/* never had one: nothing is left of it after a crash */
};
/* Creates one (after cleaning up what crashed runs left, on the first call of a store). */
MUST_CHECK int local_tmp_open(struct local *l, struct local_tmp *ret, struct err *e);
/* Makes it durable and gives it its name; absent: only if the name is free, else ERR_EXISTS. */
MUST_CHECK int local_tmp_name(struct local_tmp *t, int folder_fd, const char *leaf, bool absent, struct err *e);
void local_tmp_done(struct local_tmp *t);

MUST_CHECK int local_sync(struct store *s, const char *prefix, struct err *e);
MUST_CHECK int local_list(struct store *s, const char *prefix, store_list_fn fn, void *opaque, struct err *e);
void local_stat_from(const struct stat *st, struct store_stat *ret);

#endif
