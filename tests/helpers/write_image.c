/*
 * write_image.c - writes an image through the writer interface, for tests that compare with other tools.
 *
 *	write_image raw|qcow2 TARGET [KEY=VALUE]... FILE...
 *
 * Each FILE is the content of one state, oldest first; the last is the current state, the others become snapshots s0,
 * s1...  "FILE,VM" adds the file VM as machine memory.  Keys: cluster, step (bytes in one write; default 64K), seed
 * (order of the writes; 0 = ascending, the default), jobs (threads that write; step must then be a multiple of the
 * cluster size), threads, compress (0 1), zstd (0 1), extended_l2 (0 1), preallocation (off metadata falloc full),
 * max_bytes, share (0 1, default 1: what equals the state before is shared), replace (0 1), backing (a raw file: what
 * equals it is left out, zeros are told; one state).
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/vec.h"
#include "formats/qcow2/qcow2_write.h"
#include "formats/raw/raw_write.h"

struct mapped {
	const uint8_t *p;
	uint64_t size;
};

struct state {
	struct mapped disk, vm;
};

struct piece {
	uint64_t off, len;
	bool share;
};

struct args {
	int (*create)(const struct writer_opts *, struct image_writer **, struct err *);
	struct writer_opts o;
	struct mapped base;	/* p NULL: no backing file */
	uint64_t step, seed, jobs;
	bool share;
	VEC(struct state) states;
};

struct work {
	struct image_writer *w;
	const struct state *s;
	const struct mapped *base;	/* NULL: no backing file */
	uint32_t from;
	VEC(struct piece) pieces;
	atomic_size_t next;
	pthread_mutex_t lock;	/* guards e */
	struct err e;
};

static int map_file(const char *path, struct mapped *ret, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p = NULL;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "%s", path);
	if (st.st_size)
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return err_sys(e, "%s", path);
	*ret = (struct mapped){ .p = p, .size = (uint64_t)st.st_size };
	return 0;
}

static int parse_preallocation(const char *v, enum preallocation *ret)
{
	static const char *const names[] = { "off", "metadata", "falloc", "full" };

	for (int i = 0; i < 4; i++) {
		if (strcmp(v, names[i]) == 0) {
			*ret = (enum preallocation)i;
			return 0;
		}
	}
	return -1;
}

static int parse_key(struct args *a, const char *key, const char *v, struct err *e)
{
	uint64_t n = 0;

	if (strcmp(key, "preallocation") == 0)
		return parse_preallocation(v, &a->o.preallocation) == 0
			       ? 0
			       : err_set(e, ERR_INVALID, "preallocation %s", v);
	if (strcmp(key, "backing") == 0) {
		a->o.backing = v;
		a->o.backing_format = "raw";
		return map_file(v, &a->base, e);
	}
	if (!parse_size(v, &n))
		return err_set(e, ERR_INVALID, "%s=%s", key, v);
	if (strcmp(key, "cluster") == 0)
		a->o.cluster_size = (uint32_t)n;
	else if (strcmp(key, "step") == 0)
		a->step = n;
	else if (strcmp(key, "seed") == 0)
		a->seed = n;
	else if (strcmp(key, "jobs") == 0)
		a->jobs = n;
	else if (strcmp(key, "threads") == 0)
		a->o.threads = (unsigned)n;
	else if (strcmp(key, "compress") == 0)
		a->o.compress = n;
	else if (strcmp(key, "zstd") == 0)
		a->o.zstd = n;
	else if (strcmp(key, "extended_l2") == 0)
		a->o.extended_l2 = n;
	else if (strcmp(key, "max_bytes") == 0)
		a->o.max_bytes = n;
	else if (strcmp(key, "share") == 0)
		a->share = n;
	else if (strcmp(key, "replace") == 0)
		a->o.replace = n;
	else
		return err_set(e, ERR_INVALID, "no such key: %s", key);
	return 0;
}

static int parse_state(struct args *a, char *arg, struct err *e)
{
	struct state *s = VEC_PUSH(&a->states, e);
	char *comma = strchr(arg, ',');

	if (!s)
		return e->code;
	if (comma)
		*comma = '\0';
	if (map_file(arg, &s->disk, e) < 0)
		return e->code;
	return comma ? map_file(comma + 1, &s->vm, e) : 0;
}

static int parse(struct args *a, int argc, char **argv, struct err *e)
{
	if (argc < 4)
		return err_set(e, ERR_INVALID, "usage: write_image raw|qcow2 TARGET [KEY=VALUE]... FILE...");
	a->create = strcmp(argv[1], "raw") == 0 ? raw_create : qcow2_create;
	a->o.path = argv[2];
	for (int i = 3; i < argc; i++) {
		char *eq = strchr(argv[i], '=');
		int rc;

		if (eq) {
			*eq = '\0';
			rc = parse_key(a, argv[i], eq + 1, e);
		} else {
			rc = parse_state(a, argv[i], e);
		}
		if (rc < 0)
			return rc;
	}
	return a->states.n && a->step && a->jobs ? 0 : err_set(e, ERR_INVALID, "no file, or step or jobs 0");
}

static bool same(const struct mapped *a, const struct mapped *b, uint64_t off, uint64_t len)
{
	uint64_t both = off >= b->size ? 0 : min_u64(len, b->size - off);

	return memcmp(a->p + off, b->p + off, both) == 0 && bytes_all_zero(a->p + off + both, len - both);
}

