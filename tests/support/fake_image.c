/* fake_image.c - an image in memory for tests. */
#include "tests/test.h"
#include "tests/support/fake_image.h"

#include <sodium.h>

#include "base/num.h"
#include "formats/chain_internal.h"

uint64_t fake_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void fill(uint8_t *p, uint64_t len, uint64_t seed)
{
	for (uint64_t i = 0; i < len; i++)
		p[i] = (uint8_t)(i % 8 == 0 ? fake_random(&seed) | 1 : (seed >> (i % 8 * 8)) + i);
}

static struct extent at(const struct fake *f, uint32_t state, uint64_t off)
{
	const struct fake_cluster *c = &f->s[state].map[off / f->cluster];
	uint64_t in = off % f->cluster;
	struct extent x = { .start = off, .len = f->cluster - in, .kind = c->kind };

	if (c->kind == EXTENT_DATA) {
		x.origin.file = c->file;
		x.origin.compressed = c->compressed;
		x.origin.host = c->compressed ? c->host : c->host + in;
		x.origin.inner = c->compressed ? (uint32_t)in : 0;
	}
	return x;
}

static int fake_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			    struct err *e)
{
	const struct fake *f = (const struct fake *)im;
	struct extent x, n;

	if (f->bad_map && f->bad_state == state)
		return err_set(e, ERR_CORRUPT, "table is made to be broken");
	if (off / f->cluster >= f->s[state].nclusters) { /* a vast tail that was never written: no table for it */
		*ret = (struct extent){ .start = off, .len = limit, .kind = EXTENT_HOLE };
		return 1;
	}
	x = at(f, state, off);
	while (x.len < limit && (off + x.len) / f->cluster < f->s[state].nclusters) {
		n = at(f, state, off + x.len);
		if (n.kind != x.kind || (x.kind == EXTENT_DATA && (x.origin.compressed || n.origin.compressed ||
								    n.origin.file != x.origin.file ||
								    n.origin.host != x.origin.host + x.len)))
			break;
		x.len += n.len;
	}
	x.len = min_u64(x.len, limit);
	*ret = x;
	return 1;
}

static int fake_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct fake *f = (struct fake *)im;
	uint8_t *p = buf;

	if (f->fails && f->fail_state == state && off < f->fail_to && off + len > f->fail_from)
		return err_set(e, ERR_IO, "read at %llu is made to fail", (unsigned long long)off);
	f->nread += len;
	for (uint64_t done = 0; done < len;) {
		uint64_t pos = off + done, n = min_u64(len - done, f->cluster - pos % f->cluster);
		const struct fake_cluster *c = pos / f->cluster < f->s[state].nclusters
						       ? &f->s[state].map[pos / f->cluster]
						       : NULL;

		if (c && c->kind == EXTENT_DATA)
			memcpy(p + done, f->host + c->host + pos % f->cluster, (size_t)n);
		else
			memset(p + done, 0, (size_t)n);
		done += n;
	}
	if (f->lies && f->lie_state == state && f->lie_at >= off && f->lie_at < off + len)
		p[f->lie_at - off] ^= 0xff;
	return 0;
}

static int fake_pread_vm_state(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	(void)e;
	memcpy(buf, ((struct fake *)im)->s[state].vm_state + off, len);
	return 0;
}

static int fake_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	struct fake *f = (struct fake *)im;
	crypto_generichash_state h;

	(void)e;
	(void)crypto_generichash_init(&h, NULL, 0, 32);
	for (uint64_t i = 0; i < f->s[state].nclusters; i++) {
		const struct fake_cluster *c = &f->s[state].map[i];
		uint64_t row[3] = { c->kind, c->compressed, c->host };

		(void)crypto_generichash_update(&h, (const uint8_t *)row, sizeof(row));
	}
	(void)crypto_generichash_final(&h, digest, 32);
	return 0;
}

static int fake_check_unchanged(struct image *im, struct err *e)
{
	return ((struct fake *)im)->changed ? err_set(e, ERR_CHANGED, "made to have changed") : 0;
}

static void fake_close(struct image *im)
{
	(void)im;	/* the test's */
}

static const struct image_ops fake_ops = {
	.format = "fake",
	.close = fake_close,
	.next_extent = fake_next_extent,
	.pread = fake_pread,
	.pread_vm_state = fake_pread_vm_state,
	.state_digest = fake_state_digest,
	.check_unchanged = fake_check_unchanged,
};

