/*
 * bar.h - progress for people: one line on a terminal, redrawn at most five times a second, fitted to its width; silent
 * elsewhere.  SIGUSR1 prints one line in any case.
 *
 * A thread of its own draws, so that a line also comes while the work waits.  update is called from any thread.
 */
#ifndef KEDGE_CLI_BAR_H
#define KEDGE_CLI_BAR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/progress.h"

struct bar;

/* draw: redraw on stderr (a terminal); without it only SIGUSR1 prints. */
MUST_CHECK int bar_new(bool draw, struct bar **ret, struct err *e);
void bar_free(struct bar *b);	/* wipes the line; NULL is fine */
/* For struct progress: opaque is the bar. */
void bar_update(void *opaque, const struct progress_state *s);
/* Between these nothing is drawn and the line is empty: for messages.  NULL is fine. */
void bar_hide(struct bar *b);
void bar_show(struct bar *b);
/* The line for s at the rate (bytes a second, 0 = unknown), at most width columns.  Returns buf. */
const char *bar_line(const struct progress_state *s, double rate, size_t width, char *buf, size_t len);

#endif