static int plan(const struct args *a, struct work *k, const struct state *before, struct err *e)
{
	for (uint64_t off = 0, len; off < k->s->disk.size; off += len) {
		struct piece *last = k->pieces.n ? &k->pieces.p[k->pieces.n - 1] : NULL;
		bool share;

		len = min_u64(a->step, k->s->disk.size - off);
		share = before && a->share && same(&k->s->disk, &before->disk, off, len);
		if (last && last->share && share) {
			last->len += len;
			continue;
		}
		last = VEC_PUSH(&k->pieces, e);
		if (!last)
			return e->code;
		*last = (struct piece){ off, len, share };
	}
	for (size_t i = k->pieces.n, r; a->seed && i > 1; i--) {
		struct piece t;

		r = (size_t)random() % i;
		t = k->pieces.p[r];
		k->pieces.p[r] = k->pieces.p[i - 1];
		k->pieces.p[i - 1] = t;
	}
	return 0;
}

/* Also behind the disk's end, up to which the image's size is rounded: that is zero. */
static bool is_base(const struct work *k, const struct piece *p)
{
	uint64_t end = p->off + p->len, full = min_u64(round_up(end, 512), k->base->size);

	return same(&k->s->disk, k->base, p->off, p->len) && (full <= end || bytes_all_zero(k->base->p + end, full - end));
}

static int write_piece(const struct work *k, const struct piece *p, struct err *e)
{
	const uint8_t *buf = k->s->disk.p + p->off;

	if (p->share || (k->base && is_base(k, p)))
		return 0;
	if (k->base && bytes_all_zero(buf, p->len) && p->off % 3)
		return writer_zero(k->w, p->off, p->len, e);
	return writer_write(k->w, buf, p->len, p->off, e);
}

static void *write_pieces(void *opaque)
{
	struct work *k = opaque;
	struct err e = ERR_INIT;

	for (size_t i; (i = atomic_fetch_add(&k->next, 1)) < k->pieces.n;) {
		const struct piece *p = &k->pieces.p[i];

		if (write_piece(k, p, &e) == 0)
			continue;
		pthread_mutex_lock(&k->lock);
		k->e = e;
		pthread_mutex_unlock(&k->lock);
		break;
	}
	return NULL;
}

static int share_pieces(struct work *k, struct err *e)
{
	for (size_t i = 0; i < k->pieces.n; i++) {
		const struct piece *p = &k->pieces.p[i];

		if (p->share && writer_share(k->w, k->from, p->off, p->len, e) < 0)
			return e->code;
	}
	return 0;
}

static int write_vm(struct work *k, struct err *e)
{
	for (uint64_t off = 0, n; off < k->s->vm.size; off += n) {
		n = min_u64(100000, k->s->vm.size - off);
		if (writer_write_vm_state(k->w, k->s->vm.p + off, n, off, e) < 0)
			return e->code;
	}
	return 0;
}

static int write_state(const struct args *a, struct image_writer *w, size_t i, struct err *e)
{
	struct work k = { .w = w, .s = &a->states.p[i], .base = a->base.p ? &a->base : NULL, .from = (uint32_t)i - 1,
			  .lock = PTHREAD_MUTEX_INITIALIZER };
	char name[32];
	struct writer_state_opts so = { .size = k.s->disk.size, .vm_state_bytes = k.s->vm.size,
					.date_ns = INT64_C(1700000000000000000) };
	pthread_t t[16];
	uint64_t jobs = min_u64(a->jobs, 16);

	snprintf(name, sizeof(name), "s%zu", i);
	so.name = i + 1 < a->states.n ? name : NULL;
	if (writer_begin_state(w, &so, e) < 0 || plan(a, &k, i ? &a->states.p[i - 1] : NULL, e) < 0)
		return e->code;
	if (share_pieces(&k, e) < 0 || write_vm(&k, e) < 0)
		return e->code;
	for (uint64_t j = 0; j < jobs; j++)
		if (pthread_create(&t[j], NULL, write_pieces, &k) != 0)
			abort();
	for (uint64_t j = 0; j < jobs; j++)
		pthread_join(t[j], NULL);
	VEC_DONE(&k.pieces);
	if (k.e.code)
		*e = k.e;
	return k.e.code;
}

static int run(struct args *a, int argc, char **argv, struct err *e)
{
	struct image_writer *w;

	if (parse(a, argc, argv, e) < 0)
		return e->code;
	srandom((unsigned)a->seed);
	for (size_t i = 0; i < a->states.n; i++)
		a->o.max_size = max_u64(a->o.max_size, a->states.p[i].disk.size);
	a->o.size = a->states.p[a->states.n - 1].disk.size;
	if (a->create(&a->o, &w, e) < 0)
		return e->code;
	for (size_t i = 0; i < a->states.n; i++) {
		if (write_state(a, w, i, e) < 0) {
			writer_abort(w);
			return e->code;
		}
	}
	return writer_finish(w, e);
}

int main(int argc, char **argv)
{
	struct args a = { .step = 65536, .jobs = 1, .share = true };
	struct err e = ERR_INIT;
	char text[2000];

	if (run(&a, argc, argv, &e) < 0) {
		fprintf(stderr, "write_image: %s\n", err_text(&e, text, sizeof(text)));
		return 1;
	}
	VEC_DONE(&a.states);
	return 0;
}
