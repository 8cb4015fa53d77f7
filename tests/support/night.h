/*
 * night.h - backup runs of made-up disks into a repository in memory, one night after the other, each point compared.
 */
#ifndef KEDGE_TESTS_SUPPORT_NIGHT_H
#define KEDGE_TESTS_SUPPORT_NIGHT_H

#include "repo/ingest/ingest.h"
#include "tests/support/fake_image.h"
#include "tests/support/repo.h"

#define NIGHT_CHUNK 4096u
#define NIGHT_DISKS_MAX 2

struct night_disk {
	const char *name;
	struct fake *const *layers;	/* top first */
	uint32_t nlayers;
};

struct nights {
	struct test_repo t;
	struct backup_list list;	/* what was committed, oldest first */
	/* The next run: */
	struct night_disk disks[NIGHT_DISKS_MAX];
	size_t ndisks;
	struct ingest_opts o;		/* threads, audit, cancel, attachments; the rest is filled in */
	const char *const *states;	/* NULL: all */
	struct ingest_result res;	/* of the last run */
	char plan[2048];		/* of the last run: "disk/state how base bytes" a line */
};

void nights_new(struct nights *n);
void nights_done(struct nights *n);
/* A run of the disks; commits; the manifest is the list's. */
const struct manifest *night(struct nights *n);
/* The run's result code, for those that fail; nothing is committed. */
int night_fails(struct nights *n, struct err *e);
/* The row of a disk in the state with the selector; NULL if there is none. */
const struct manifest_state_disk *night_row(const struct manifest *m, const char *selector, uint32_t disk);
/* Every point of m reads as the images do now.  Returns the count of rows compared. */
unsigned night_compare(struct nights *n, const struct manifest *m);
/* How a state was read: "full", "snapshot", "layer", "same"; "none" without a row. */
const char *night_how(const struct manifest *m, const char *selector, uint32_t disk);

#endif
