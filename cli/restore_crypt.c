/* restore_crypt.c - what was encrypted doesn't lie about in the clear unless its owner says so. */
#include "cli/restore_crypt.h"

#include <string.h>

#include "base/text.h"

int restore_crypt_load(struct cli *c, struct restore_crypt *rc, struct err *e)
{
	if (rc->plaintext && (rc->args.secrets.n || rc->encrypt))
		return cli_usage(c, e, "--plaintext contradicts %s", rc->encrypt ? "--encrypt" : "--image-secret");
	if (!rc->args.secrets.n && (rc->encrypt || rc->iter_ms))
		return cli_usage(c, e, "%s needs --image-secret FILE, which holds the passphrase",
				 rc->encrypt ? "--encrypt" : "--iter-time");
	return image_keys_load(c, &rc->args, &rc->keys, e);
}

void restore_crypt_done(struct restore_crypt *rc)
{
	image_keys_done(&rc->keys);
}

static bool was_encrypted(const struct manifest_disk *d)
{
	for (size_t i = 0; i < d->features.n; i++)
		if (!strcmp(d->features.p[i], "encrypted"))
			return true;
	return false;
}

/* Its own secret, else the one of no disk; two of the same kind are wrong usage. */
static int pick(struct cli *c, struct restore_crypt *rc, const char *disk, bool own_only,
		const struct image_secret **ret, struct err *e)
{
	const struct image_secret *own = NULL, *any = NULL;

	for (size_t i = 0; i < rc->keys.list.n; i++) {
		const struct image_secret *s = &rc->keys.list.p[i];
		const struct image_secret **to = !s->name ? &any : !strcmp(s->name, disk) ? &own : NULL;

		if (to && *to)
			return cli_usage(c, e, "--image-secret: two for disk %s; an image gets one", disk);
		if (to)
			*to = s;
	}
	*ret = own ? own : own_only ? NULL : any;
	if (*ret)
		rc->used[*ret - rc->keys.list.p] = true;
	return 0;
}

static int refuse(const struct manifest_disk *d, struct err *e)
{
	(void)err_set(e, ERR_INVALID, "the image of disk %s was encrypted; what is restored would not be", d->name);
	return err_hint(e, "--image-secret FILE encrypts the new image (qcow2, LUKS) with the passphrase in FILE; "
			   "--plaintext writes it unencrypted");
}

int restore_crypt_secret(struct cli *c, struct restore_crypt *rc, const struct manifest_disk *d, const struct format *f,
			 const char *path, const struct image_secret **ret, struct err *e)
{
	bool was = was_encrypted(d);
	char q[256];

	*ret = NULL;
	if (rc->plaintext)
		return 0;
	if (pick(c, rc, d->name, !was && !rc->encrypt, ret, e) < 0)
		return e->code;
	if (!*ret && rc->encrypt)
		return cli_usage(c, e, "--encrypt: no --image-secret for disk %s", d->name);
	if (!*ret)
		return was ? refuse(d, e) : 0;
	if (f->can & FORMAT_ENCRYPT)
		return 0;
	(void)cli_usage(c, e, "%s becomes %s, which is not encrypted: -O qcow2 is%s", text_quote(path, q, sizeof(q)),
			f->name, was ? "; --plaintext writes it unencrypted" : "");
	return e->code;
}

int restore_crypt_all_used(struct cli *c, const struct restore_crypt *rc, struct err *e)
{
	char q[128];

	for (size_t i = 0; i < rc->keys.list.n; i++)
		if (!rc->used[i] && rc->keys.list.p[i].name)
			return cli_usage(c, e, "--image-secret %s=...: no disk of that name is restored",
					 text_quote(rc->keys.list.p[i].name, q, sizeof(q)));
		else if (!rc->used[i])
			return cli_usage(c, e,
					 "--image-secret: no disk was encrypted; --encrypt luks encrypts all the same");
	return 0;
}
