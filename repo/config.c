/* config.c - what is constant about a repository, as JSON (docs/format.md, section 4). */
#include <inttypes.h>

#include "base/num.h"
#include "base/text.h"
#include "repo/json_internal.h"
#include "repo/repo_internal.h"

#define SECOND_NS ((int64_t)1000000000)
#define PERIOD_MAX_S 3153600000u	/* a hundred years */
#define PACK_MIN_BYTES (1u << 20)
#define FEATURES_MAX 1024u

int config_encode(const struct repo_config *c, char **ret, size_t *ret_len, struct err *e)
{
	json_t *o = json_object(), *domains = json_array();

	js_push(&domains, json_string(DEFAULT_DOMAIN));
	js_set(&o, "format", json_integer(FORMAT_VERSION));
	js_set(&o, "draft", json_boolean(c->draft));
	js_set(&o, "repository", js_new_hex(c->cipher_id, CIPHER_ID_BYTES));
	js_set(&o, "instance", js_new_hex(c->instance_id, sizeof(c->instance_id)));
	js_set(&o, "created", json_integer(c->created_ns));
	js_set(&o, "incompatible", json_array());
	js_set(&o, "compatible", json_array());
	js_set(&o, "chunk_size", json_integer(c->chunk_size));
	js_set(&o, "segment_size", json_integer(c->segment_size));
	js_set(&o, "pack_size", json_integer(c->pack_size));
	js_set(&o, "lease", json_integer(c->lease_ns / SECOND_NS));
	js_set(&o, "skew", json_integer(c->skew_ns / SECOND_NS));
	js_set(&o, "settling", json_integer(c->settling_ns / SECOND_NS));
	js_set(&o, "grace", json_integer(c->grace_ns / SECOND_NS));
	js_set(&o, "delta", json_string("off"));
	js_set(&o, "domains", domains);
	js_set(&o, "lock", json_null());
	return js_dump(o, ret, ret_len, e);
}

/* No incompatible feature is defined yet: any is a reason to stop, by its name. */
static int check_features(const json_t *o, struct err *e)
{
	const json_t *features;
	char *name = NULL, shown[200];

	if (js_array(o, "incompatible", FEATURES_MAX, &features, e) < 0)
		return e->code;
	if (json_array_size(features) == 0)
		return 0;
	if (js_text_value(json_array_get(features, 0), "incompatible", &name, e) < 0)
		return e->code;
	text_quote(name, shown, sizeof(shown));
	free(name);
	err_set(e, ERR_UNSUPPORTED, "the repository uses the feature \"%s\", which this program does not know", shown);
	return err_hint(e, "use a newer kedge");
}

static int read_seconds(const json_t *o, const char *key, int64_t *ret_ns, struct err *e)
{
	uint64_t s;

	if (js_uint(o, key, 0, PERIOD_MAX_S, &s, e) < 0)
		return e->code;
	*ret_ns = (int64_t)s * SECOND_NS;
	return 0;
}

int config_decode(const void *json, size_t len, struct repo_config *ret, struct err *e)
{
	CLEANUP(js_decref) json_t *o = NULL;
	struct repo_config c = { 0 };
	uint64_t format;

	if (js_parse(json, len, &o, e) < 0 || js_uint(o, "format", 0, INT64_MAX, &format, e) < 0)
		return e->code;
	if (format != FORMAT_VERSION) {
		err_set(e, ERR_UNSUPPORTED, "the repository has format %" PRIu64 "; this program knows format %d",
			format, FORMAT_VERSION);
		return err_hint(e, "use a kedge that knows this format");
	}
	if (check_features(o, e) < 0 || js_bool(o, "draft", &c.draft, e) < 0 ||
	    js_hex(o, "repository", c.cipher_id, sizeof(c.cipher_id), e) < 0 ||
	    js_hex(o, "instance", c.instance_id, sizeof(c.instance_id), e) < 0 ||
	    js_time(o, "created", &c.created_ns, e) < 0 ||
	    js_u32(o, "chunk_size", CHUNK_MIN_BYTES, CHUNK_MAX_BYTES, &c.chunk_size, e) < 0 ||
	    js_u32(o, "segment_size", CHUNK_MIN_BYTES, SEGMENT_MAX_BYTES, &c.segment_size, e) < 0 ||
	    js_u32(o, "pack_size", PACK_MIN_BYTES, PACK_MAX_BYTES / 2, &c.pack_size, e) < 0 ||
	    read_seconds(o, "lease", &c.lease_ns, e) < 0 || read_seconds(o, "skew", &c.skew_ns, e) < 0 ||
	    read_seconds(o, "settling", &c.settling_ns, e) < 0 || read_seconds(o, "grace", &c.grace_ns, e) < 0)
		return e->code;
	if (!is_pow2(c.chunk_size))
		return err_set(e, ERR_CORRUPT, "the chunk size %" PRIu32 " is no power of two", c.chunk_size);
	*ret = c;
	return 0;
}
