/*
 * writer_commit.c - the manifest's put is the commit: everything it names is durable and named before, and only what
 * the store says afterwards decides what the caller is told (docs/design.md, 7).
 */
#include "repo/backups.h"
#include "repo/object.h"
#include "repo/protocol.h"
#include "repo/writer_internal.h"
#include "transport/store.h"

static int fill_in(struct repo_writer *w, struct manifest *m, struct err *e)
{
	struct repo_writer_stats st;
	uint64_t sequence;

	if (repo_own_head(w->r, &sequence, &m->previous, e) < 0)
		return err_ctx(e, "looking for the previous backup");
	m->has_previous = sequence > 0;
	m->sequence = sequence + 1;
	repo_writer_stats(w, &st);
	m->writer = *repo_own_slot(w->r);
	m->session = *session_id_of(w->session);
	m->bytes_stored = st.bytes_stored;
	return 0;
}

/* Errors after which a put may have been done all the same. */
static bool may_be_done(int code)
{
	return code == ERR_TRANSIENT || code == ERR_IO || code == ERR_NOSPACE || code == ERR_EXISTS;
}

/*
 * The put failed, but the object may be there.  Putting the same bytes again does no harm, and when it succeeds they
 * are durable.  That the store shows the object is not as much: a folder that could not be synced shows it too, until
 * the power fails.
 */
static int learn(struct repo_writer *w, const char *name, const struct buf *sealed, struct err *e)
{
	struct err why = ERR_INIT;
	struct store_stat st;
	int r;

	if (may_be_done(e->code) && store_put(repo_store(w->r), name, sealed->p, sealed->len, 0, &why) == 0) {
		err_clear(e);
		return 0;
	}
	r = store_stat(repo_store(w->r), name, &st, &why);
	if (r == 0 && st.size == sealed->len && e->code == ERR_TRANSIENT) {	/* only the replies were lost */
		err_clear(e);
		return 0;
	}
	if (r == ERR_NOTFOUND) {
		w->outcome_unknown = e->code == ERR_TRANSIENT;	/* what nobody answered may arrive yet: no end marker */
		return err_ctx(e, "putting the manifest");
	}
	w->outcome_unknown = true;
	(void)err_ctx(e, "outcome unknown: the store can't say whether the backup was committed as %s", name);
	return err_hint(e, "When the store can be reached again, `kedge list` shows whether the backup is there; if "
			   "not, run it again.");
}

static int put_manifest(struct repo_writer *w, const struct manifest *m, struct id *ret, struct err *e)
{
	struct object_name n = { .type = OBJECT_MANIFEST, .slot = m->writer, .session = m->session };
	CLEANUP(buf_done) struct buf sealed;
	CLEANUP(free_ptr) char *json = NULL, *same = NULL;
	struct outgoing o;
	size_t len, same_len;

	buf_init(&sealed, 2 * (size_t)PAYLOAD_MAX_BYTES);
	if (manifest_encode(m, &json, &len, e) < 0 || envelope_seal(w->r, OBJECT_MANIFEST, json, len, &sealed, e) < 0 ||
	    manifest_encode(m, &same, &same_len, e) < 0 ||
	    object_outgoing(w->r, &n, &sealed, same, same_len, &o, e) < 0)
		return e->code;
	if (store_put(repo_store(w->r), o.name, sealed.p, sealed.len, 0, e) < 0 && learn(w, o.name, &sealed, e) < 0)
		return e->code;
	if (sum_check(sealed.p, sealed.len, &o.sum, "the manifest, while it was being stored,", e) < 0)
		return e->code;
	pthread_mutex_lock(&w->lock);
	w->stats.bytes_stored += sealed.len;
	pthread_mutex_unlock(&w->lock);
	*ret = n.hash;
	return 0;
}

/* The manifest is stored: does the backup stand? */
static int after_commit(struct repo_writer *w, struct err *e)
{
	struct err late = ERR_INIT;
	char text[ERR_CTX_BYTES];
	int r;

	pthread_mutex_lock(&w->run_lock);
	r = writer_check_evicted(w, e);
	if (r == 0 && session_end(w->session, true, &late) < 0)
		repo_notice(w->r,
			    "the backup is committed, but its end marker is not: collecting garbage waits for its "
			    "lease: %s",
			    err_text(&late, text, sizeof(text)));
	pthread_mutex_unlock(&w->run_lock);
	w->ended = true;
	if (r < 0 && session_is_evicted(w->session))
		return err_ctx(e, "this run was evicted while it committed: the outcome is decided by the next sweep");
	if (r < 0) {
		w->outcome_unknown = true;
		return err_ctx(e, "outcome unknown: the backup is stored, but not whether this run was evicted before");
	}
	return 0;
}

int repo_writer_commit(struct repo_writer *w, struct manifest *m, struct id *ret_id, struct err *e)
{
	struct id id;

	if (w->committed)
		return err_set(e, ERR_INTERNAL, "a writer commits once");
	if (repo_writer_flush(w, e) < 0 || fill_in(w, m, e) < 0 || writer_check(w, e) < 0)
		return e->code;
	if (put_manifest(w, m, &id, e) < 0)
		return e->code;
	w->committed = true;
	if (after_commit(w, e) < 0)
		return e->code;
	repo_saw_manifest(w->r, m, &id);
	*ret_id = id;
	return 0;
}
