/*
 * hint.h - what to do about errors of which no layer below said so.
 */
#ifndef KEDGE_CLI_HINT_H
#define KEDGE_CLI_HINT_H

#include "base/err.h"

struct command;

/* Sets e's hint by its errno, else by its code, unless it has one.  cmd: whose options may be named; may be NULL.  Some
 * errors leave nothing to advise. */
void hint_general(struct err *e, const struct command *cmd);

#endif
