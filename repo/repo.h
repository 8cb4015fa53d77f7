/*
 * repo.h - a repository: making one, opening one, and what is constant about it.
 *
 * A struct repo borrows its store and owns its keyring.  Reading goes through repo/reader.h, listing through
 * repo/backups.h, writing through repo/writer.h; each is an object of its own on top of this one.
 * Threads: after open, any thread may use a repo for reading its constants; the objects say their own rules.
 */
#ifndef KEDGE_REPO_REPO_H
#define KEDGE_REPO_REPO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cancel.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "repo/format.h"
#include "repo/keys.h"

struct repo;
struct store;

struct repo_config {
	uint8_t cipher_id[CIPHER_ID_BYTES], instance_id[16];
	bool draft;
	uint32_t chunk_size, segment_size, pack_size;
	int64_t created_ns;
	int64_t lease_ns, skew_ns, settling_ns, grace_ns;
};

struct repo_init_opts {
	uint32_t chunk_size;		/* 0 = default; a power of two in [CHUNK_MIN_BYTES, CHUNK_MAX_BYTES] */
	uint32_t pack_size;		/* 0 = default; 1 MiB to PACK_MAX_BYTES / 2 */
	uint32_t argon_passes, argon_kib;	/* 0 = defaults */
	const char *label;		/* of the first slot */
	/* Called with the recovery secret before anything can be opened by it: a repository whose recovery key nobody
	 * has seen must not come to be.  A failure ends the init.  May be NULL. */
	int (*show)(void *opaque, const struct secret *recovery, struct err *e);
	void *opaque;
};

struct repo_open_opts {
	const char *state_dir;		/* what must survive: seen heads.  NULL = none kept (tests) */
	const char *cache_dir;		/* may be deleted at any time; NULL = no cache on disk */
	struct cancel *cancel;		/* may be NULL */
	/* Called with a sentence for people when something is wrong that does not stop the work: an object signed by
	 * nobody who may, a rolled-back store, a stray object.  May be NULL.  Any thread. */
	void (*notice)(void *opaque, const char *text);
	void *opaque;
};

/* Makes a repository in an empty store: slot for secret, a recovery slot (*ret_recovery: show it once; secret_free),
 * config last: its put is the commit.  A config that exists is ERR_EXISTS; other objects in the store: ERR_EXISTS
 * too, but for what an interrupted init left, which goes. */
MUST_CHECK int repo_init(struct store *s, const struct secret *secret, const struct repo_init_opts *o,
			 struct secret **ret_recovery, struct err *e);
/* True: an interrupted init left something here, nothing else is, and repo_init may be called. */
bool repo_unfinished(struct store *s);
/* No config: ERR_NOTFOUND ("no repository there").  No slot opens with secret: ERR_AUTH.  Unknown format or feature:
 * ERR_UNSUPPORTED. */
MUST_CHECK int repo_open(struct store *s, const struct secret *secret, const struct repo_open_opts *o,
			 struct repo **ret, struct err *e);
void repo_close(struct repo *r);	/* NULL is fine */

const struct repo_config *repo_config(const struct repo *r);
struct store *repo_store(struct repo *r);		/* borrowed */
const struct slot_id *repo_own_slot(const struct repo *r);
enum slot_role repo_own_role(const struct repo *r);
/* "put", "maintain", "full"; "unknown" for anything else. */
const char *slot_role_name(enum slot_role role);

#endif
