/*
 * formats.c - the registry: every format that can be named.
 */
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "formats/formats.h"
#include "formats/qcow/qcow.h"
#include "formats/qcow/qcow_write.h"
#include "formats/qcow2/qcow2.h"
#include "formats/qcow2/qcow2_write.h"
#include "formats/raw/raw.h"
#include "formats/raw/raw_write.h"
#include "formats/split/split.h"
#include "formats/split/split_write.h"
#include "formats/vdi/vdi.h"
#include "formats/vdi/vdi_write.h"
#include "formats/vhd/vhd.h"
#include "formats/vhd/vhd_write.h"
#include "formats/vhdx/vhdx.h"
#include "formats/vhdx/vhdx_write.h"
#include "formats/vmdk/vmdk.h"
#include "formats/vmdk/vmdk_write.h"

static const char *const qcow_endings[] = { ".qcow", NULL };
static const char *const qcow2_endings[] = { ".qcow2", ".qcow3", NULL };
static const char *const qcow2_subformats[] = { "v3", "v2", NULL };
static const char *const raw_endings[] = { ".raw", ".img", ".raw.gz", ".raw.xz", ".raw.zst", ".img.gz", ".img.xz", ".img.zst", NULL };
static const char *const raw_subformats[] = { "plain", "zst", "gz", "xz", NULL };
static const char *const split_endings[] = { ".001", NULL };
static const char *const vdi_endings[] = { ".vdi", NULL };
static const char *const vdi_subformats[] = { "dynamic", "fixed", NULL };
static const char *const vhd_endings[] = { ".vhd", NULL };
static const char *const vhdx_endings[] = { ".vhdx", NULL };
static const char *const vmdk_endings[] = { ".vmdk", NULL };
static const char *const vmdk_subformats[] = { "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
					       "streamOptimized", "vmfs", NULL };

static const struct format formats[] = {
	{
		.name = "qcow2",
		.endings = qcow2_endings,
		.probe = qcow2_probe,
		.open = qcow2_open,
		.create = qcow2_create,
		.can = FORMAT_CLUSTERS | FORMAT_COMPRESS | FORMAT_SNAPSHOTS | FORMAT_PREALLOC | FORMAT_PREALLOC_METADATA |
		       FORMAT_ENCRYPT | FORMAT_BACKING | FORMAT_ZSTD | FORMAT_EXTENDED_L2,
		.cluster_min = 512,
		.cluster_max = 2 * MIB,
		.subformats = qcow2_subformats,
	},
	{
		.name = "qcow",
		.endings = qcow_endings,
		.probe = qcow_probe,
		.open = qcow_open,
		.create = qcow_create,
		.can = FORMAT_CLUSTERS | FORMAT_COMPRESS,
		.cluster_min = 512,
		.cluster_max = 64 * KIB,
	},
	{
		.name = "raw",
		.endings = raw_endings,
		.open = raw_open,
		.create = raw_create,
		.can = FORMAT_COMPRESS | FORMAT_PREALLOC | FORMAT_DEVICE,
		.subformats = raw_subformats,
	},
	{
		.name = "split",
		.endings = split_endings,
		.open = split_open,
		.create = split_create,
		.can = FORMAT_PREALLOC | FORMAT_PIECES,
	},
	{
		.name = "vdi",
		.endings = vdi_endings,
		.probe = vdi_probe,
		.open = vdi_open,
		.read_ids = vdi_read_ids,
		.create = vdi_create,
		.can = FORMAT_PREALLOC | FORMAT_PREALLOC_METADATA | FORMAT_IDS,
		.subformats = vdi_subformats,
	},
	{
		.name = "vhd",
		.endings = vhd_endings,
		.probe = vhd_probe,
		.open = vhd_open,
		.read_ids = vhd_read_ids,
		.create = vhd_create,
		.can = FORMAT_CLUSTERS | FORMAT_PREALLOC | FORMAT_IDS,
		.cluster_min = 512 * KIB,
		.cluster_max = 2 * MIB,
		.subformats = vhd_subformats,
	},
	{
		.name = "vhdx",
		.endings = vhdx_endings,
		.probe = vhdx_probe,
		.open = vhdx_open,
		.read_ids = vhdx_read_ids,
		.create = vhdx_create,
		.can = FORMAT_CLUSTERS | FORMAT_PREALLOC | FORMAT_IDS,
		.cluster_min = 1 * MIB,
		.cluster_max = 256 * MIB,
		.subformats = vhdx_subformats,
	},
	{
		.name = "vmdk",
		.endings = vmdk_endings,
		.probe = vmdk_probe,
		.open = vmdk_open,
		.read_ids = vmdk_read_ids,
		.create = vmdk_create,
		.can = FORMAT_COMPRESS | FORMAT_PREALLOC | FORMAT_IDS,
		.subformats = vmdk_subformats,
	},
	{ 0 },
};

const struct format *format_list(void)
{
	return formats;
}

static const struct format *find(const char *name, size_t len)
{
	static const char *const aliases[][2] = { { "qcow3", "qcow2" },	/* what some call version 3 */
						  { "vpc", "vhd" } };	/* QEMU's name, also in overlays */

	for (size_t i = 0; i < sizeof(aliases) / sizeof(*aliases); i++)
		if (strlen(aliases[i][0]) == len && memcmp(aliases[i][0], name, len) == 0) {
			name = aliases[i][1];
			len = strlen(name);
			break;
		}
	for (const struct format *f = formats; f->name; f++)
		if (strlen(f->name) == len && memcmp(f->name, name, len) == 0)
			return f;
	return NULL;
}

const struct format *format_find(const char *name)
{
	return find(name, strlen(name));
}

/* The part of arg before sep, malloc'ed, if it is a valid disk name before the first slash; *ret_rest is behind sep. */
static int take_disk(const char *arg, char **ret, const char **ret_rest, struct err *e)
{
	size_t len = strcspn(arg, "=/");
	char *name;

	*ret_rest = arg;
	if (arg[len] != '=')
		return 0;
	name = text_printf(e, "%.*s", (int)len, arg);
	if (!name)
		return e->code;
	if (!text_is_name(name)) {	/* then the whole is a path */
		free(name);
		return 0;
	}
	*ret = name;
	*ret_rest = arg + len + 1;
	return 0;
}

int format_parse_source(const char *arg, char **ret_disk, const struct format **ret_format, char **ret_path,
			struct err *e)
{
	CLEANUP(free_ptr) char *disk = NULL;
	const struct format *format = NULL;
	const char *rest;
	char *path;
	size_t len;

	if (take_disk(arg, &disk, &rest, e) < 0)
		return e->code;
	len = strcspn(rest, ":/");
	if (rest[len] == ':')
		format = find(rest, len);
	if (format)
		rest += len + 1;
	if (!*rest) {
		(void)err_set(e, ERR_INVALID, "no path in \"%s\"", arg);
		return err_hint(e, "a disk is written [DISK=][FORMAT:]PATH");
	}
	path = text_printf(e, "%s", rest);
	if (!path)
		return e->code;
	*ret_disk = STEAL(disk);
	*ret_format = format;
	*ret_path = path;
	return 0;
}
