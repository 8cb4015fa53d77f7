/* repo_init.c - making a repository (docs/format.md, sections 2 and 4). */
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "repo/repo_internal.h"
#include "transport/store.h"

#define SECOND_NS ((int64_t)1000000000)

/* What an interrupted init may have left: key slots, and their records, without a config.  They open nothing. */
struct place {
	bool unfinished;
	char foreign[OBJECT_NAME_BYTES];	/* an object that no init leaves, or "" */
};

static int look_at(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct place *p = opaque;
	struct object_name n;

	(void)st;
	(void)e;
	if (!strncmp(name, STORE_SELF_TEST, strlen(STORE_SELF_TEST)) ||
	    (object_name_parse(name, &n) && (n.type == OBJECT_KEY || n.type == OBJECT_SLOT))) {
		p->unfinished = true;
		return 0;
	}
	snprintf(p->foreign, sizeof(p->foreign), "%s", name);
	return 1;
}

/* Is there room for a repository?  Leftovers can only be told from a rival's where one config is sure to win. */
static int check_place(struct store *s, bool *ret_unfinished, struct err *e)
{
	struct place p = { 0 };
	struct store_stat st;
	int rc = store_stat(s, CONFIG_NAME, &st, e);

	if (rc == 0)
		return err_set(e, ERR_EXISTS, "a repository exists already at %s", s->location);
	if (rc != ERR_NOTFOUND)
		return rc;
	err_clear(e);
	if (store_list(s, "", look_at, &p, e) < 0)
		return e->code;
	if (p.foreign[0]) {
		err_set(e, ERR_EXISTS, "%s: it is not empty: it holds \"%s\"", s->location, p.foreign);
		return err_hint(e, "choose another place; if there was a repository, its object \"config\" is lost: "
				   "bring it back from a copy of the storage");
	}
	if (p.unfinished && !store_caps(s)->conditional_put) {
		err_set(e, ERR_EXISTS, "%s: it is not empty: it holds what an interrupted init left", s->location);
		return err_hint(e, "remove what is below keys/, slots/ and self-test/ there, which opens nothing, and "
				   "run init again");
	}
	*ret_unfinished = p.unfinished;
	return 0;
}

bool repo_unfinished(struct store *s)
{
	struct err unheard = ERR_INIT;
	struct store_stat st;
	struct place p = { 0 };

	return store_stat(s, CONFIG_NAME, &st, &unheard) == ERR_NOTFOUND &&
	       store_list(s, "", look_at, &p, &unheard) == 0 && p.unfinished && !p.foreign[0];
}

static int init_config(const struct repo_init_opts *o, struct repo_config *c, struct err *e)
{
	c->draft = true;
	c->chunk_size = o->chunk_size ? o->chunk_size : CHUNK_DEFAULT_BYTES;
	c->pack_size = o->pack_size ? o->pack_size : PACK_DEFAULT_BYTES;
	if (!is_pow2(c->chunk_size) || c->chunk_size < CHUNK_MIN_BYTES || c->chunk_size > CHUNK_MAX_BYTES)
		return err_set(e, ERR_INVALID,
			       "a chunk size of %" PRIu32 " bytes is no power of two from 4 KiB to 4 MiB",
			       c->chunk_size);
	if (c->pack_size < 1u << 20 || c->pack_size > PACK_MAX_BYTES / 2)
		return err_set(e, ERR_INVALID, "a pack size of %" PRIu32 " bytes is not from 1 MiB to 128 MiB",
			       c->pack_size);
	c->segment_size = c->chunk_size > SEGMENT_DEFAULT_BYTES ? c->chunk_size : SEGMENT_DEFAULT_BYTES;
	c->created_ns = clock_wall_ns();
	c->lease_ns = 24 * 3600 * SECOND_NS;
	c->skew_ns = 600 * SECOND_NS;
	c->settling_ns = 60 * SECOND_NS;
	c->grace_ns = 7 * 24 * 3600 * SECOND_NS;
	randombytes_buf(c->cipher_id, sizeof(c->cipher_id));
	randombytes_buf(c->instance_id, sizeof(c->instance_id));
	return 0;
}

