/*
 * protocol.pml - many writers and collectors without a lock (docs/design.md, 7), for spin.  What is modelled, what is
 * left out and why, the rules and the results are in docs/model.md; run.sh has the configurations.
 *
 * Every operation on the store is one atomic step; a process may stop before any of them, which needs no step of its own:
 * the property is checked in every state, and no other process waits for it for ever (configuration "lease" proves the
 * latter, with stops as steps).  Clocks are left out: a lease may run out at any time.
 *
 * -D: see the defaults below.  NO_RULE_x drops rule x.
 */
#include "options.h"

short packs;		/* packs that are there */
short runs;		/* index runs that are there */
short index[RUNS];	/* the packs that each names */
byte mans;		/* manifests: 1 << writer, 7: M0 */
byte rests, undoes[4];	/* restore records; the tombstones that each undoes */
byte tombs;		/* 0 names M0, 1 names FORGET */
byte sess, ended;	/* sessions of writers; end markers of all; collectors are bits 4 to 6 */
byte csess;
byte named[4];		/* the epoch objects that a session names */
byte evict;		/* sessions evicted */
byte epochs;		/* of collector k: 1 << k */
short econd[3];
byte econd_mans[3];
byte recs;		/* sweep records */
byte rcov[3], racc[3], raccr[3];	/* evictions covered, commits and records accepted */
short rdoom[3];
byte rdoom_mans[3];
byte lists;		/* a doomed list is there */
short dlist;
byte dlist_mans;
byte late;		/* manifests on their way */
byte told;		/* commits for which success was reported */
short locked;
byte reading;		/* 1: M0 is pinned by a read session; 2: it has ended */
byte stopped;		/* who has stopped (STRICT): bits as of sessions */

c_code {
\#include "evaluate.h"
};

#define SOUND c_code [sound()] { ; }
#if STRICT
#define MAY_EVICT(bits) (stopped & (bits))
#define MAY_STOP(who) if :: stopped = stopped | (who); goto over :: skip fi;
#else
#define MAY_EVICT(bits) (bits)
#define MAY_STOP(who)
#endif
#define LOWEST(set) ((set) & -(set))

/*
 * A listing of a set.  When it takes time, all that was there throughout is in it, and of what came or went meanwhile any
 * part.  THEN ends a step: others may act before the next.
 */
#if SLOW
#define THEN } ; atomic {
#define LIST(to, set) to = set; THEN may = (to ^ set); to = to & set; \
	do :: may != 0 -> if :: to = to | LOWEST(may) :: skip fi; may = may & (may - 1) :: else -> break od; THEN skip
#else
#define THEN
#define LIST(to, set) to = set
#endif

