/* image_args.c - naming an image and opening it. */
#include "cli/image_args.h"

#include <sodium.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "cli/password.h"
#include "cli/msg.h"

#define CACHE_MAX_BYTES (32 * MIB)

static int check_format(struct cli *c, const char *option, const char *name, const struct format **ret, struct err *e)
{
	const struct format *f = name ? format_find(name) : NULL;
	char shown[64], known[256] = "";
	size_t used = 0;

	if (f || !name) {
		*ret = f;
		return 0;
	}
	for (f = format_list(); f->name && used < sizeof(known); f++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "", f->name);
	return cli_usage(c, e, "--%s: no format \"%s\" (there are: %s)", option, text_quote(name, shown, sizeof(shown)),
			 known);
}

int image_args_check(struct cli *c, const struct image_args *a, struct err *e)
{
	for (size_t i = 0; i < a->backing_formats.n; i++) {
		const char *format = strrchr(a->backing_formats.p[i], '=');
		const struct format *unused;

		if (check_format(c, "backing-format", format ? format + 1 : a->backing_formats.p[i], &unused, e) < 0)
			return e->code;
	}
	return 0;
}

int image_args_name(struct cli *c, const struct image_args *a, const char *arg, const struct format **ret_format,
		    char **ret_path, struct err *e)
{
	CLEANUP(free_ptr) char *disk = NULL, *path = NULL;
	const struct format *given = NULL, *prefix = NULL;
	char shown[256];

	if (check_format(c, "format", a->format, &given, e) < 0 ||
	    image_args_check(c, a, e) < 0)
		return e->code;
	if (format_parse_source(arg, &disk, &prefix, &path, e) < 0)
		return e->code == ERR_INVALID ? cli_exit(c, EXIT_USAGE, e) : e->code;
	if (disk)
		return cli_usage(c, e,
				 "\"%s\": %s works on one image, which has no disk name; a file of that name is ./%s",
				 text_quote(arg, shown, sizeof(shown)), c->cmd->name, shown);
	if (given && prefix && given != prefix)
		return cli_usage(c, e, "--format %s contradicts \"%s\"", given->name,
				 text_quote(arg, shown, sizeof(shown)));
	*ret_format = given ? given : prefix;
	*ret_path = STEAL(path);
	return 0;
}

void image_keys_done(struct image_keys *k)
{
	for (size_t i = 0; i < k->list.n; i++) {
		free((char *)(uintptr_t)k->list.p[i].name);
		sodium_free((uint8_t *)(uintptr_t)k->list.p[i].p);	/* wipes */
	}
	VEC_DONE(&k->list);
}

static int load_key(struct cli *c, const char *arg, struct image_secret *ret, struct err *e)
{
	size_t len = strcspn(arg, "=/");
	const char *file = arg[len] == '=' ? arg + len + 1 : arg;
	uint8_t *p;

	if (!*file)
		return cli_usage(c, e, "--image-secret takes [NAME=]FILE");
	if (file != arg) {
		ret->name = text_printf(e, "%.*s", (int)len, arg);
		if (!ret->name)
			return e->code;
	}
	if (password_read_image_secret(c, file, &p, &ret->len, e) < 0)
		return e->code;
	ret->p = p;
	return 0;
}

int image_keys_load(struct cli *c, const struct image_args *a, struct image_keys *ret, struct err *e)
{
	CLEANUP(image_keys_done) struct image_keys k = { 0 };

	if (a->secrets.n > IMAGE_KEYS_MAX)
		return cli_usage(c, e, "--image-secret: at most %d", IMAGE_KEYS_MAX);
	for (size_t i = 0; i < a->secrets.n; i++) {
		struct image_secret *s = VEC_PUSH(&k.list, e);

		if (!s)
			return e->code;
		*s = (struct image_secret){ 0 };
		if (load_key(c, a->secrets.p[i], s, e) < 0)
			return e->code;
	}
	*ret = k;
	k = (struct image_keys){ 0 };
	return 0;
}

void image_keys_for(struct cli *c, const struct image_keys *k, const char *disk, struct image_secret *buf,
		    struct image_secrets *ret)
{
	bool own = false;
	size_t n = 0;

	for (size_t i = 0; disk && i < k->list.n; i++)
		own = own || (k->list.p[i].name && !strcmp(k->list.p[i].name, disk));
	for (size_t i = 0; i < k->list.n; i++) {
		struct image_secret s = k->list.p[i];

		if (own && !s.name)
			continue;
		if (own && !strcmp(s.name, disk))
			s.name = NULL;
		buf[n++] = s;
	}
	*ret = (struct image_secrets){ .p = buf, .n = n, .cancel = &c->cancel };
}

struct source_opts image_args_source(struct cli *c, const struct image_args *a)
{
	const char *dir = a->temp_dir ? a->temp_dir : getenv("TMPDIR");

	return (struct source_opts){ .temp_dir = dir && *dir ? dir : SOURCE_TEMP_DIR, .max_bytes = a->max_unpacked,
				     .cancel = &c->cancel };
}

void image_args_unpack(struct cli *c, const struct image_args *a, struct chain_opts *o)
{
	const struct source_opts so = image_args_source(c, a);

	o->temp_dir = so.temp_dir;
	o->max_unpacked = so.max_bytes;
	o->cancel = so.cancel;
}

int image_args_open(struct cli *c, const struct image_args *a, const char *arg, bool ignore_locks, bool locked_ok,
		    struct chain **ret, char **ret_path, struct err *e)
{
	CLEANUP(image_keys_done) struct image_keys keys = { 0 };
	CLEANUP(free_ptr) char *path = NULL;
	struct image_secret buf[IMAGE_KEYS_MAX];
	struct image_secrets secrets;
	const struct format *f = NULL;
	struct chain_opts o = {
		.allow_paths = a->allow_paths.p, .backing_formats = a->backing_formats.p, .force = a->force,
		.ignore_locks = ignore_locks, .locked_ok = locked_ok,
		.cache_bytes = (size_t)min_u64(c->g.memory / 8, CACHE_MAX_BYTES),
	};

	if (image_args_name(c, a, arg, &f, &path, e) < 0 || image_keys_load(c, a, &keys, e) < 0)
		return e->code;
	image_keys_for(c, &keys, NULL, buf, &secrets);
	o.secrets = &secrets;
	o.format = f ? f->name : NULL;
	image_args_unpack(c, a, &o);
	if (chain_open(path, &o, ret, e) < 0)
		return e->code;
	*ret_path = STEAL(path);
	return 0;
}

void image_args_warn(const struct cli *c, const struct chain *chain)
{
	char path[512], note[512];

	for (uint32_t i = 0; i < chain->nlayers + chain->nextra; i++) {
		const struct image *im = chain->layers[i];

		if (im->info.note)
			msg_warn(c, "%s: %s", text_quote(im->path, path, sizeof(path)),
				 text_quote(im->info.note, note, sizeof(note)));
	}
}
