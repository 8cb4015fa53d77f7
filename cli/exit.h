/*
 * exit.h - the exit codes, which scripts rely on: once released, a number keeps its meaning.
 */
#ifndef KEDGE_CLI_EXIT_H
#define KEDGE_CLI_EXIT_H

#include "base/err.h"

enum exit_code {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_INCOMPLETE = 3,	/* a backup was made, but part of the source was unreadable or changing */
	EXIT_UNVERIFIED = 4,	/* restored, but verification failed */
	EXIT_FALSE_CLAIM = 5,	/* a claim of "unchanged" proved false; the full read was done */
	EXIT_DAMAGE = 6,	/* check found damage */
	EXIT_SOME_FAILED = 7,	/* some of several VMs failed: kept for commands that take several */
	EXIT_NO_REPO = 10,	/* no repository there */
	EXIT_IN_USE = 11,	/* a running VM writes to the source, or something uses the target */
	EXIT_WRONG_KEY = 12,
	EXIT_NO_MATCH = 13,	/* restore --backing: the file holds no stored state */
	EXIT_INTERRUPTED = 130,
};

/* The exit code of a failed command that did not choose one itself (cli_exit in cli/cli.h). */
static inline int exit_of_err(const struct err *e)
{
	switch (e->code) {
	case ERR_LOCKED:
		return EXIT_IN_USE;
	case ERR_AUTH:
	case ERR_REFUSED:
		return EXIT_WRONG_KEY;
	case ERR_CANCELLED:
		return EXIT_INTERRUPTED;
	default:
		return EXIT_FAILED;
	}
}

#endif
