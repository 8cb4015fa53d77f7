/*
 * evaluate.h - what the objects of the model add up to: pure functions over the store and one process's view of it, for
 * protocol.pml.  The words are those of docs/format.md 10.1 and docs/design.md 7; RULE(x) is false in a run that drops
 * rule x.
 */
#include "options.h"

#define BIT(x) (1 << (x))
#define ALL_COMMITS 0x8f	/* 0-3 of the writers, 7: M0, whose session ended long ago */
#define COLLECTOR(k) BIT(4 + (k))	/* its bit among sessions and evictions */

/* --- what packs hold: chunks a, b, c; WHOLE, or a delta on the chunk given -------------------------------------------- */
enum { CHUNKS = 3, ABSENT = -2, WHOLE = -1, PACKS = 12 };
/* packs 0-2 are there from the start; 3 + w is of writer w, 7 + w its delta; 8 + k is what collector k repacks (no
 * writer above 0 writes deltas) */
static int content(int pack, int chunk)
{
	switch (WORLD) {
	case 1:			/* a base and what is built on it */
	case 2:
		if (pack == 0)
			return chunk == 0 ? WHOLE : ABSENT;
		if (pack == 1)
			return chunk == 1 ? 0 : ABSENT;
		if (pack == 2)	/* world 1: another full copy */
			return WORLD == 2 ? chunk == 2 ? 1 : ABSENT : chunk == 1 ? WHOLE : ABSENT;
		if (pack == 7)	/* writer 0 stores its chunk as a delta on b */
			return chunk == 2 ? 1 : ABSENT;
		if (pack >= 8)
			return WHOLE;
		return chunk == (WORLD == 2 || DELTA_WRITER ? 2 : 1) ? WHOLE : ABSENT;
	}
	return chunk == 0 ? WHOLE : ABSENT;	/* world 0: one chunk */
}

/* chunks that a commit names itself; a restore record: those of M0 */
static int need_of(int commit)
{
	if (WORLD == 0)
		return BIT(0);
	if (WORLD == 1)
		return commit < 4 && DELTA_WRITER ? BIT(2) : BIT(1);
	return BIT(2);
}

static int need(int commits)
{
	int n = 0;

	for (int m = 0; m < 8; m++)
		if (commits & BIT(m))
			n |= need_of(m);
	return n;
}

/* The chunks that can be read from a set of packs, bases and the limit of depth included. */
static int cover_depth(int packs, int limit)
{
	int depth[CHUNKS] = { 99, 99, 99 }, covered = 0;

	for (int round = 0; round < CHUNKS; round++)
		for (int p = 0; p < PACKS; p++)
			for (int c = 0; c < CHUNKS && (packs & BIT(p)); c++) {
				int b = content(p, c), d = b == WHOLE ? 0 : b == ABSENT ? 99 : depth[b] + 1;

				if (d < depth[c] && d <= limit)
					depth[c] = d;
			}
	for (int c = 0; c < CHUNKS; c++)
		covered |= depth[c] <= limit ? BIT(c) : 0;
	return covered;
}

static int names(int packs)	/* chunks that are named, readable or not */
{
	int n = 0;

	for (int p = 0; p < PACKS; p++)
		for (int c = 0; c < CHUNKS && (packs & BIT(p)); c++)
			n |= content(p, c) != ABSENT ? BIT(c) : 0;
	return n;
}

enum how { READ, NO_BASES, NO_DEPTH };
static int cover(int packs, enum how how)
{
	static short memo[3][1 << PACKS];

	if (!memo[how][packs])
		memo[how][packs] = (short)(1 + (how == READ ? cover_depth(packs, DEPTH_LIMIT) : how == NO_DEPTH ?
						cover_depth(packs, 99) : names(packs)));
	return memo[how][packs] - 1;
}
#define WRITER_COVER (RULE(base) ? READ : NO_BASES)
#define COLLECTOR_COVER (!RULE(markbase) ? NO_BASES : !RULE(depth) ? NO_DEPTH : READ)