/* What is there may be what we put, of which the reply was lost. */
static bool is_ours(struct repo *r, const struct buf *config)
{
	CLEANUP(free_ptr) uint8_t *p = NULL;
	struct err e = ERR_INIT;
	size_t len;

	return store_get(r->store, CONFIG_NAME, ENVELOPE_MAX_BYTES, &p, &len, &e) == 0 && len == config->len &&
	       !memcmp(p, config->p, len);
}

/* Two inits at once: the later config is refused where the store can tell. */
static int put_config(struct repo *r, struct err *e)
{
	CLEANUP(free_ptr) char *json = NULL, *same = NULL;
	struct object_name n = { .type = OBJECT_CONFIG };
	struct outgoing o;
	struct buf out;
	size_t len, same_len;
	int rc;

	if (config_encode(&r->cfg, &json, &len, e) < 0 || config_encode(&r->cfg, &same, &same_len, e) < 0)
		return e->code;
	buf_init(&out, ENVELOPE_MAX_BYTES);
	rc = envelope_seal(r, OBJECT_CONFIG, json, len, &out, e);
	if (rc == 0)
		rc = object_outgoing(r, &n, &out, same, same_len, &o, e);
	if (rc == 0)
		rc = object_send(r, &o, &out, e);
	if (rc == ERR_EXISTS && is_ours(r, &out)) {
		err_clear(e);
		rc = 0;
	}
	buf_done(&out);
	if (rc == ERR_EXISTS)
		(void)err_hint(e, "another init made a repository there meanwhile; its keys are the ones that count");
	return rc;
}

/*
 * One config is in place, so the other inits' slots can never open anything.  They go, lest every opening stumbles over
 * them: who won removes what was left there (ours: false), who lost what it has put itself.  What can't be removed is
 * passed over for ever.
 */
static void remove_slots(struct repo *r, const struct slot_id own[2], bool ours)
{
	static const enum object_type kinds[] = { OBJECT_KEY, OBJECT_SLOT };

	for (size_t k = 0; k < 2; k++) {
		struct err e = ERR_INIT;
		struct object_name n;
		struct name_list l;
		size_t rest = 0;

		if (object_list(r, kinds[k], &l, &e) < 0)
			return;
		for (size_t i = 0; i < l.n; i++)
			if (object_name_parse(l.p[i], &n) &&
			    (slot_eq(&n.slot, &own[0]) || slot_eq(&n.slot, &own[1])) == ours)
				rest += store_remove(r->store, l.p[i], &e) < 0;
		name_list_free(&l);
		if (rest)
			LOG_DEBUG("%zu objects of an init that made no repository stay: %s", rest, e.cause);
	}
}

int repo_init(struct store *s, const struct secret *secret, const struct repo_init_opts *o,
	      struct secret **ret_recovery, struct err *e)
{
	struct slot_new_opts first = { .label = o->label ? o->label : "first", .role = ROLE_FULL, .trusted = true,
				       .argon_passes = o->argon_passes, .argon_kib = o->argon_kib };
	struct slot_new_opts spare = { .label = "recovery", .role = ROLE_FULL, .trusted = true };
	CLEANUP(secret_free_cleanup) struct secret *recovery = NULL;
	CLEANUP(repo_close_cleanup) struct repo *r = NULL;
	struct slot_id own[2];
	bool unfinished = false;

	if (repo_new(s, NULL, &r, e) < 0 || init_config(o, &r->cfg, e) < 0 || check_place(s, &unfinished, e) < 0 ||
	    keyring_generate(&r->keys, e) < 0 || secret_new_recovery(&recovery, e) < 0 ||
	    slot_store(r, secret, &first, &own[0], e) < 0 || slot_store(r, recovery, &spare, &own[1], e) < 0)
		return e->code;
	if (o->show && o->show(o->opaque, recovery, e) < 0)
		return e->code;
	if (put_config(r, e) < 0) {
		if (e->code == ERR_EXISTS)
			remove_slots(r, own, true);
		return e->code;
	}
	if (unfinished)
		remove_slots(r, own, false);
	*ret_recovery = STEAL(recovery);
	return 0;
}