proctype writer(byte me, role) {
	short cond, dead, put, may, r;
	byte seen, vm, vt, vr, vx, vl, ve, out;

	/* W1 */
	MAY_STOP(1 << me)
	atomic {
		LIST(seen, epochs);
		c_code { Pwriter->out = !RULE(treeafter) && (live_build((struct view[]){ everything() }) & BIT(BASE)); }
		printf("%d: lists epochs %x\n", me, seen)
	}
	MAY_STOP(1 << me)
	atomic {
		sess = sess | (1 << me);
		named[me] = seen;
		printf("%d: posts its session\n", me)
	}
	/* W2 */
	MAY_STOP(1 << me)
	atomic {
		LIST(r, epochs);
		c_code {
			if (!RULE(relist))
				Pwriter->r = Pwriter->seen;
			Pwriter->cond = condemned_by(Pwriter->r);
			Pwriter->seen |= Pwriter->r;
			Pwriter->r = 0;
		};
		LIST(vx, recs); vl = lists; LIST(ve, evict);
		c_code {
			struct view v = { 0, 0, 0, Pwriter->vx, Pwriter->vl, Pwriter->ve };

			Pwriter->dead = RULE(doomed) ? doomed(&v) : 0;
		};
		printf("%d: lists epochs again, condemned %x, doomed %x\n", me, cond, dead);
		vx = 0; ve = 0;
		if :: role != TREE && role != UNDELETE -> goto load :: else fi
	}
	/* W7, W9: manifests, listed after the session was posted */
	MAY_STOP(1 << me)
	atomic { LIST(vm, mans); LIST(vt, tombs); LIST(vr, rests); LIST(vx, recs); vl = lists; LIST(ve, evict) }
	/* W3: loads the index */
load:	MAY_STOP(1 << me)
	atomic {
		LIST(r, runs);
		if :: (r & ~runs) != 0 -> goto load :: else fi;	/* one has vanished: again */
		c_code {
			struct view v = { Pwriter->vm, Pwriter->vt, Pwriter->vr, Pwriter->vx, Pwriter->vl, Pwriter->ve };
			int me = Pwriter->me, own = BIT(3 + me), listed = listed_in(Pwriter->r), dead = Pwriter->dead;
			int have = listed & ~dead & (RULE(condemned) ? ~Pwriter->cond : ~0), want = need_of(me), found = 0, put = own;

			if (Pwriter->role == TREE)
				found = RULE(treeafter) ? !!(live_build(&v) & BIT(BASE)) && !(CAUTIOUS && open_epoch(&v, Pwriter->seen)) : Pwriter->out;
			if (Pwriter->role == COPY) {
				found = have & 1;
				put = RULE(refuse) && ((Pwriter->cond | dead) & 1) ? own : 1;
			} else if (Pwriter->role == UNDELETE) {
				Pwriter->out = 0;
				for (int t = 0; t < 2; t++)
					if ((v.tombs & BIT(t)) && tomb_target(t) == 7)
						Pwriter->out |= BIT(t);
				found = (v.mans & BIT(7)) && !(void_commits(&v) & BIT(7));
				found = found && (!RULE(undelete) || !(need_of(7) & ~cover(have & now.packs, WRITER_COVER)));
				found = found && !(RULE(deadman) && ((condemned_manifests_by(Pwriter->seen) | doomed_manifests(&v)) & BIT(7)));
			} else {
				found = found || !(want & ~cover(have, WRITER_COVER));
			}
			if (!found && Pwriter->role == RESUME) {
				int orphans = now.packs & (BIT(3) | BIT(7)) & ~listed & (RULE(resume) ? ~dead & ~Pwriter->cond : ~0);

				put = !(want & ~cover(have | orphans, WRITER_COVER)) ? orphans : own;
			}
			if (!found && DELTA_WRITER && me == 0 && !(want & ~cover(have | BIT(7), WRITER_COVER)))
				put = BIT(7);
			Pwriter->put = found ? 0 : put;
			Pwriter->dead = Pwriter->cond = Pwriter->seen = Pwriter->vm = Pwriter->vt = Pwriter->vr = Pwriter->vx = Pwriter->vl = Pwriter->ve = Pwriter->r = 0;
		}
		printf("%d: has loaded the index: to put %x\n", me, put)
		if
		:: role == UNDELETE && put != 0 -> put = 0; printf("%d: refuses to undelete\n", me); goto end
		:: role == RESUME && put != 0 && put != (8 << me) -> goto list	/* the packs are there */
		:: put == 0 -> goto commit
		:: else
		fi
	}
	/* W4 */
	MAY_STOP(1 << me)
#ifndef NO_RULE_packfirst
	atomic { packs = packs | put; printf("%d: puts pack %x\n", me, put); SOUND }
	MAY_STOP(1 << me)
#endif
list:
#ifndef NO_RULE_runfirst
	atomic { index[1 + me] = put; runs = runs | (2 << me); printf("%d: puts an index run\n", me); SOUND }
#endif
commit:
	MAY_STOP(1 << me)
	atomic {
		if
		:: role == UNDELETE -> undoes[me] = out; rests = rests | (1 << me)
		:: role != UNDELETE -> mans = mans | (1 << me)
		:: (LATE >> me) & 1 -> undoes[me] = out; late = late | (1 << me)
		fi;
		out = 0;
		printf("%d: commits; late: %x\n", me, late);
		if
		:: !((late >> me) & 1)
		:: else -> if :: RULE(endunknown) -> put = 0; goto over :: else -> goto end fi
		fi;
		SOUND
	}
#ifdef NO_RULE_runfirst
	if :: put != 0 -> atomic { index[1 + me] = put; runs = runs | (2 << me); SOUND } :: else fi;
#endif
#ifdef NO_RULE_packfirst
	if :: put != 0 -> atomic { packs = packs | put; SOUND } :: else fi;
#endif
	/* W5 */
	MAY_STOP(1 << me)
	atomic {
		put = 0;
		if
		:: ((evict >> me) & 1) && RULE(look) -> printf("%d: evicted, reports failure\n", me); goto over
		:: else -> told = told | (1 << me); printf("%d: SUCCESS\n", me)
		fi;
		SOUND
	}
	/* W6 */
	MAY_STOP(1 << me)
end:	atomic { put = 0; out = 0; ended = ended | (1 << me); printf("%d: posts its end marker\n", me) }
over:	skip
}

