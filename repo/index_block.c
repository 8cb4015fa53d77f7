/*
 * index_block.c - the bytes of runs: from the store, or from a copy in the cache folder where the store is far away.
 *
 * A copy is the sealed run as it is stored.  Tails are signed and every block has its hash in the tail, so a copy is
 * believed no more than the store is; it may vanish or rot at any time, which costs a transfer.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/num.h"
#include "base/text.h"
#include "repo/index_internal.h"
#include "repo/repo_internal.h"
#include "repo/sha256.h"
#include "transport/store.h"

#define COPY_BYTES ((size_t)4 << 20)
#define TAIL_GUESS_BYTES ((size_t)32 << 10) /* enough for most: one read */

static bool has_cache(const struct repo *r)
{
	return r->cache_dir && !store_caps(r->store)->is_local;
}

static char *cache_folder(const struct repo *r, struct err *e)
{
	char instance[2 * 16 + 1];

	return text_printf(e, "%s/%s/index", r->cache_dir, text_hex(r->cfg.instance_id, 16, instance));
}

static char *copy_path(const struct repo *r, const struct id *hash, struct err *e)
{
	CLEANUP(free_ptr) char *dir = cache_folder(r, e);
	char hex[2 * ID_BYTES + 1];

	return dir ? fs_join(dir, text_hex(hash->b, ID_BYTES, hex), e) : NULL;
}

/* True when the range came from a copy of the right length. */
static bool copy_read(const struct repo *r, const struct id *hash, uint64_t size, void *buf, size_t len, uint64_t off)
{
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *path = NULL;
	CLEANUP(close_fd) int fd = -1;
	struct stat st;

	if (!has_cache(r))
		return false;
	path = copy_path(r, hash, &e);
	if (path)
		fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC));
	if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size != size)
		return false;
	return fs_pread_full(fd, buf, len, off, &e) == 0;
}

static void copy_drop(const struct repo *r, const struct id *hash)
{
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *path = has_cache(r) ? copy_path(r, hash, &e) : NULL;

	if (path)
		(void)unlink(path); /* what can't be removed is refused again when it is read */
}

static int copy_to(struct repo *r, const char *name, const struct id *hash, uint64_t size, int fd, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *buf = malloc(COPY_BYTES);
	CLEANUP(sha256_done) struct sha256_run h = { 0 };
	struct id is;

	if (!buf)
		return err_set(e, ERR_NOMEM, "copy of an index run");
	if (sha256_begin(r->sha256, &h, e) < 0)
		return e->code;
	for (uint64_t off = 0; off < size; off += COPY_BYTES) {
		size_t n = (size_t)min_u64(COPY_BYTES, size - off);

		if (cancel_check(r->cancel, e) < 0 || store_read(r->store, name, buf, n, off, e) < 0 ||
		    fs_write_full(fd, buf, n, e) < 0 || sha256_add(&h, buf, n, e) < 0)
			return e->code;
	}
	if (sha256_end(&h, &is, e) < 0)
		return e->code;
	if (!id_eq(&is, hash))
		return err_set(e, ERR_CORRUPT, "its bytes are not those that its name promises");
	return 0;
}

/* Fetches the whole run to the cache folder.  What goes wrong is not an error: blocks are then read from the store one
 * by one. */
static bool copy_make(struct repo *r, const char *name, const struct id *hash, uint64_t size)
{
	struct fs_atomic a = { .fd = -1 };
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *dir = cache_folder(r, &e), *path = copy_path(r, hash, &e);
	bool done;

	if (!dir || !path)
		return false;
	done = fs_mkdirs(dir, 0700, &e) == 0 && fs_atomic_open(&a, path, true, 0600, &e) == 0 &&
	       copy_to(r, name, hash, size, a.fd, &e) == 0 && fs_atomic_commit(&a, true, &e) == 0;
	fs_atomic_done(&a);
	if (!done)
		LOG_DEBUG("%s: not cached: %s", name, e.cause);
	return done;
}