static void *must(void *p)
{
	assert_non_null(p);
	return p;
}

struct fake *fake_new(const char *path, uint32_t cluster, uint64_t size)
{
	struct fake *f = must(calloc(1, sizeof(*f)));

	f->im.ops = &fake_ops;
	f->im.file.fd = -1;
	f->im.path = must(strdup(path));
	f->im.states = f->pub;
	f->im.info = (struct image_info){ .format = "fake", .cluster_size = cluster, .nstates = 1 };
	f->cluster = cluster;
	f->pub[0] = (struct image_state){ .name = "current", .id = "" };
	for (const char *c = path; *c; c++)
		f->im.identity.ino = f->im.identity.ino * 131 + (uint8_t)*c;
	f->im.identity.dev = 7;
	f->im.identity.mtime_ns = f->im.identity.ctime_ns = 1000;
	fake_resize(f, size);
	return f;
}

void fake_free(struct fake *f)
{
	if (!f)
		return;
	for (uint32_t i = 0; i < f->im.info.nstates; i++) {
		free(f->s[i].map);
		free(f->s[i].vm_state);
		if (i) {
			free((char *)(uintptr_t)f->pub[i].name);
			free((char *)(uintptr_t)f->pub[i].id);
		}
	}
	free(f->host);
	free(f->im.path);
	VEC_DONE(&f->im.parts);
	free(f);
}

void fake_resize(struct fake *f, uint64_t size)
{
	uint64_t n = min_u64(div_up(size, f->cluster), (uint64_t)1 << 20);	/* the rest is a hole */
	uint64_t old = f->s[0].nclusters;

	f->s[0].map = must(realloc(f->s[0].map, (size_t)(n ? n : 1) * sizeof(*f->s[0].map)));
	if (n > old)
		memset(f->s[0].map + old, 0, (size_t)(n - old) * sizeof(*f->s[0].map));
	f->s[0].nclusters = n;
	f->pub[0].size = f->im.info.virtual_size = size;
}

void fake_write(struct fake *f, uint64_t off, uint64_t seed, bool compressed)
{
	struct fake_cluster *c = &f->s[0].map[off / f->cluster];

	f->host = must(realloc(f->host, (size_t)(f->host_len + f->cluster)));
	fill(f->host + f->host_len, f->cluster, seed);
	*c = (struct fake_cluster){ .kind = EXTENT_DATA, .compressed = compressed, .host = f->host_len };
	f->host_len += f->cluster;
	f->im.info.file_size = f->im.identity.size = f->host_len;
}

void fake_clear(struct fake *f, uint64_t off, enum extent_kind kind)
{
	f->s[0].map[off / f->cluster] = (struct fake_cluster){ .kind = kind };
}

uint32_t fake_snapshot(struct fake *f, const char *name, const char *id, int64_t date_ns)
{
	uint32_t i = f->im.info.nstates++;
	size_t bytes = (size_t)f->s[0].nclusters * sizeof(*f->s[0].map);

	assert_true(i < FAKE_STATES_MAX);
	f->s[i].nclusters = f->s[0].nclusters;
	f->s[i].map = must(malloc(bytes ? bytes : 1));
	memcpy(f->s[i].map, f->s[0].map, bytes);
	f->pub[i] = (struct image_state){
		.name = must(strdup(name)), .id = must(strdup(id)), .size = f->pub[0].size, .date_ns = date_ns
	};
	return i;
}

void fake_vm_state(struct fake *f, uint32_t state, uint64_t bytes, uint64_t seed)
{
	f->s[state].vm_state = must(malloc((size_t)bytes));
	fill(f->s[state].vm_state, bytes, seed);
	f->pub[state].vm_state_bytes = bytes;
}

struct chain *fake_chain(struct fake *const *layers, uint32_t n)
{
	struct chain *c = must(calloc(1, sizeof(*c)));
	struct err e = ERR_INIT;

	c->nlayers = n;
	c->layers = must(calloc(n, sizeof(*c->layers)));
	for (uint32_t i = 0; i < n; i++)
		c->layers[i] = &layers[i]->im;
	assert_ok(stack_new(c->layers, n, 0, false, &c->image, &e), &e);
	return c;
}

void fake_chain_free(struct chain *c)
{
	image_close(c->image);
	free(c->layers);
	free(c);
}
