/* stats.c - counting: objects by listing, chunks by the index, sizes by the manifests. */
#include "repo/stats.h"

#include <string.h>

#include "base/cancel.h"
#include "transport/store.h"

void repo_stats_free(struct repo_stats *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->vms.n; i++)
		free(s->vms.p[i].vm);
	VEC_DONE(&s->vms);
	free(s);
}

static void count(struct stats_kind *k, uint64_t bytes)
{
	k->objects++;
	k->bytes += bytes;
}

struct listing {
	struct repo *r;
	struct repo_stats *s;
};

static int listed(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	struct listing *l = opaque;
	struct object_name n;

	count(&l->s->total, st->size);
	if (strcmp(name, "config") == 0)
		count(&l->s->kind[OBJECT_CONFIG], st->size);
	else if (object_name_parse(name, &n) && n.type < OBJECT_TYPE_END)
		count(&l->s->kind[n.type], st->size);
	else
		count(&l->s->unknown, st->size);
	return cancel_check(repo_cancel(l->r), e);
}

struct counting {
	struct repo *r;
	struct index *x;
	struct repo_stats *s;
};

static int counted(void *opaque, const struct id *id, const struct chunk_place *place, const struct id *bases,
		   struct err *e)
{
	struct counting *c = opaque;
	const struct pack_info *pack = index_pack(c->x, place->pack);

	(void)id;
	(void)bases;
	if (pack->usable && pack->kind == PACK_NODES)
		c->s->nodes++;
	if (pack->usable && pack->kind == PACK_DATA) {
		c->s->chunks++;
		c->s->delta_chunks += place->nbases != 0;
	}
	return cancel_check(repo_cancel(c->r), e);
}

static uint64_t state_size(const struct manifest_state *s)
{
	uint64_t size = 0;

	for (size_t i = 0; i < s->disks.n; i++)
		size += s->disks.p[i].tree.size;
	return size;
}

static uint64_t newest_size(const struct manifest *m)
{
	for (size_t i = 0; i < m->states.n; i++)
		if (m->states.p[i].kind == STATE_CURRENT)
			return state_size(&m->states.p[i]);
	return m->states.n ? state_size(&m->states.p[0]) : 0;
}

/* The list is by VM, then end time: a VM's backups follow each other. */
static int add_backup(struct repo_stats *s, const struct manifest *m, struct err *e)
{
	struct stats_vm *vm = s->vms.n ? &s->vms.p[s->vms.n - 1] : NULL;

	if (!vm || strcmp(vm->vm, m->vm) != 0) {
		vm = VEC_PUSH(&s->vms, e);
		if (!vm)
			return e->code;
		vm->vm = strdup(m->vm);
		if (!vm->vm)
			return err_set(e, ERR_NOMEM, "no memory for a name");
		vm->first_ns = m->end_ns;
	}
	vm->backups++;
	vm->incomplete += !m->complete;
	vm->states += m->states.n;
	vm->last_ns = m->end_ns;
	vm->size = newest_size(m);
	for (size_t i = 0; i < m->states.n; i++)
		vm->logical += state_size(&m->states.p[i]);
	vm->bytes_read += m->bytes_read;
	vm->bytes_new += m->bytes_new;
	vm->bytes_stored += m->bytes_stored;
	return 0;
}

int repo_stats_collect(struct repo *r, struct index *x, const struct backup_list *l, struct repo_stats **ret,
		       struct err *e)
{
	CLEANUP(repo_stats_free_cleanup) struct repo_stats *s = calloc(1, sizeof(*s));
	struct listing listing = { .r = r, .s = s };
	struct counting counting = { .r = r, .x = x, .s = s };

	if (!s)
		return err_set(e, ERR_NOMEM, "no memory for statistics");
	if (store_list(repo_store(r), "", listed, &listing, e) < 0 || index_each(x, counted, &counting, e) < 0)
		return e->code;
	s->chunk_bytes = s->chunks * repo_config(r)->chunk_size;
	for (uint32_t i = 0; i < index_npacks(x); i++)
		s->unusable_packs += !index_pack(x, i)->usable;
	for (size_t i = 0; i < l->n; i++)
		if (add_backup(s, l->p[i].m, e) < 0)
			return e->code;
	for (size_t i = 0; i < s->vms.n; i++)
		s->logical += s->vms.p[i].logical;
	*ret = STEAL(s);
	return 0;
}
