/*
 * fake_image.h - an image in memory for tests: clusters at made-up host offsets, snapshots, layers, and faults on
 * demand.
 */
#ifndef KEDGE_TESTS_SUPPORT_FAKE_IMAGE_H
#define KEDGE_TESTS_SUPPORT_FAKE_IMAGE_H

#include <stdatomic.h>

#include "formats/chain.h"

#define FAKE_STATES_MAX 16

struct fake_cluster {
	enum extent_kind kind;
	bool compressed;
	uint32_t file;		/* DATA: of which file the origin says it is; the bytes are where host says all the same */
	uint64_t host;		/* DATA */
};

struct fake_state {
	struct fake_cluster *map;	/* of the state's size */
	uint64_t nclusters;
	uint8_t *vm_state;		/* vm_state_bytes of it */
};

struct fake {
	struct image im;
	uint32_t cluster;
	struct fake_state s[FAKE_STATES_MAX];
	struct image_state pub[FAKE_STATES_MAX];
	uint8_t *host;			/* file content: clusters where data extents point to */
	uint64_t host_len;
	/* Faults: */
	bool changed;			/* the file changed since it was opened */
	bool fails;			/* reads of [fail_from, fail_to) fail, in state fail_state */
	uint32_t fail_state;
	uint64_t fail_from, fail_to;
	bool lies;			/* reads of byte lie_at in state lie_state give other bytes than before */
	uint32_t lie_state;
	uint64_t lie_at;
	bool bad_map;			/* next_extent fails in state bad_state */
	uint32_t bad_state;
	_Atomic uint64_t nread;		/* bytes given out by pread */
};

struct fake *fake_new(const char *path, uint32_t cluster, uint64_t size);
void fake_free(struct fake *f);
/* Fills the cluster that holds off in the current state with new content made from seed, at a new host place. */
void fake_write(struct fake *f, uint64_t off, uint64_t seed, bool compressed);
/* Makes it a hole or zeros. */
void fake_clear(struct fake *f, uint64_t off, enum extent_kind kind);
/* The current state becomes a snapshot too; returns its state index. */
uint32_t fake_snapshot(struct fake *f, const char *name, const char *id, int64_t date_ns);
void fake_resize(struct fake *f, uint64_t size);
void fake_vm_state(struct fake *f, uint32_t state, uint64_t bytes, uint64_t seed);
/* layers (top first) as a chain; fakes stay the caller's. */
struct chain *fake_chain(struct fake *const *layers, uint32_t n);
void fake_chain_free(struct chain *c);
/* A reproducible generator. */
uint64_t fake_random(uint64_t *state);

#endif
