/*
 * writer_resume.c - what an interrupted run of the own slot left behind (docs/design.md, 7): packs that are durable
 * and that no index run names.  Their directories are read and verified; then they count as if a run named them.
 */
#include "repo/pack.h"
#include "repo/protocol.h"
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

int writer_resume(struct repo_writer *w, struct err *e)
{
	static const enum object_type kinds[] = { OBJECT_DATA_SEGMENT, OBJECT_NODE_SEGMENT };
	CLEANUP(free_ptr) struct session_id *unfinished = NULL;
	size_t n = 0;
	int r;

	if (session_unfinished(w->session, &unfinished, &n, e) < 0)
		return e->code;
	for (size_t i = 0; i < 2 * n; i++) {
		struct name_list names = { 0 };

		r = object_list_of(w->r, kinds[i % 2], repo_own_slot(w->r), &unfinished[i / 2], &names, e);
		for (size_t k = 0; r >= 0 && k < names.n; k++) {
			r = cancel_check(repo_cancel(w->r), e);
			if (r == 0)
				r = use_orphan(w, names.p[k], e);
		}
		name_list_free(&names);
		if (r < 0)
			return err_ctx(e, "packs of an interrupted run");
	}
	return 0;
}
