/*
 * msg.h - what people and programs are told: stdout is for data, stderr for people; with --json the error is an object
 * on stdout.  All texts go through here, so that the progress line is not torn.  Main thread only.
 */
#ifndef KEDGE_CLI_MSG_H
#define KEDGE_CLI_MSG_H

#include <jansson.h>

#include "cli/cli.h"

/* "kedge: error: CTX: CAUSE", then "  hint: ...".  With --json {"error": {"code", "exit", "message", "context",
 * "cause", "hint", "errno"}} on stdout, members without content left out. */
void msg_error(const struct cli *c, const struct err *e, int exit_code);
/* Something the user should know although it went well; --quiet keeps it. */
void msg_warn(const struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What happened; dropped by --quiet and by --json. */
void msg_note(const struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A size as --bytes wants it: "1.5 GiB" or "1610612736".  Returns buf. */
#define MSG_SIZE_BYTES 24
const char *msg_size(const struct cli *c, uint64_t v, char buf[static MSG_SIZE_BYTES]);

/* "s" where n is not one: "3 backups". */
const char *msg_plural(uint64_t n);

/* Prints json (indented) and a newline to stdout, and releases it; NULL is out of memory. */
MUST_CHECK int msg_json(json_t *json, struct err *e);
/* Adds a member, an element, and takes v over.  Whatever fails (v NULL too) releases *o and makes it NULL, which
 * msg_json reports: nothing is left out of a result silently. */
void msg_json_set(json_t **o, const char *key, json_t *v);
void msg_json_push(json_t **a, json_t *v);
/* A byte string from outside as JSON string in its reversible escaped form; NULL text gives null; NULL: out of
 * memory. */
json_t *msg_json_text(const char *text);
/* json_int_t is signed: values beyond its range (no file has them) saturate. */
json_t *msg_json_u64(uint64_t v);

/* Flushes stdout; what could not be written there is an error (ERR_NOSPACE, ERR_IO).  EPIPE sets e->os_errno. */
MUST_CHECK int msg_flush(struct err *e);

#endif
