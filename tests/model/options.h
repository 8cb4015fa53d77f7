/*
 * options.h - what a configuration of the model has (-DNAME=value), for protocol.pml and evaluate.h alike.
 */
#ifndef MODEL_OPTIONS_H
#define MODEL_OPTIONS_H

#ifndef WRITER0
#define WRITER0 0	/* what each writer is: a role below, 0 = there is none */
#endif
#ifndef WRITER1
#define WRITER1 0
#endif
#ifndef WRITER2
#define WRITER2 0
#endif
#define BACKUP 1	/* looks its chunk up, stores it when it is not found */
#define TREE 2		/* reuses the tree of manifest BASE, unread; else as BACKUP */
#define COPY 3		/* wants to put pack 0 as it is */
#define UNDELETE 4	/* undoes the tombstones of M0 */
#define RESUME 5	/* a second run of writer 0's slot: may use its packs that no index run names */
#ifndef COLLECTORS
#define COLLECTORS 1
#endif
#ifndef WORLD
#define WORLD 0		/* what packs hold: evaluate.h */
#endif
#ifndef DELTA_WRITER
#define DELTA_WRITER 0	/* writer 0 stores chunk c, as a delta on b where it finds b */
#endif
#ifndef DEPTH_LIMIT
#define DEPTH_LIMIT 8
#endif
#ifndef START_PACKS
#define START_PACKS 1	/* bits: packs that are there, in an index run */
#endif
#ifndef M0
#define M0 0		/* 1: manifest M0 is there; 2: and forgotten */
#endif
#ifndef BASE
#define BASE 7		/* whose tree TREE reuses: 7 is M0, else of the writer */
#endif
#ifndef FORGETS
#define FORGETS 0	/* somebody forgets manifest FORGET at some moment */
#endif
#ifndef FORGET
#define FORGET 7
#endif
#ifndef REPACK
#define REPACK 0	/* collectors may store what lives anew and condemn the rest */
#endif
#ifndef LATE
#define LATE 0		/* bits: writers whose manifest's put may time out and land at any later time */
#endif
#ifndef SUBSETS
#define SUBSETS 0	/* 1: a collector may condemn less than it could */
#endif
#ifndef SLOW
#define SLOW 0		/* 1: listings take time: what comes and goes meanwhile may be in them or not, in any mix */
#endif
#ifndef FINE
#define FINE SLOW	/* 1: the merge of index runs in its single steps */
#endif
#ifndef READER
#define READER 0	/* 1: somebody reads M0 under a read session */
#endif
#ifndef LOCKED
#define LOCKED 0	/* bits: packs whose retention may refuse a delete, until it lapses */
#endif
#ifndef REMOVES
#define REMOVES 0	/* 1: collectors remove forgotten manifests; 2: and a put repeated by the network may bring M0 back */
#endif
#ifndef SUMS_UP
#define SUMS_UP 0	/* 1: collectors sum up earlier records in a doomed list and remove them */
#endif
#ifndef STRICT
#define STRICT 0	/* 1: a lease runs out only for who has stopped; stopping is a step (configuration "lease") */
#endif
#ifndef CAUTIOUS
#define CAUTIOUS 0	/* 1: no tree is reused unread while an epoch object is there that no firm record swept */
#endif
#ifndef MIDWAY
#define MIDWAY 0	/* 1: starts where collector 0, which has evicted writer 3, is about to post its record;
			 * 2: where its record that dooms pack 2 is posted; an index run that names it may come late */
#endif

#define RUNS 11		/* index runs: 0 from the start, 1 + w of writer w, 5 + k of what k repacked, 8 + k: k's merge */

/* false with -DNO_RULE_x */
#define RULE(x) (!IS_ONE(NO_RULE_##x))
#define IS_ONE(x) IS_ONE_(x)
#define IS_ONE_(x) IS_ONE__(COMMA_##x)
#define IS_ONE__(x) SECOND(x 1, 0)
#define SECOND(x, y, ...) y
#define COMMA_1 0,

#endif
