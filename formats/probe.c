/*
 * probe.c - which format is a file of unknown kind?
 *
 * The content decides, never the name, and raw is never the answer for want of a better one: the guest owns a raw
 * disk's first sector and could put any image's header there.  So what carries an image's magic and a disk's own
 * signature (MBR, GPT, ISO 9660, LUKS) at its place is nobody's guess, and nothing found is an error too.  Formats that
 * can't be read yet are recognised, so that the error says which it is.
 */
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/file.h"
#include "formats/formats.h"

#define HEAD_BYTES 4096
#define TAIL_BYTES 512
#define ISO_OFFSET 32768

struct sample {
	uint8_t head[HEAD_BYTES], tail[TAIL_BYTES], gpt4k[16], iso[8];
	size_t head_len, tail_len;
	uint64_t size;
};

static bool head_is(const struct sample *s, size_t at, const void *magic, size_t len)
{
	return range_ok(at, len, s->head_len) && memcmp(s->head + at, magic, len) == 0;
}

static bool is_newer_qcow(const struct sample *s)
{
	return s->head_len >= 8 && memcmp(s->head, "QFI\xfb", 4) == 0 && get_be32(s->head + 4) > 3;
}

static bool is_newer_vdi(const struct sample *s)
{
	return head_is(s, 64, "\x7f\x10\xda\xbe", 4) && s->head_len >= 72 && get_le32(s->head + 68) >> 16 > 1;
}

static bool is_qed(const struct sample *s) { return head_is(s, 0, "QED\0", 4); }
static bool is_luks(const struct sample *s) { return head_is(s, 0, "LUKS\xba\xbe", 6); }
static bool is_ova(const struct sample *s) { return head_is(s, 257, "ustar", 5); }

static bool is_parallels(const struct sample *s)
{
	return head_is(s, 0, "WithoutFreeSpace", 16) || head_is(s, 0, "WithouFreSpacExt", 16);
}

/* Formats that are known by sight only; qemu is what qemu-img calls it. */
static const struct foreign {
	const char *name, *qemu;
	bool (*is)(const struct sample *s);
} foreigners[] = {
	{ "newer qcow", "qcow2", is_newer_qcow },
	{ "newer VDI", "vdi", is_newer_vdi },
	{ "QED", "qed", is_qed },
	{ "Parallels", "parallels", is_parallels },
	{ "LUKS", "luks", is_luks },
	{ "OVA (tar)", NULL, is_ova },
};

/* The disk signature that stands at its own place, or NULL. */
static const char *disk_signature(const struct sample *s)
{
	if (head_is(s, 512, "EFI PART", 8) || memcmp(s->gpt4k, "EFI PART", 8) == 0)
		return "a GPT partition table";
	if (head_is(s, 510, "\x55\xaa", 2))
		return "an MBR partition table or boot sector";
	if (memcmp(s->iso, "\1CD001", 6) == 0)
		return "an ISO 9660 file system";
	return is_luks(s) ? "a LUKS header" : NULL;
}

static int read_sample(const struct file *f, struct sample *s, struct err *e)
{
	size_t got;

	*s = (struct sample){ .size = f->size };
	s->tail_len = (size_t)min_u64(f->size, TAIL_BYTES);
	if (file_pread(f, s->head, sizeof(s->head), 0, &s->head_len, e) < 0 ||
	    file_pread(f, s->tail, s->tail_len, f->size - s->tail_len, &s->tail_len, e) < 0 ||
	    file_pread(f, s->gpt4k, sizeof(s->gpt4k), 4096, &got, e) < 0 ||
	    file_pread(f, s->iso, sizeof(s->iso), ISO_OFFSET, &got, e) < 0)
		return e->code;
	return 0;
}

/* *ret_second is another that would fit too, or NULL. */
static const struct format *best(const struct sample *s, const struct format **ret_second)
{
	const struct format *found = NULL;
	int score = 0;

	*ret_second = NULL;
	for (const struct format *f = format_list(); f->name; f++) {
		int n = f->probe ? f->probe(s->head, s->head_len, s->tail, s->tail_len, s->size) : 0;

		if (n > score) {
			*ret_second = found;
			score = n;
			found = f;
		} else if (n) {
			*ret_second = f;
		}
	}
	return found;
}