void index_cache_clean(struct repo *r, char *const *names, size_t n)
{
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *dir = has_cache(r) ? cache_folder(r, &e) : NULL;
	DIR *d = dir ? opendir(dir) : NULL;
	struct dirent *ent;

	if (!d)
		return;
	while ((ent = readdir(d)) != NULL) {
		size_t i = 0;

		if (ent->d_name[0] == '.')
			continue;
		/* A run's name ends in the copy's; temporary files of a crash fit none. */
		while (i < n && (strlen(names[i]) < 64 || strcmp(names[i] + strlen(names[i]) - 64, ent->d_name) != 0))
			i++;
		if (i == n)
			(void)unlinkat(dirfd(d), ent->d_name, 0);
	}
	closedir(d);
}

bool index_is_damage(int code)
{
	/* An unknown version: what this program can't read is announced in the config, so this is a flipped bit. */
	return code == ERR_CORRUPT || code == ERR_AUTH || code == ERR_IO || code == ERR_UNSUPPORTED;
}

void index_run_free(struct index_run *run)
{
	if (!run)
		return;
	run_shape_done(&run->shape);
	run_tail_done(&run->tail);
	free(run->pack);
	free(run->dead);
	close_fd(&run->scratch_fd);
	free(run);
}

static int open_tail(struct repo *r, struct index_run *run, const struct object_name *n, const uint8_t *envelope,
		     const struct trailer *t, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *payload = NULL;
	struct slot_id signer;
	size_t len;

	if (envelope_open(r, OBJECT_RUN_TAIL, envelope, t->envelope_len, &payload, &len, &signer, NULL, e) < 0)
		return e->code;
	if (!slot_eq(&signer, &n->slot))
		return err_set(e, ERR_AUTH, "it is not signed by the slot in its name");
	if (run_tail_decode(payload, len, t->envelope_off, &run->tail, e) < 0 ||
	    run_shape_take(&run->tail, &run->shape, e) < 0)
		return e->code;
	run->generation = run->tail.generation;
	run->nentries = run->tail.nentries;
	run->dead = calloc(run->shape.nblocks / 8 + 1, 1);
	run->pack = calloc(run->shape.npacks + 1, sizeof(*run->pack));
	if (!run->dead || !run->pack)
		return err_set(e, ERR_NOMEM, "index run");
	return 0;
}

struct source {
	struct repo *r;
	const struct index_run *run;
	const uint8_t *bytes; /* or NULL: the cache, or the store */
	bool cache;
};

static int source_read(const struct source *s, void *buf, size_t len, uint64_t off, struct err *e)
{
	if (s->bytes) {
		memcpy(buf, s->bytes + off, len);
		return 0;
	}
	if (s->cache)
		return copy_read(s->r, &s->run->hash, s->run->size, buf, len, off)
			       ? 0
			       : err_set(e, ERR_NOTFOUND, "no copy");
	return store_read(s->r->store, s->run->name, buf, len, off, e);
}

static int read_tail(const struct source *s, struct index_run *run, const struct object_name *n, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *end = NULL, *whole = NULL;
	size_t guess = (size_t)min_u64(run->size, TAIL_GUESS_BYTES);
	const uint8_t *envelope;
	struct trailer t;

	if (run->size < TRAILER_BYTES || run->size > PACK_MAX_BYTES)
		return err_set(e, ERR_CORRUPT, "an index run of %" PRIu64 " bytes", run->size);
	end = malloc(guess);
	if (!end)
		return err_set(e, ERR_NOMEM, "tail of an index run");
	if (source_read(s, end, guess, run->size - guess, e) < 0 ||
	    trailer_decode(end + guess - TRAILER_BYTES, run->size, &t, e) < 0)
		return e->code;
	if (t.kind != PACK_INDEX_RUN)
		return err_set(e, ERR_CORRUPT, "trailer of kind %d", (int)t.kind);
	if (t.envelope_len <= guess - TRAILER_BYTES) {
		envelope = end + guess - TRAILER_BYTES - t.envelope_len;
	} else {
		envelope = whole = malloc(t.envelope_len); /* at most what the trailer's check allows */
		if (!whole)
			return err_set(e, ERR_NOMEM, "tail of an index run, %" PRIu32 " bytes", t.envelope_len);
		if (source_read(s, whole, t.envelope_len, t.envelope_off, e) < 0)
			return e->code;
	}
	return open_tail(s->r, run, n, envelope, &t, e);
}