/* The chunks given and, as deltas of them are stored in the packs given, all their bases. */
static int with_bases(int chunks, int packs)
{
	for (int round = 0; round < CHUNKS; round++)
		for (int p = 0; p < PACKS; p++)
			for (int c = 0; c < CHUNKS && (packs & BIT(p)); c++)
				if ((chunks & BIT(c)) && content(p, c) >= 0)
					chunks |= BIT(content(p, c));
	return chunks;
}

static int holders(int packs, int chunks)
{
	int h = 0;

	for (int p = 0; p < PACKS; p++)
		if ((packs & BIT(p)) && (names(BIT(p)) & chunks))
			h |= BIT(p);
	return h;
}

/* --- views --------------------------------------------------------------------------------------------------------- */
struct view { int mans, tombs, rests, recs, lists, evict; };

static struct view everything(void)
{
	return (struct view){ now.mans, now.tombs, now.rests, now.recs, now.lists, now.evict };
}

static int session_of(int commit) { return commit < 4 ? BIT(commit) : 0; }

/* The records that are void in the view. */
static int void_records(const struct view *v)
{
	int gone = 0, stands = 0, changed = 1;

	if (!RULE(voidrec))
		return 0;
#ifdef STICKY	/* the other reading: void stays void when what made it so turns out void */
	for (int before = -1; before != gone;) {
		before = gone;
		for (int r = 0; r < 3; r++)
			for (int by = 0; by < 3; by++)
				if ((v->recs & ~before & BIT(by)) && (v->recs & BIT(r)) && (v->evict & COLLECTOR(r)) &&
				    (now.rcov[by] & COLLECTOR(r)) && !(now.raccr[by] & BIT(r)))
					gone |= BIT(r);
	}
	return gone;
#endif
	while (changed) {
		changed = 0;
		for (int r = 0; r < 3; r++) {
			int open = 0, is_void = 0;

			if (!(v->recs & BIT(r)) || ((gone | stands) & BIT(r)))
				continue;
			for (int by = 0; by < 3; by++) {
				if (!(v->recs & BIT(by)) || (gone & BIT(by)) || !(v->evict & COLLECTOR(r)) ||
				    !(now.rcov[by] & COLLECTOR(r)) || (now.raccr[by] & BIT(r)))
					continue;
				open |= !(stands & BIT(by));
				is_void |= !!(stands & BIT(by));
			}
			gone |= is_void ? BIT(r) : 0;
			stands |= !is_void && !open ? BIT(r) : 0;
			changed |= is_void || !open;
		}
	}
	return v->recs & ~stands;	/* with those that nothing decides about: of collectors that evicted each other */
}

static int standing(const struct view *v) { return v->recs & ~void_records(v); }

static int firm_records(const struct view *v)
{
	int in_force = standing(v), firm = 0, before = -1;

	while (before != firm) {
		before = firm;
		for (int r = 0; r < 3; r++) {
			int ok = !(v->evict & COLLECTOR(r));

			for (int by = 0; by < 3; by++)
				ok |= by != r && (firm & BIT(by)) && (now.raccr[by] & BIT(r));
			firm |= ok && (in_force & BIT(r)) ? BIT(r) : 0;
		}
	}
	return firm;
}

static int doomed(const struct view *v)
{
	int d = v->lists ? now.dlist : 0, in_force = standing(v);

	for (int r = 0; r < 3; r++)
		d |= in_force & BIT(r) ? now.rdoom[r] : 0;
	return d;
}

static int doomed_manifests(const struct view *v)
{
	int d = v->lists ? now.dlist_mans : 0, in_force = standing(v);

	for (int r = 0; r < 3; r++)
		d |= in_force & BIT(r) ? now.rdoom_mans[r] : 0;
	return d;
}

/* Manifests and restore records of evicted sessions that a record in force covers and doesn't accept. */
static int void_commits(const struct view *v)
{
	int gone = 0, in_force = standing(v);

	if (!RULE(void))
		return 0;
	for (int m = 0; m < 8; m++)
		for (int r = 0; r < 3; r++)
			if ((in_force & BIT(r)) && (session_of(m) & v->evict & now.rcov[r]) && !(now.racc[r] & BIT(m)))
				gone |= BIT(m);
	return gone;
}

static int firmly_accepted(const struct view *v)
{
	int a = 0, firm = firm_records(v);

	for (int r = 0; r < 3; r++)
		a |= firm & BIT(r) ? now.racc[r] : 0;
	return a;
}

