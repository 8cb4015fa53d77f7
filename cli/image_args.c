/* image_args.c - naming an image and opening it. */
#include "cli/image_args.h"

#include <string.h>

#include "base/num.h"
#include "base/text.h"
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

int image_args_name(struct cli *c, const struct image_args *a, const char *arg, const struct format **ret_format,
		    char **ret_path, struct err *e)
{
	CLEANUP(free_ptr) char *disk = NULL, *path = NULL;
	const struct format *given = NULL, *prefix = NULL, *backing = NULL;
	char shown[256];

	if (check_format(c, "format", a->format, &given, e) < 0 ||
	    check_format(c, "backing-format", a->backing_format, &backing, e) < 0)
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

int image_args_open(struct cli *c, const struct image_args *a, const char *arg, bool ignore_locks, struct chain **ret,
		    char **ret_path, struct err *e)
{
	CLEANUP(free_ptr) char *path = NULL;
	const struct format *f = NULL;
	struct chain_opts o = {
		.allow_paths = a->allow_paths.p, .backing_format = a->backing_format, .force = a->force,
		.ignore_locks = ignore_locks, .cache_bytes = (size_t)min_u64(c->g.memory / 8, CACHE_MAX_BYTES),
	};

	if (image_args_name(c, a, arg, &f, &path, e) < 0)
		return e->code;
	o.format = f ? f->name : NULL;
	if (chain_open(path, &o, ret, e) < 0)
		return e->code;
	*ret_path = STEAL(path);
	return 0;
}

void image_args_warn(const struct cli *c, const struct chain *chain)
{
	char path[512], note[512];

	for (uint32_t i = 0; i < chain->nlayers; i++) {
		const struct image *im = chain->layers[i];

		if (im->info.note)
			msg_warn(c, "%s: %s", text_quote(im->path, path, sizeof(path)),
				 text_quote(im->info.note, note, sizeof(note)));
	}
}