/* Known by the file's end alone (a fixed VHD): then the file begins with the disk, and may carry its signature. */
static bool is_trailed(const struct format *f, const struct sample *s)
{
	return f->probe(s->head, 0, s->tail, s->tail_len, s->size) > 0;
}

static const struct foreign *best_foreign(const struct sample *s, int *ret_matches)
{
	const struct foreign *found = NULL;

	*ret_matches = 0;
	for (size_t i = 0; i < sizeof(foreigners) / sizeof(foreigners[0]); i++) {
		if (!foreigners[i].is(s))
			continue;
		found = found ? found : &foreigners[i];
		++*ret_matches;
	}
	return found;
}

static int refuse_foreign(const struct foreign *f, const char *path, struct err *e)
{
	char q[200];

	text_shell(path, q, sizeof(q));
	if (f->is == is_ova) {
		(void)err_set(e, ERR_INVALID, "this is a tar archive, whose name doesn't end in .ova or .tar");
		return err_hint(e, "an image in it is written %s//MEMBER; if it is a raw disk that only looks like that, "
				   "write raw:%s", q, q);
	}
	(void)err_set(e, ERR_UNSUPPORTED, "this is a%s %s image, a format that kedge doesn't support yet",
		      strchr("OQ", f->name[0]) ? "n" : "", f->name);
	return err_hint(e,
			"convert it with qemu-img convert -f %s -O qcow2 %s COPY.qcow2; or, if it is a raw disk that "
			"only looks "
			"like that, write raw:%s",
			f->qemu, q, q);
}

static int refuse_ambiguous(const char *a, const char *b, const struct format *f, const char *path, struct err *e)
{
	char q[200];

	text_quote(path, q, sizeof(q));
	(void)err_set(e, ERR_INVALID, "ambiguous: it begins like a %s image and carries %s", a, b);
	if (f)
		return err_hint(e, "say which it is: raw:%s or %s:%s", q, f->name, q);
	return err_hint(e, "if it is a raw disk, write raw:%s", q);
}

static int refuse_unknown(const char *signature, const char *path, struct err *e)
{
	char q[200];

	(void)err_set(e, ERR_INVALID, "no known image format%s%s", signature ? ", but " : "",
		      signature ? signature : "");
	return err_hint(e, "if it is a raw disk, write raw:%s", text_quote(path, q, sizeof(q)));
}

int format_probe(int fd, const char *path, const struct format **ret, struct err *e)
{
	struct image_identity id;

	if (file_identity(fd, &id, e) < 0)
		return e->code;
	if (id.block_device) {		/* its user said so by naming a device */
		*ret = format_find("raw");
		return 0;
	}
	return format_probe_part(&(struct file){ fd, 0, id.size }, path, ret, e);
}

int format_probe_part(const struct file *file, const char *path, const struct format **ret, struct err *e)
{
	struct sample s;
	const struct format *f, *second;
	const struct foreign *other;
	const char *signature;
	int foreign;

	if (read_sample(file, &s, e) < 0)
		return e->code;
	f = best(&s, &second);
	other = best_foreign(&s, &foreign);
	signature = disk_signature(&s);
	if (f && other)
		return refuse_ambiguous(f->name, other->name, f, path, e);
	if (second)
		return refuse_ambiguous(f->name, second->name, f, path, e);
	if (f && signature && !is_trailed(f, &s))
		return refuse_ambiguous(f->name, signature, f, path, e);
	/* LUKS is an image here and a signature there; it doesn't contradict itself. */
	if (other && (foreign > 1 || (signature && !is_luks(&s))) && other->is != is_ova)
		return refuse_ambiguous(other->name, signature ? signature : "another image's magic", NULL, path, e);
	if (other)
		return refuse_foreign(other, path, e);
	if (!f)
		return refuse_unknown(signature, path, e);
	*ret = f;
	return 0;
}