static int pending_commits(const struct view *v)
{
	int p = 0, a = firmly_accepted(v);

	for (int m = 0; m < 8; m++)
		if ((session_of(m) & v->evict) && !(a & BIT(m)))
			p |= BIT(m);
	return p;
}

/* tombstone 0 names M0; 1 what FORGET says */
static int tomb_target(int t) { return t ? FORGET : 7; }

static int forgotten(const struct view *v, int build)
{
	int undoing = v->rests & ~void_commits(v), undone = 0, gone = 0;

	if (build)
		undoing &= ~pending_commits(v);
	for (int u = 0; u < 4; u++)
		undone |= undoing & BIT(u) ? now.undoes[u] : 0;
	for (int t = 0; t < 2; t++)
		if ((v->tombs & BIT(t)) && !(undone & BIT(t)))
			gone |= BIT(tomb_target(t));
	return gone | doomed_manifests(v);
}

/* The manifests listed, and those of them that may be built upon. */
static int live(const struct view *v)
{
	return v->mans & ~void_commits(v) & ~forgotten(v, 0);
}

static int live_build(const struct view *v)
{
	int ok = v->mans & ~void_commits(v) & ~forgotten(v, RULE(pending));

	return RULE(pending) ? ok & ~pending_commits(v) : ok;
}

static int condemned_by(int epochs)
{
	int c = 0;

	for (int k = 0; k < 3; k++)
		c |= epochs & BIT(k) ? now.econd[k] : 0;
	return c;
}

static int condemned_manifests_by(int epochs)
{
	int c = 0;

	for (int k = 0; k < 3; k++)
		c |= epochs & BIT(k) ? now.econd_mans[k] : 0;
	return c;
}

static int listed_in(int runs)
{
	int p = 0;

	for (int i = 0; i < RUNS; i++)
		p |= runs & BIT(i) ? now.index[i] : 0;
	return p;
}

/* An epoch object that no firm record has swept: then no tree is reused unread. */
static int open_epoch(const struct view *v, int epochs)
{
	return (epochs & ~firm_records(v)) != 0;
}

/* May a collector condemn the packs? What is needed and can be read stays readable; unless SUBSETS, no more could be
 * condemned with them. */
static int keeps(int needed, int copies, int packs)
{
	return !(needed & cover(copies, COLLECTOR_COVER) & ~cover(copies & ~packs, COLLECTOR_COVER));
}

static int condemnable(int needed, int copies, int packs, int all, int repack)
{
	if (!packs || !keeps(needed, copies, packs) || (repack && !(names(packs) & needed)))
		return 0;
	for (int more = packs; !SUBSETS && (more = (more + 1) | packs) <= all;)
		if (!(more & ~all) && more != packs && keeps(needed, copies, more))
			return 0;
	return 1;
}

/* What is doomed for good: by the collector's own record and by those it accepted.  What is only in force now may turn
 * out void. */
static int sure(int own, int accepted, int careful)
{
	struct view v = everything();

	for (int r = 0; r < 3; r++)
		own |= accepted & BIT(r) ? now.rdoom[r] : 0;
	return careful ? own : own | doomed(&v);
}

/* --- the property -------------------------------------------------------------------------------------------------- */
static int sound(void)
{
	struct view v = everything();
	int gone = void_commits(&v), there = live(&v);
	int readable = cover(now.packs & listed_in(now.runs) & ~doomed(&v), READ);

	if (now.reading == 3 && (need_of(7) & ~readable))
		return 0;	/* a pinned point can't be read */
	if (need(there) & ~readable)
		return 0;	/* a manifest is accepted, a chunk is gone */
	if (now.told & gone)
		return 0;	/* success was reported for what is void */
	if (now.told & ~now.rests & ~now.mans & ~forgotten(&v, 0))
		return 0;	/* success was reported for what is not there */
	for (int u = 0; u < 4; u++)	/* success was reported for an undelete, and nobody forgot again */
		if ((now.told & now.rests & BIT(u)) && !(there & BIT(7)) && !(now.tombs & ~now.undoes[u]))
			return 0;
	return !(gone & firmly_accepted(&v) & (now.mans | now.rests));	/* accepted by a firm record, void by another */
}