#define SELF (16 << k)

proctype collector(byte k) {
	short doom, todo, may, r, p, ep;
	byte other, tm, force, cov, acc, vm, vr, vl, mdoom, pin;
	bool repack;

#if MIDWAY
	if
	:: k == 0 && MIDWAY == 1 -> doom = 1; cov = 8; goto record
	:: k == 0 && MIDWAY == 2 -> doom = 4; goto check
	:: else
	fi;
#endif
	/* C1 */
	MAY_STOP(SELF)
	atomic { csess = csess | SELF; force = (RULE(recsafter) -> 0 : recs); printf("C%d: posts its session\n", k) }
others:	MAY_STOP(SELF)
	atomic {
		other = csess & ~SELF & ~ended & ~evict;
		THEN
		if
		:: other == 0 || !RULE(alone) -> other = 0; goto mark
		:: other != 0 && RULE(alone) -> other = 0; printf("C%d: sees another, withdraws\n", k); goto end
		:: MAY_EVICT(other) != 0 && RULE(alone) ->
			other = MAY_EVICT(other);
			evict = evict | LOWEST(other);
			other = 0;
			printf("C%d: evicts a collector: %x\n", k, evict);
			SOUND;
			goto others
		fi
	}
	/* C2, C3 */
mark:	MAY_STOP(SELF)
	atomic {
#if READER
		c_code { if (!RULE(pinafter)) Pcollector->pin = now.reading & 1; };
		THEN
#endif
		other = force; LIST(force, recs); force = (RULE(recsafter) -> force : other); other = 0; vl = lists; LIST(cov, evict); LIST(tm, tombs);
#if READER
		if
		:: RULE(pinafter) -> pin = reading & 1 & RULE(pin)
		:: reading & 1 -> reading = 4; pin = 0; printf("C%d: the reader's lease is over\n", k)
		:: !RULE(pinafter)
		fi;
		THEN
#endif
		LIST(vr, rests); LIST(vm, mans); LIST(r, runs);
		if :: (r & ~runs) != 0 -> goto mark :: else fi;
		LIST(p, packs); LIST(ep, epochs);
		c_code {
			struct view v = { Pcollector->vm, Pcollector->tm, Pcollector->vr, Pcollector->force, Pcollector->vl, Pcollector->cov };
			int listed = listed_in(Pcollector->r), there = live(&v) | (Pcollector->pin ? BIT(7) : 0), dead = doomed(&v);
			int usable = listed & Pcollector->p & ~dead;

			Pcollector->mdoom = REMOVES ? Pcollector->vm & ~there : 0;
			Pcollector->force = standing(&v);
			Pcollector->todo = RULE(condnocopy) ? usable & ~condemned_by(Pcollector->ep) : usable;	/* what counts as copies */
			Pcollector->acc = need(there);
			Pcollector->may = (listed | Pcollector->p) & ~dead;	/* what could be condemned */
			Pcollector->repack = REPACK && Pcollector->acc && !(Pcollector->acc & ~cover(usable, READ));
			if (RULE(found) && (need(there) & ~cover(usable, READ)))
				Pcollector->may = 0;
		}
		printf("C%d: marks %x: copies %x, to condemn of %x, epochs %x, records %x\n", k, vm, todo, may, ep, force);
		vm = (RULE(manifestsagain) -> 0 : vm);
		vr = 0; vl = 0; r = 0; ep = 0; p = 0; cov = 0;
		if :: repack :: repack = 0 fi;
		if :: repack -> todo = todo | (256 << k) :: else fi;
		doom = may;
		do
		:: doom == 0 -> goto nothing
		:: doom != 0 ->
			c_code { Pcollector->other = condemnable(Pcollector->acc, Pcollector->todo, Pcollector->doom, Pcollector->may, Pcollector->repack); };
			if :: other -> other = 0; break :: doom = (doom - 1) & may fi
		od;
		todo = 0; may = 0; acc = 0;
		SOUND;
		if :: !repack || !RULE(stored) -> goto epoch :: else fi
	}
	MAY_STOP(SELF)
	atomic { packs = packs | (256 << k); printf("C%d: puts a repacked pack\n", k); SOUND }
	MAY_STOP(SELF)
	atomic { index[5 + k] = 256 << k; runs = runs | (32 << k); repack = 0; printf("C%d: puts its run\n", k); SOUND }
epoch:
	MAY_STOP(SELF)
	atomic { econd[k] = doom; econd_mans[k] = mdoom; epochs = epochs | (1 << k); printf("C%d: posts epoch, condemns %x\n", k, doom); SOUND }
	/* C4 */
wait:	MAY_STOP(SELF)
	atomic {
		other = sess;
		THEN
		c_code {
			int open = Pcollector->other & ~now.ended;

			for (int w = 0; w < 4; w++)
				if (now.named[w] & BIT(Pcollector->k))
					open &= ~BIT(w);
			Pcollector->other = RULE(wait) ? open : 0;
		};
		THEN
		other = other & ~evict;
		if
		:: other == 0
		:: MAY_EVICT(other) != 0 ->
			other = MAY_EVICT(other);
			do :: LOWEST(other) != other -> if :: other = other & (other - 1) :: other = LOWEST(other) fi :: else -> break od;
			evict = evict | other;
			other = 0;
			printf("C%d: evicts a session: %x\n", k, evict);
			SOUND;
			goto wait
		:: STRICT && other != 0 && (ended & other) == other -> goto wait	/* waits until it ends or stops */
		fi
	}
	/* C5 */
	MAY_STOP(SELF)
	atomic { LIST(cov, evict); printf("C%d: will cover %x\n", k, cov) }
again:	MAY_STOP(SELF)
	atomic {
		c_code { if (RULE(manifestsagain)) Pcollector->vm = 0; };
		acc = vm;
		LIST(vm, mans); LIST(vr, rests); LIST(r, runs);
		if :: (r & ~runs) != 0 -> goto again :: else fi;
		LIST(p, packs); LIST(ep, epochs);
		c_code {
			struct view v = { RULE(manifestsagain) ? Pcollector->vm : Pcollector->acc, RULE(tomb) ? Pcollector->tm : now.tombs, Pcollector->vr,
					  Pcollector->force, 0, Pcollector->cov };
			int unstored = RULE(stored) || !Pcollector->repack ? 0 : BIT(8 + Pcollector->k);
			int listed = (listed_in(Pcollector->r) & Pcollector->p) | unstored, there = live(&v) | (Pcollector->pin ? BIT(7) : 0);
			int stay = listed & ~(RULE(condnocopy) ? condemned_by(Pcollector->ep | BIT(Pcollector->k)) : Pcollector->doom) & ~doomed(&v);
			int lack = need(there) & ~cover(stay, COLLECTOR_COVER), spare = 0;

			if (lack && RULE(reprieve))
				spare = holders(Pcollector->doom, RULE(markbase) ? with_bases(lack, listed | Pcollector->doom) : lack);
			Pcollector->acc = (v.mans | v.rests) & ~void_commits(&v);
			if (!RULE(carry))
				Pcollector->acc &= ~firmly_accepted(&v);
			Pcollector->doom &= ~spare;
			Pcollector->mdoom &= ~there;
			Pcollector->other = RULE(found) && (need(there) & ~cover((listed & ~doomed(&v)) | Pcollector->doom, READ));
		}
		printf("C%d: lists again: accepts %x, dooms %x\n", k, acc, doom);
		vm = 0; vr = 0; r = 0; p = 0; ep = 0; tm = 0; pin = 0;
		if :: other -> other = 0; goto nothing :: else fi	/* something is missing that was there: not to be believed */
	}
#ifdef NO_RULE_dropafter
	atomic { epochs = epochs & ~(1 << k); SOUND }
#endif
record:	MAY_STOP(SELF)
	atomic {
#ifdef NO_RULE_evictfirst
		cov = evict;
#endif
		rcov[k] = cov; racc[k] = acc; raccr[k] = force; rdoom[k] = doom; rdoom_mans[k] = mdoom;
		recs = recs | (1 << k);
		acc = 0;
		printf("C%d: posts its record\n", k);
		SOUND
	}
	/* C6 */
check:	MAY_STOP(SELF)
	atomic {
		if :: (evict & SELF) && RULE(check) -> printf("C%d: evicted, stops\n", k); goto over :: else fi;
		c_code {
			Pcollector->todo = sure(Pcollector->doom, Pcollector->force, 1) & now.packs;
		};
		mans = mans & ~mdoom;
		mdoom = 0;
		SOUND
	}
	do
	::	MAY_STOP(SELF)
		atomic {
#ifdef NO_RULE_retryown
			c_code { Pcollector->todo |= sure(0, 0, 0); };
#endif
			todo = todo & packs;
			if :: todo == 0 -> break :: else fi;
			p = todo;
			do :: LOWEST(p) != p -> if :: p = p & (p - 1) :: p = LOWEST(p) fi :: else -> break od;
			todo = todo & ~p;
			packs = packs & ~(p & ~locked);
			printf("C%d: deletes %x, left: %x\n", k, p, packs);
			p = 0;
			SOUND
		}
	od;
#ifdef NO_RULE_stored
	if
	:: repack -> atomic { packs = packs | (256 << k); index[5 + k] = 256 << k; runs = runs | (32 << k); repack = 0; SOUND }
	:: else
	fi;
#endif
	/* C7 */
merge:	MAY_STOP(SELF)
	atomic {
		LIST(r, runs);
		if :: (r & ~runs) != 0 -> goto merge :: else fi;
		c_code {
			now.index[8 + Pcollector->k] = listed_in(Pcollector->r) & ~sure(Pcollector->doom, Pcollector->force, RULE(mergeown));
		};
#if FINE
		if :: !RULE(mergefirst) -> goto drop :: else fi;
	}
put:	atomic {
#endif
		runs = runs | (index[8 + k] != 0 -> (256 << k) : 0);
		printf("C%d: puts merged run %x\n", k, index[8 + k]);
#if FINE
		SOUND
	}
drop:	do
	::	MAY_STOP(SELF)
		atomic {
			if :: r == 0 -> break :: else fi;
			runs = runs & ~LOWEST(r);
			r = r & (r - 1);
			printf("C%d: removes a run, left %x\n", k, runs);
			SOUND
		}
	od;
#ifdef NO_RULE_mergefirst
	atomic { runs = runs | (index[8 + k] != 0 -> (256 << k) : 0); SOUND }
#endif
	atomic {
#else
		runs = runs & ~r;
#endif
		r = 0; doom = 0; todo = 0;
		SOUND
	}
	/* C8: its own epoch object, and those of collectors whose evictions its record covers */
	MAY_STOP(SELF)
	atomic { epochs = epochs & ~(1 << k) & ~(cov >> 4); printf("C%d: drops epochs, left %x\n", k, epochs); SOUND }
	/* C9 */
#if SUMS_UP
	MAY_STOP(SELF)
	atomic {
		c_code {
			for (int r = 0; r < 3; r++)
				if ((Pcollector->force | (RULE(sumearlier) ? 0 : BIT(Pcollector->k))) & BIT(r)) {
					now.dlist |= now.rdoom[r];
					now.dlist_mans |= now.rdoom_mans[r];
				}
		};
		if :: RULE(sumfirst) -> lists = 1 :: else -> recs = recs & ~force fi;
		printf("C%d: posts a doomed list\n", k);
		SOUND
	}
	MAY_STOP(SELF)
	atomic { recs = recs & ~force & ~(RULE(sumearlier) -> 0 : 1 << k); lists = 1; printf("C%d: removes records, left %x\n", k, recs); SOUND }
#endif
	goto end;
nothing: atomic { doom = 0; todo = 0; may = 0; acc = 0; force = 0; tm = 0; mdoom = 0; pin = 0; repack = 0; cov = 0; other = 0; epochs = epochs & ~(1 << k); printf("C%d: nothing to do\n", k) }
end:	MAY_STOP(SELF)
	atomic { ended = ended | SELF; printf("C%d: posts its end marker\n", k); SOUND }
over:	atomic { doom = 0; todo = 0; may = 0; r = 0; p = 0; ep = 0; other = 0; tm = 0; force = 0; cov = 0; acc = 0; vm = 0; vr = 0; vl = 0; mdoom = 0; pin = 0; repack = 0 }
}

