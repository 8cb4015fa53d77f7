/*
 * writer_resume.c - what an interrupted run of the own slot left behind (docs/design.md, 7): packs that are durable
 * and that no index run names.  They are read whole, for their hash: the run may have ended because something was wrong
 * with them.  Then they count as if a run named them.
 */
#include "repo/pack.h"
#include "repo/protocol.h"
#include "repo/repo_internal.h"
#include "repo/writer_internal.h"
#include "transport/store.h"

static int read_orphan(struct repo_writer *w, const char *name, struct trailer *t, uint64_t *ret_size,
		       struct directory **ret, struct err *e)
{
	uint8_t raw[TRAILER_BYTES];
	struct store_stat st;

	if (store_stat(repo_store(w->r), name, &st, e) < 0)
		return e->code;
	if (st.size < TRAILER_BYTES || st.size > PACK_MAX_BYTES)
		return err_set(e, ERR_CORRUPT, "a pack of %llu bytes", (unsigned long long)st.size);
	if (store_read(repo_store(w->r), name, raw, sizeof(raw), st.size - TRAILER_BYTES, e) < 0 ||
	    trailer_decode(raw, st.size, t, e) < 0 ||
	    object_compare_hash(w->r, name, repo_cancel(w->r), e) < 0 ||
	    pack_read_directory(w->r, name, st.size, t->envelope_off, t->envelope_len, ret, e) < 0)
		return e->code;
	*ret_size = st.size;
	return 0;
}

static int use_orphan(struct repo_writer *w, const char *name, struct err *e)
{
	CLEANUP(directory_free_cleanup) struct directory *d = NULL;
	char text[ERR_CTX_BYTES];
	struct err lost = ERR_INIT;
	struct trailer t;
	uint64_t size = 0;
	int r;

	if (index_names_pack(w->x, name) || protocol_condemned(session_view(w->session), name))
		return 0;
	r = read_orphan(w, name, &t, &size, &d, &lost);
	if (r == ERR_NOMEM || r == ERR_CANCELLED) {
		*e = lost;
		return r;
	}
	if (r < 0) {	/* a torn upload or a vanished one: the chunks are stored again */
		if (r != ERR_NOTFOUND)
			repo_notice(w->r, "%s: left behind by an interrupted run and not usable: %s", name,
				    err_text(&lost, text, sizeof(text)));
		return 0;
	}
	if (index_add_directory(w->x, name, size, t.envelope_off, t.envelope_len, d, e) < 0)
		return e->code;
	w->run_bytes += size;
	w->run_entries += d->chunks.n;
	w->stats.resumed_packs++;
	w->stats.resumed_bytes += size;
	return 0;
}

static int use_orphans(struct repo_writer *w, const struct object_name *of, struct err *e)
{
	static const enum object_type kinds[] = { OBJECT_DATA_SEGMENT, OBJECT_NODE_SEGMENT };
	struct name_list names;
	int r = 0;

	for (size_t i = 0; i < 2 && r >= 0; i++) {
		r = object_list_of(w->r, kinds[i], &of->slot, &of->session, &names, e);
		if (r < 0)
			break;
		for (size_t k = 0; r >= 0 && k < names.n; k++) {
			r = cancel_check(repo_cancel(w->r), e);
			if (r == 0)
				r = use_orphan(w, names.p[k], e);
		}
		name_list_free(&names);
	}
	return r;
}

/*
 * What the index and the orphans of an unfinished session give us is shown by the store, and that is all we know: its
 * put may not have come back yet, or never, because its process died.  The manifest of this run will rest on it.
 */
static int make_durable(struct repo_writer *w, const struct object_name *of, struct err *e)
{
	static const enum object_type kinds[] = { OBJECT_DATA_SEGMENT, OBJECT_NODE_SEGMENT, OBJECT_RUN_TAIL };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (object_sync(w->r, kinds[i], &of->slot, &of->session, e) < 0)
			return e->code;
	return 0;
}

/* The index has been loaded. */
int writer_resume(struct repo_writer *w, struct err *e)
{
	bool needs_sync = store_needs_sync(repo_store(w->r));
	struct name_list unfinished;
	int r;

	r = session_unfinished(w->session, needs_sync, &unfinished, e);
	if (r < 0)
		return err_ctx(e, "packs of an interrupted run");
	for (size_t i = 0; r >= 0 && i < unfinished.n; i++) {
		struct object_name n;

		if (!object_name_parse(unfinished.p[i], &n))
			continue;
		if (slot_eq(&n.slot, repo_own_slot(w->r)))
			r = use_orphans(w, &n, e);
		if (r >= 0 && needs_sync)
			r = make_durable(w, &n, e);
	}
	name_list_free(&unfinished);
	return r < 0 ? err_ctx(e, "packs of an interrupted run") : 0;
}
