/* fuzz_point.c - any text as a point, looked for among three backups. */
#include <stdlib.h>
#include <string.h>

#include "repo/backups.h"
#include "repo/point_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define LAYER(path) "{\"path\":\"" path "\",\"format\":\"raw\",\"dev\":1,\"ino\":1,\"size\":1,\"mtime\":1,\"ctime\":1," \
	"\"block_device\":false,\"metadata\":\"" HEX64 "\",\"virtual_size\":1}"
#define ROW(more) "{\"disk\":0,\"root\":null,\"height\":1,\"size\":1,\"layer\":0," more "\"date\":0,\"vm_clock\":0,\"digest\":null," \
	"\"vm_state\":null,\"read\":{\"how\":\"full\",\"bytes_read\":0}}"

static const char manifest[] =
	"{\"format\":1,\"vm\":\"web\",\"host\":\"h\",\"start\":1,\"end\":2,\"writer\":\"0123456789abcdef\","
	"\"session\":\"0123456789abcdef0123456789abcdef\",\"sequence\":1,\"previous\":null,\"complete\":true,\"problems\":[],"
	"\"machine\":{\"uuid\":null,\"kind\":null,\"source\":\"\"},\"disks\":[{\"name\":\"vda\",\"format\":\"raw\",\"path\":\"p\","
	"\"domain\":\"default\",\"cluster_size\":0,\"features\":[],\"dropped\":[],\"layers\":[" LAYER("/a") "],"
	"\"read\":{\"how\":\"full\",\"bytes_read\":0,\"bytes_unchanged\":0,\"bytes_audited\":0,\"audit_owed\":0}}],"
	"\"states\":[{\"kind\":\"current\",\"name\":\"current\",\"disks\":[" ROW("") "]},"
	"{\"kind\":\"snapshot\",\"name\":\"s\",\"disks\":[" ROW("\"snapshot_id\":\"1\",") "]},"
	"{\"kind\":\"snapshot\",\"name\":\"s\",\"disks\":[" ROW("\"snapshot_id\":\"2\",") "]},"
	"{\"kind\":\"layer\",\"name\":\"a\",\"disks\":[" ROW("") "]}],\"attachments\":[],\"tags\":[],\"pins\":[],"
	"\"statistics\":{\"bytes_read\":0,\"bytes_hashed\":0,\"bytes_new\":0,\"bytes_stored\":0,\"milliseconds\":0}}";

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void make_list(struct backup_list *l)
{
	struct err e = ERR_INIT;

	l->p = calloc(3, sizeof(*l->p));
	check(l->p != NULL);
	l->n = 3;
	for (size_t i = 0; i < l->n; i++) {
		check(manifest_decode(manifest, sizeof(manifest) - 1, 65536, &l->p[i].m, &e) == 0);
		l->p[i].m->end_ns = (int64_t)(1795176000 + i * 86400) * 1000000000;
		l->p[i].m->complete = i != 2;
		memset(l->p[i].hash.b, (int)(0xa0 + i), ID_BYTES);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(free_ptr) char *text = malloc(size + 1);
	const struct backup *b = NULL;
	struct backup_list l;
	struct err e = ERR_INIT;
	struct point p;

	check(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	make_list(&l);
	if (point_find(&l, text, &p, &e) == 0) {
		check(p.backup >= l.p && p.backup < l.p + l.n && p.state < p.backup->m->states.n);
		check(!p.has_disk || point_disk(p.backup->m, p.state, p.disk));
	} else {
		check((e.code == ERR_INVALID || e.code == ERR_NOTFOUND) && e.cause[0]);
	}
	err_clear(&e);
	if (backup_find(&l, text, &b, &e) == 0)
		check(b >= l.p && b < l.p + l.n);
	backup_list_free(&l);
	return 0;
}