#if FORGETS
proctype forgetter() {
end:	atomic { (mans >> FORGET) & 1; tombs = tombs | 2; printf("F: forgets\n"); SOUND }
}
#endif

#if READER
/* R1: M0 is listed, pinned, and looked at again: if it is listed still, its chunks stay until the session ends. */
proctype reader() {
	short may;
	byte vm, vt, vr, vx, vl, ve;

end:	atomic { (mans >> 7) & 1; reading = 1; printf("R: pins M0\n") }
	atomic {
		LIST(vt, tombs); LIST(vr, rests); LIST(vx, recs); vl = lists; LIST(ve, evict); LIST(vm, mans);
		c_code {
			struct view v = { Preader->vm, Preader->vt, Preader->vr, Preader->vx, Preader->vl, Preader->ve };

			Preader->may = !RULE(lookagain) || (live(&v) & BIT(7));
		};
		if
		:: reading == 4 -> goto over
		:: reading != 4 && may ->
			reading = 3; printf("R: M0 is listed still\n")
		:: else -> reading = 2; printf("R: gone, gives up\n"); goto over
		fi;
		SOUND
	}
	atomic { if :: reading == 3 -> reading = 2 :: else fi; printf("R: done\n") }
over:	skip
}
#endif

#if LATE || LOCKED || MIDWAY || REMOVES > 1
proctype world() {
	byte m;
	bool again = REMOVES > 1;
	bool run4 = MIDWAY == 2;

end:	do
	::	atomic {
			late != 0 -> m = late;
			do :: LOWEST(m) != m -> if :: m = m & (m - 1) :: m = LOWEST(m) fi :: else -> break od;
			late = late & ~m;
			if
			:: (m == 1 && WRITER0 == UNDELETE) || (m == 2 && WRITER1 == UNDELETE) -> rests = rests | m
			:: else -> mans = mans | m
			fi;
			m = 0;
			printf("late put lands: %x\n", mans | rests);
			SOUND
		}
	::	atomic { run4 -> run4 = false; index[4] = 4; runs = runs | 16; printf("late index run of pack 2 lands\n"); SOUND }
	::	atomic { locked != 0 -> locked = 0; printf("the retention lapses\n") }
	::	atomic { again && !(mans >> 7) -> again = 0; mans = mans | 128; printf("the put of M0 arrives again\n"); SOUND }
	od
}
#endif

init {
	atomic {
		packs = START_PACKS;
		index[0] = START_PACKS;
		runs = (START_PACKS -> 1 : 0);
		mans = (M0 -> 128 : 0);
		tombs = (M0 == 2 -> 1 : 0);
		locked = LOCKED;
#if MIDWAY
		econd[0] = 1; epochs = 1; csess = 16;
#if MIDWAY == 1
		late = 8; evict = 8; sess = 8;
#else
		recs = 1; rdoom[0] = 4;
#endif
#endif
#if WRITER0
		run writer(0, WRITER0);
#endif
#if WRITER1
		run writer(1, WRITER1);
#endif
#if WRITER2
		run writer(2, WRITER2);
#endif
#if LATE || LOCKED || MIDWAY || REMOVES > 1
		run world();
#endif
#if FORGETS
		run forgetter();
#endif
#if READER
		run reader();
#endif
		run collector(0);
#if COLLECTORS > 1
		run collector(1);
#endif
#if COLLECTORS > 2
		run collector(2);
#endif
	}
}
