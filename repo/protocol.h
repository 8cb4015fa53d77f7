/*
 * protocol.h - many writers and collectors without a lock: the objects of docs/format.md section 10, what they add up
 * to, and the session of a run that may commit (docs/design.md, 7).
 */
#ifndef KEDGE_REPO_PROTOCOL_H
#define KEDGE_REPO_PROTOCOL_H

#include "repo/object.h"
#include "repo/repo.h"

/* What the protocol objects in the store add up to at one moment. */
struct protocol_view;

/* Lists and reads evictions, sweep records, doomed lists, tombstones and restore records; with epochs also epoch
 * objects. Objects signed by a slot that may not, or that can't be opened, are reported by notice and ignored. */
MUST_CHECK int protocol_load(struct repo *r, bool epochs, struct protocol_view **ret, struct err *e);
void protocol_free(struct protocol_view *v);

enum manifest_standing { STANDING_LISTED, STANDING_PENDING, STANDING_FORGOTTEN, STANDING_VOID };
/* Where a manifest stands (format.md 10.1).  build: as a base to build upon (a forgotten one undone only by a pending
 * restore record is forgotten). */
enum manifest_standing protocol_standing(const struct protocol_view *v, const char *manifest_name, bool build);
bool protocol_doomed(const struct protocol_view *v, const char *pack_name);
/* doomed, or named by an epoch object */
bool protocol_condemned(const struct protocol_view *v, const char *pack_name);
bool protocol_evicted(const struct protocol_view *v, const struct slot_id *slot, const struct session_id *session);
/* True while an epoch object that is not among the names given exists, or one is not swept by a firm record.
 * Then no tree is reused unread (docs/design.md, 5). */
bool protocol_open_epoch(const struct protocol_view *v);

/* A run that may commit.  Rules 1, 2 and 9 of section 8. */
struct session;
enum session_kind { SESSION_BACKUP, SESSION_COPY, SESSION_REPAIR, SESSION_UNDELETE };
/* Lists epochs, posts the session naming them, lists epochs again; *ret_view (session's, until session_free) is what
 * holds for loading the index. */
MUST_CHECK int session_begin(struct repo *r, enum session_kind kind, const char *vm, struct session **ret,
			     struct err *e);
const struct session_id *session_id_of(const struct session *s);
const struct protocol_view *session_view(const struct session *s);
/* Posts a renewal when the last is an hour old.  Cheap otherwise.  One thread at a time. */
MUST_CHECK int session_renew(struct session *s, struct err *e);
/* Lists evictions: ERR_TRANSIENT with a hint to run again when this session is evicted.  Where listings lag
 * (store_caps) it waits the settling time first, so that it may follow a commit at once. */
MUST_CHECK int session_check_evicted(struct session *s, struct err *e);
/* True once session_check_evicted has seen an eviction: ERR_TRANSIENT alone may also be the store's. */
bool session_is_evicted(const struct session *s);
/* Posts the end marker. */
MUST_CHECK int session_end(struct session *s, bool done, struct err *e);
void session_free(struct session *s);
/* The session objects, sorted, of sessions without an end marker but this one; all: of any slot, else of the own.  The
 * orphaned packs of the own slot's may be used.  What a session with an end marker put is durable, what one without has
 * put may not be yet. */
MUST_CHECK int session_unfinished(struct session *s, bool all, struct name_list *ret, struct err *e);

/* Posts a read session that pins the points named; a store that can't be written to is reported by notice, not an
 * error. */
MUST_CHECK int read_session_begin(struct repo *r, const char *const *manifests, size_t n, const char *purpose,
				  struct session_id *ret, bool *ret_posted, struct err *e);
/* Posts its end marker if it was posted. */
void read_session_end(struct repo *r, const struct session_id *s, bool posted);

#endif
