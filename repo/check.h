/*
 * check.h - is everything that a repository lists really there, whole, and the same?
 *
 * Without reading data: every manifest is opened and verified; every pack that counts is there, as long as the index
 * says, and its directory (opened, verified) says what the index says; every block of every index run is opened; every
 * tree of every state is walked, each node once, and every chunk, delta bases included, has a copy in a pack that is
 * there.  With reading: the packs chosen are read whole, their hash compared with their name, every segment opened and
 * decoded, every id computed.  Damage is then mapped to the backups, states, disks and guest ranges that it touches.
 *
 * Nothing is changed.  Memory: max_bytes and about 300 bytes a pack.  Threads: one call at a time for a repo; it starts
 * its own threads.
 */
#ifndef KEDGE_REPO_CHECK_H
#define KEDGE_REPO_CHECK_H

#include "base/cancel.h"
#include "base/progress.h"
#include "repo/repo.h"

enum check_severity {
	CHECK_INFO,	/* worth knowing: packs that no run names, what the key in use cannot check */
	CHECK_WARNING,	/* something is wrong, and nothing is lost: a damaged copy beside a good one */
	CHECK_DAMAGE,	/* an object is damaged or missing, or a backup needs what is lost */
};

/* All strings are valid during the call only. */
struct check_finding {
	enum check_severity severity;
	const char *what;	/* a stable word: "pack-missing", "pack-damaged", "chunk-lost", ... */
	const char *object;	/* the object's name; NULL if it is about none */
	const char *text;	/* a sentence for people, without the members below */
	/* "range-lost", "disk-lost": what a backup loses. */
	const char *vm, *manifest;	/* NULL: not of this kind; manifest: object name */
	const char *point;	/* the state's selector: "current"; NULL: of the backup as such (attachments) */
	const char *disk;	/* name of the disk or attachment; "NAME (VM state)" */
	uint64_t off, len;	/* guest bytes; len 0: not known */
};
/* One call at a time, from the thread that called repo_check.  Negative stops the check. */
typedef int (*check_fn)(void *opaque, const struct check_finding *f, struct err *e);

enum check_read { CHECK_READ_NONE, CHECK_READ_PERCENT, CHECK_READ_ALL };

struct check_opts {
	enum check_read read;
	unsigned percent;	/* of the packs, 1 to 100, chosen by seed */
	uint64_t seed;		/* 0 = a random one: see the result */
	unsigned threads;	/* that read and decode; 0 = the CPUs this process may use */
	size_t max_bytes;	/* 0 = 128 MiB; at least 32 MiB are used */
	struct cancel *cancel;	/* NULL = the repo's */
	/* phases "checking packs", "checking trees" (count), "reading" (bytes); may be NULL */
	const struct progress *progress;
};

struct check_result {
	uint64_t infos, warnings, damages;	/* findings */
	uint64_t backups, points, points_damaged;
	uint64_t packs, packs_missing, packs_damaged, packs_unnamed;
	uint64_t nodes, chunks;			/* looked at: different nodes, chunks that they name */
	uint64_t chunks_lost;			/* different ids, nodes included */
	uint64_t packs_read, bytes_read, chunks_read;
	uint64_t seed;
};

/* 0: it ran to its end, whatever it found (result.damages).  Negative: it could not go on. */
MUST_CHECK int repo_check(struct repo *r, const struct check_opts *o, check_fn fn, void *opaque,
			  struct check_result *ret, struct err *e);

#endif
