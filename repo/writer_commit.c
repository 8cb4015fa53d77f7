/*
 * writer_commit.c - the manifest's put is the commit: everything it names is durable and named before, and only what the store
 * says afterwards decides what the caller is told (design.md, section 8, rule 2).
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

/* The put failed, but the object may be there. */
static int learn(struct repo_writer *w, const char *name, size_t len, struct err *e)
{
	struct err why = ERR_INIT;
	struct store_stat st;
	int r;

	if (e->code != ERR_TRANSIENT && e->code != ERR_IO && e->code != ERR_EXISTS)
		return e->code;
	r = store_stat(repo_store(w->r), name, &st, &why);
	if (r == 0 && st.size == len) {		/* whole: its name is its hash, and it is put whole or not at all */
		err_clear(e);
		return 0;
	}
	if (r == ERR_NOTFOUND)
		return e->code;
	w->outcome_unknown = true;
	(void)err_ctx(e, "outcome unknown: the store can't say whether the backup was committed as %s", name);
	return err_hint(e, "When the store can be reached again, `kedge list` shows whether the backup is there; if not, run it again.");
}

static int put_manifest(struct repo_writer *w, const struct manifest *m, struct id *ret, struct err *e)
{
	struct object_name n = { .type = OBJECT_MANIFEST, .slot = m->writer, .session = m->session };
	CLEANUP(buf_done) struct buf sealed;
	CLEANUP(free_ptr) char *json = NULL;
	char name[OBJECT_NAME_BYTES];
	size_t len;

	buf_init(&sealed, 2 * (size_t)PAYLOAD_MAX_BYTES);
	if (manifest_encode(m, &json, &len, e) < 0 || envelope_seal(w->r, OBJECT_MANIFEST, json, len, &sealed, e) < 0)
		return e->code;
	hash_bytes(sealed.p, sealed.len, &n.hash);
	object_name_text(&n, name);
	if (store_put(repo_store(w->r), name, sealed.p, sealed.len, 0, e) < 0 && learn(w, name, sealed.len, e) < 0)
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
		repo_notice(w->r, "the backup is committed, but its end marker is not: collecting garbage waits for its lease: %s",
			    err_text(&late, text, sizeof(text)));
	pthread_mutex_unlock(&w->run_lock);
	w->ended = true;
	if (r == ERR_TRANSIENT)
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
	if (put_manifest(w, m, &id, e) < 0) {
		if (!w->outcome_unknown)
			return err_ctx(e, "putting the manifest");
		return e->code;
	}
	w->committed = true;
	if (after_commit(w, e) < 0)
		return e->code;
	repo_saw_manifest(w->r, m, &id);
	*ret_id = id;
	return 0;
}
