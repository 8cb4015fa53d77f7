/* manifest.c - a manifest with something in every member. */
#include "tests/test.h"

#include "tests/support/manifest.h"

static char *copy(const char *s)
{
	char *p = strdup(s);

	assert_non_null(p);
	return p;
}

#define PUSH(v) push_(VEC_PUSH((v), &e))
#define push_(p) __extension__({ __typeof__(p) pushed_ = (p); assert_non_null(pushed_); pushed_; })

static struct tree_ref tree(uint64_t size, uint8_t fill)
{
	struct tree_ref t = { .has_root = fill != 0, .height = 1, .size = size };

	memset(t.root.b, fill, ID_BYTES);
	return t;
}

static void add_layer(struct manifest_disk *d, const char *path, bool device)
{
	struct err e = ERR_INIT;
	struct manifest_layer *l = PUSH(&d->layers);

	*l = (struct manifest_layer){ .path = copy(path), .format = copy("qcow2"), .dev = 1, .ino = UINT64_MAX, .size = 1 << 20,
				      .virtual_size = 100000, .mtime_ns = -5, .ctime_ns = 6, .block_device = device };
	memset(l->metadata, 3, sizeof(l->metadata));
}

static void add_disk(struct manifest *m, const char *name, const char *path, unsigned layers)
{
	struct err e = ERR_INIT;
	struct manifest_disk *d = PUSH(&m->disks);

	d->name = copy(name);
	d->format = copy("qcow2");
	d->path = copy(path);
	d->domain = copy("default");
	d->cluster_size = 65536;
	if (layers == 1) {	/* the other has none */
		d->uuid = copy("28dfb01b-9c38-4e10-8000-000000000001");
		d->modify_uuid = copy("28dfb01b-9c38-4e10-8000-000000000002");
		d->content_id = copy("1234abcd");
	}
	*PUSH(&d->features) = copy("zstd");
	*PUSH(&d->dropped) = copy("bitmap b0");
	for (unsigned i = 0; i < layers; i++)
		add_layer(d, i ? "/images/base.qcow2" : path, i > 0);
	d->how = layers > 1 ? READ_LAYER : READ_FULL;
	d->bytes_read = 1;
	d->bytes_unchanged = 2;
	d->bytes_audited = 3;
	d->audit_owed = 4;
}

static void add_states(struct manifest *m)
{
	struct err e = ERR_INIT;
	struct manifest_state *s = PUSH(&m->states);
	struct manifest_state_disk *d = PUSH(&s->disks);

	s->kind = STATE_CURRENT;
	s->name = copy("current");
	*d = (struct manifest_state_disk){ .disk = 0, .tree = tree(100000, 0xaa), .layer = 1, .date_ns = 11, .how = READ_FULL, .bytes_read = 9 };
	d = PUSH(&s->disks);
	*d = (struct manifest_state_disk){ .disk = 1, .tree = tree(5, 0), .how = READ_SAME };
	s = PUSH(&m->states);
	s->kind = STATE_SNAPSHOT;
	s->name = copy("night/3");
	d = PUSH(&s->disks);
	*d = (struct manifest_state_disk){ .disk = 0,
					   .tree = tree(100000, 0xbb),
					   .snapshot_id = copy("17"),
					   .date_ns = 12,
					   .vm_clock_ns = UINT64_MAX,
					   .has_digest = true,
					   .digest = { 1 },
					   .has_vm_state = true,
					   .vm_state = tree(1000, 0xcc),
					   .how = READ_SNAPSHOT };
}

struct manifest *test_manifest(const char *vm, uint64_t sequence)
{
	struct err e = ERR_INIT;
	struct manifest *m = manifest_new(&e);

	assert_non_null(m);
	m->vm = copy(vm);
	m->vm_name = copy("D B \xff%");
	m->host = copy("h");
	m->start_ns = 1;
	m->end_ns = (int64_t)sequence * 1000000000;
	m->sequence = sequence;
	m->has_previous = sequence > 1;
	memset(m->previous.b, 9, ID_BYTES);
	m->complete = true;
	m->machine_source = copy("host:/images");
	add_disk(m, "vda", "/images/a.qcow2", 2);
	add_disk(m, "vdb", "/images/b\x01.raw", 1);
	add_states(m);
	*PUSH(&m->attachments) = (struct manifest_attachment){ .name = copy("db.xml"), .tree = tree(700, 0xdd), .mode = 0640 };
	*PUSH(&m->problems) = (struct manifest_problem){ .disk = copy("vda"), .state = copy("current"), .text = copy("line\nbreak") };
	*PUSH(&m->tags) = copy("nightly, 100%");
	*PUSH(&m->pins) = copy("keep");
	m->bytes_read = 1;
	m->bytes_hashed = 2;
	m->bytes_new = 3;
	m->bytes_stored = 4;
	m->milliseconds = 5;
	return m;
}
