/*
 * fuzz_slot.c - any bytes as a key object (what lies outside its seal), as the keys that a key object holds, and as a
 * slot record.  The key derivation is left out: it costs 64 MiB a try and looks at no structure.
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "repo/repo_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void try_keys(const uint8_t *data, size_t size)
{
	CLEANUP(keyring_free_cleanup) struct keyring *k = NULL;
	uint8_t *payload = NULL;
	struct err e = ERR_INIT;
	size_t len;

	if (keyring_decode(data, size, &k, &e) < 0) {
		check(e.code < 0 && !k);
		return;
	}
	check(keyring_encode(k, k->role, k->slot_seed, &payload, &len, &e) == 0);
	check(len == size && !memcmp(payload, data, size));	/* one encoding only */
	sodium_free(payload);
}

static void try_record(const uint8_t *data, size_t size)
{
	CLEANUP(free_ptr) char *json = NULL, *json2 = NULL;
	struct slot_info s, again;
	struct err e = ERR_INIT;
	size_t len, len2;

	if (slot_record_decode(data, size, &s, &e) < 0)
		return;
	check(slot_record_encode(&s, &json, &len, &e) == 0);
	check(slot_record_decode(json, len, &again, &e) == 0);
	check(slot_record_encode(&again, &json2, &len2, &e) == 0 && len == len2 && !memcmp(json, json2, len));
	slot_info_done(&s);
	slot_info_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e = ERR_INIT;
	struct key_header h;

	check(sodium_init() >= 0);
	if (key_object_parse(data, size, &h, &e) == 0)
		check(h.argon_passes <= ARGON_PASSES_MAX && h.argon_kib <= ARGON_KIB_MAX);
	try_keys(data, size);
	try_record(data, size);
	return 0;
}
