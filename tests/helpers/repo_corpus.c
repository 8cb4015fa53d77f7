/*
 * repo_corpus.c - writes the seeds of the fuzz targets slot, config and protocol: repo_corpus FOLDER, one folder each
 * below it.  Run again when the format changes; keys are random each time.
 */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/text.h"
#include "repo/protocol_internal.h"
#include "repo/repo_internal.h"

static void check(bool ok, const struct err *e)
{
	if (ok)
		return;
	fprintf(stderr, "repo_corpus: %s\n", e->cause);
	exit(1);
}

static void write_seed(const char *dir, const char *target, const char *name, const void *p, size_t len)
{
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *folder = text_printf(&e, "%s/%s", dir, target);
	CLEANUP(free_ptr) char *path = text_printf(&e, "%s/%s/%s", dir, target, name);

	check(folder && path && fs_mkdirs(folder, 0777, &e) == 0, &e);
	check(fs_write_atomic(path, p, len, true, 0666, &e) == 0, &e);
}

static void slots(const char *dir)
{
	static const char *const names[] = { "keys-put", "keys-maintain", "keys-full" };
	struct slot_info s = { .id = { { 1 } }, .role = ROLE_PUT, .kind = SECRET_KEYFILE, .serial = 1, .time_ns = 1 };
	struct key_header h = { .kind = SECRET_RECOVERY, .slot = { { 1 } } };
	struct secret *recovery = NULL;
	struct keyring *k = NULL;
	struct err e = ERR_INIT;
	uint8_t *payload = NULL;
	struct buf out;
	char *json;
	size_t len;

	check(keyring_generate(&k, &e) == 0 && secret_new_recovery(&recovery, &e) == 0, &e);
	for (int role = ROLE_PUT; role <= ROLE_FULL; role++) {
		check(keyring_encode(k, (enum slot_role)role, k->slot_seed, &payload, &len, &e) == 0, &e);
		write_seed(dir, "slot", names[role - 1], payload, len);
		if (role == ROLE_PUT) {
			buf_init(&out, 1 << 20);
			check(key_object_seal(&h, recovery, payload, len, &out, &e) == 0, &e);
			write_seed(dir, "slot", "key-object", out.p, out.len);
			buf_done(&out);
		}
		sodium_free(payload);
	}
	s.label = (char[]){ "caf\xc3\xa9 \xff" };
	s.vms = (char *[]){ (char[]){ "web" }, NULL };
	check(slot_record_encode(&s, &json, &len, &e) == 0, &e);
	write_seed(dir, "slot", "record", json, len);
	free(json);
	keyring_free(k);
	secret_free(recovery);
}

static void configs(const char *dir)
{
	struct repo_config c = {
		.draft = true, .chunk_size = 65536, .segment_size = 262144, .pack_size = 32 << 20, .created_ns = 1
	};
	static const char seen[] = "{\"heads\":[{\"slot\":\"0123456789abcdef\",\"session\":"
				   "\"0123456789abcdef0123456789abcdef\","
				   "\"hash\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\","
				   "\"sequence\":1,\"end\":2,"
				   "\"vm\":\"web\"}],\"slots\":[{\"slot\":\"0123456789abcdef\",\"serial\":1}]}";
	struct err e = ERR_INIT;
	char *json;
	size_t len;

	check(config_encode(&c, &json, &len, &e) == 0, &e);
	write_seed(dir, "config", "config", json, len);
	write_seed(dir, "config", "seen", seen, sizeof(seen) - 1);
	free(json);
}

static void add_name(struct name_list *l, enum object_type type, uint8_t number, char **ret_copy)
{
	struct object_name n = { .type = type, .slot = { { 1 } }, .session = { { number } } };
	char name[OBJECT_NAME_BYTES];
	struct err e = ERR_INIT;

	object_name_text(&n, name);
	if (l)
		check(name_list_add(l, name, &e) == 0, &e);
	if (ret_copy)
		*ret_copy = strdup(name);
}

static void protocols(const char *dir)
{
	for (int type = OBJECT_SESSION; type <= OBJECT_REMOVAL; type += type == OBJECT_EXTENSION ? OBJECT_REMOVAL - type : 1) {
		struct protocol_object *p = calloc(1, sizeof(*p));
		CLEANUP(free_ptr) char *json = NULL, *seed = NULL;
		struct err e = ERR_INIT;
		char name[16];
		size_t len;

		if (!p)
			exit(1);
		p->type = (enum object_type)type;
		p->slot.b[0] = 1;
		p->number = 1;
		p->evicted_slot.b[0] = p->removes.b[0] = 1;
		add_name(&p->epochs, OBJECT_EPOCH, 1, &p->epoch);
		add_name(&p->points, OBJECT_MANIFEST, 1, &p->manifest);
		add_name(&p->condemned, OBJECT_DATA_SEGMENT, 1, NULL);
		add_name(&p->evictions, OBJECT_EVICTION, 1, NULL);
		add_name(&p->accepted, OBJECT_MANIFEST, 1, NULL);
		add_name(&p->accepted, OBJECT_SWEEP, 2, NULL);
		add_name(&p->doomed, OBJECT_RUN_TAIL, 1, NULL);
		add_name(&p->reprieved, OBJECT_NODE_SEGMENT, 1, NULL);
		add_name(&p->sweeps, OBJECT_SWEEP, 1, NULL);
		add_name(&p->tombstones, OBJECT_TOMBSTONE, 1, NULL);
		add_name(&p->objects, OBJECT_MANIFEST, 1, NULL);
		check(protocol_encode(p, &json, &len, &e) == 0, &e);
		seed = text_printf(&e, "%c%s", type == OBJECT_REMOVAL ? 'R' :
				   type - OBJECT_SESSION + 'n' - 'n' % (OBJECT_EXTENSION - OBJECT_SESSION + 1), json);
		check(seed != NULL, &e);
		snprintf(name, sizeof(name), "%02d", type);
		write_seed(dir, "protocol", name, seed, strlen(seed));
		protocol_object_free(p);
	}
}

int main(int argc, char **argv)
{
	if (argc != 2 || sodium_init() < 0) {
		fprintf(stderr, "usage: repo_corpus FOLDER\n");
		return 2;
	}
	slots(argv[1]);
	configs(argv[1]);
	protocols(argv[1]);
	return 0;
}