static int new_run(const char *name, uint64_t size, struct index_run **ret, struct object_name *ret_n, struct err *e)
{
	struct index_run *run;

	if (!object_name_parse(name, ret_n) || ret_n->type != OBJECT_RUN_TAIL)
		return err_set(e, ERR_INVALID, "%s: not the name of an index run", name);
	run = calloc(1, sizeof(*run));
	if (!run)
		return err_set(e, ERR_NOMEM, "index run");
	snprintf(run->name, sizeof(run->name), "%s", name);
	run->scratch_fd = -1;
	run->hash = ret_n->hash;
	run->size = size;
	*ret = run;
	return 0;
}

int index_run_open(struct repo *r, const char *name, uint64_t size, const uint8_t *bytes, struct index_run **ret,
		   struct err *e)
{
	for (int cache = !bytes && has_cache(r); cache >= 0; cache--) {
		CLEANUP(index_run_free_cleanup) struct index_run *run = NULL;
		struct object_name n;
		struct source s = { .r = r, .bytes = bytes, .cache = cache };

		if (new_run(name, size, &run, &n, e) < 0)
			return e->code;
		s.run = run;
		if (read_tail(&s, run, &n, e) == 0) {
			*ret = STEAL(run);
			return 0;
		}
		if (cache) {
			if (e->code != ERR_NOTFOUND)
				copy_drop(r, &n.hash);
			err_clear(e);
		}
	}
	return err_ctx(e, "%s", name);
}

int index_block_open(struct repo *r, const struct index_run *run, uint32_t block, const uint8_t *sealed,
		     struct run_block *b, struct err *e)
{
	struct id is;

	if (hash_bytes(r, sealed, INDEX_BLOCK_BYTES, &is, e) < 0)
		return e->code;
	if (!id_eq(&is, &run->shape.fences[block].hash))
		return err_set(e, ERR_CORRUPT, "block %" PRIu32 " of the index run is not what its tail says", block);
	if (block_aead_open(r, run->generation, sealed, b->plain, e) < 0 ||
	    run_block_decode(b, &run->shape, block, e) < 0)
		return err_ctx(e, "block %" PRIu32, block);
	return 0;
}

int index_block_read(struct repo *r, const struct index_run *run, uint32_t block, struct run_block *b, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *sealed = malloc(INDEX_BLOCK_BYTES);
	uint64_t off = (uint64_t)block * INDEX_BLOCK_BYTES;

	if (!sealed)
		return err_set(e, ERR_NOMEM, "block of the index");
	if (run->scratch_fd >= 0) {
		if (fs_pread_full(run->scratch_fd, sealed, INDEX_BLOCK_BYTES, off, e) < 0 ||
		    index_block_open(r, run, block, sealed, b, e) < 0)
			return err_ctx(e, "%s", run->name);
		return 0;
	}
	if (has_cache(r) && (copy_read(r, &run->hash, run->size, sealed, INDEX_BLOCK_BYTES, off) ||
			     (copy_make(r, run->name, &run->hash, run->size) &&
			      copy_read(r, &run->hash, run->size, sealed, INDEX_BLOCK_BYTES, off)))) {
		if (index_block_open(r, run, block, sealed, b, e) == 0)
			return 0;
		err_clear(e);
		copy_drop(r, &run->hash);
	}
	if (store_read(r->store, run->name, sealed, INDEX_BLOCK_BYTES, off, e) < 0)
		return e->code;
	if (index_block_open(r, run, block, sealed, b, e) < 0)
		return err_ctx(e, "%s", run->name);
	return 0;
}
