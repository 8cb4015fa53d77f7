/* restore_size.c - disks that get larger. */
#include "cli/restore_size.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "cli/msg.h"

#define SECTOR ((uint64_t)512)
#define HEAD_BYTES ((size_t)4096 + 8)	/* to the second sector, of disks with sectors of 4096 bytes too */

int restore_size_parse(struct cli *c, const char *arg, size_t *ret_disk_len, uint64_t *ret_size, struct err *e)
{
	const char *eq = strrchr(arg, '=');
	uint64_t size;
	char q[64];

	if (!parse_size(eq ? eq + 1 : arg, &size) || !size)
		return cli_usage(c, e, "--size: \"%s\" is not a size (\"20G\", \"vda=20G\")",
				 text_quote(arg, q, sizeof(q)));
	if (size > INT64_MAX - SECTOR)
		return cli_usage(c, e, "--size: no disk has %" PRIu64 " bytes", size);
	*ret_disk_len = eq ? (size_t)(eq - arg) : 0;
	*ret_size = round_up(size, SECTOR);
	return 0;
}

int restore_size_check(struct cli *c, const char *disk, uint64_t stored, uint64_t size, struct err *e)
{
	char is[MSG_SIZE_BYTES], wanted[MSG_SIZE_BYTES];

	if (size >= stored)
		return 0;
	(void)err_set(e, ERR_INVALID,
		      "--size %s: disk %s has %s (%" PRIu64 " bytes); a restore grows disks, it never cuts them off",
		      msg_size(c, size, wanted), disk, msg_size(c, stored, is), stored);
	(void)err_hint(e,
		       "to shrink a disk, shrink its file systems and partitions in the guest first, then the image: "
		       "qemu-img resize --shrink");
	return cli_exit(c, EXIT_USAGE, e);
}

/* ---- partition tables ---- */

struct head {
	uint8_t p[HEAD_BYTES];
	size_t len;
};

static int head_data(void *opaque, const void *buf, size_t len, struct err *e)
{
	struct head *h = opaque;

	(void)e;
	len = min_size(len, sizeof(h->p) - h->len);
	memcpy(h->p + h->len, buf, len);
	h->len += len;
	return 0;
}

static int head_zero(void *opaque, uint64_t len, struct err *e)
{
	struct head *h = opaque;

	(void)e;	/* h is zeroed */
	h->len += (size_t)min_u64(len, sizeof(h->p) - h->len);
	return 0;
}

enum partitions restore_size_partitions(struct restore *rs, const char *domain, const struct tree_ref *t)
{
	struct head h = { .len = 0 };
	const struct restore_stream out = { .data = head_data, .zero = head_zero, .opaque = &h };
	struct restore_result res = { 0 };
	struct err unheard = ERR_INIT;	/* the disk is restored; this is advice */
	int r = restore_stream(rs, domain, t, 0, min_u64(t->size, sizeof(h.p)), &out, &res, &unheard);
	bool known = r == 0 && !res.ndamage;

	restore_result_done(&res);
	if (!known)
		return PARTITIONS_UNKNOWN;
	if (!memcmp(h.p + 512, "EFI PART", 8) || !memcmp(h.p + 4096, "EFI PART", 8))
		return PARTITIONS_GPT;
	return h.p[510] == 0x55 && h.p[511] == 0xaa ? PARTITIONS_MBR : PARTITIONS_NONE;
}

const char *restore_size_partitions_name(enum partitions p)
{
	static const char *const names[] = { "unknown", "none", "mbr", "gpt" };

	return names[p];
}

void restore_size_note(const struct cli *c, const char *disk, const char *path, const char *format, enum partitions p,
		       uint64_t stored, uint64_t size)
{
	char was[MSG_SIZE_BYTES], is[MSG_SIZE_BYTES], word[2 * PATH_MAX];
	/* only a raw target can be worked on as it is */
	bool raw = !strcmp(format, "raw");
	const char *where = raw ? text_shell(path, word, sizeof(word)) : "/dev/DISK";

	msg_note(c, "disk %s: grown from %s to %s; partitions and file systems are as they were", disk,
		 msg_size(c, stored, was), msg_size(c, size, is));
	if (p == PARTITIONS_GPT)
		msg_note(c, "      GPT's backup header is where the disk used to end.  next%s: sgdisk -e %s",
			 raw ? "" : ", in the guest", where);
	if (p == PARTITIONS_GPT || p == PARTITIONS_MBR)
		msg_note(c,
			 "      growpart %s N grows partition N, then resize2fs, xfs_growfs or pvresize in the guest",
			 where);
	else
		msg_note(c, "      no partition table was found: resize2fs, xfs_growfs or pvresize in the guest");
}
