/*
 * cmd_doctor.c - kedge doctor: tries what kedge relies on, on this machine and this store, and says the verdict in
 * words.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/num.h"
#include "base/text.h"
#include "cli/msg.h"
#include "cli/open.h"

#define PROBE_BYTES ((size_t)4 << 20)

/* A finding: what was tried, whether it is as it must be, and what to do. */
enum verdict { V_OK, V_WARN, V_BAD };
struct doctor {
	struct cli *c;
	struct opened o;
	json_t *rows;
	unsigned bad, warned;
};

static void say(struct doctor *d, enum verdict v, const char *what, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
static void say(struct doctor *d, enum verdict v, const char *what, const char *fmt, ...)
{
	static const char *const words[] = { "ok", "note", "BAD" };
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	d->bad += v == V_BAD;
	d->warned += v == V_WARN;
	if (d->c->g.json) {
		json_t *row = json_object();

		msg_json_set(&row, "what", json_string(what));
		msg_json_set(&row, "verdict", json_string(words[v]));
		msg_json_set(&row, "text", msg_json_text(text));
		msg_json_push(&d->rows, row);
	} else if (v != V_OK || !d->c->g.quiet) {
		printf("%-5s %-24s %s\n", words[v], what, text);
	}
}

static void say_err(struct doctor *d, const char *what, const struct err *e)
{
	char text[ERR_CTX_BYTES + ERR_CAUSE_BYTES];

	say(d, V_BAD, what, "%.500s", err_text(e, text, sizeof(text)));
}

static int seen(void *opaque, const char *name, const struct store_stat *st, struct err *e)
{
	(void)st;
	(void)e;
	if (!strncmp(name, "doctor/", 7))
		++*(unsigned *)opaque;
	return 0;
}

/* Put, stat, list, read whole and in part, put again if absent, remove: as the store's contract says. */
static int store_test(struct doctor *d, const char *name, uint8_t *buf, uint8_t *back, struct err *e)
{
	struct store *s = d->o.store;
	struct store_stat st;
	unsigned n = 0;
	double start = clock_mono(), put, read;

	if (store_put(s, name, buf, PROBE_BYTES, STORE_PUT_IF_ABSENT, e) < 0)
		return e->code;
	put = clock_mono() - start;
	start = clock_mono();
	if (store_read(s, name, back, PROBE_BYTES, 0, e) < 0)
		return e->code;
	read = clock_mono() - start;
	if (memcmp(buf, back, PROBE_BYTES))
		return err_set(e, ERR_CORRUPT, "the store gave back other bytes than it got");
	if (store_read(s, name, back, 1000, 12345, e) < 0)
		return e->code;
	if (memcmp(buf + 12345, back, 1000))
		return err_set(e, ERR_CORRUPT, "a read of a part gave other bytes");
	if (store_stat(s, name, &st, e) < 0 || store_list(s, "doctor/", seen, &n, e) < 0)
		return e->code;
	if (st.size != PROBE_BYTES || n < 1)
		return err_set(e, ERR_CORRUPT, "a list after a put does not show the object, or its size is wrong");
	if (store_put(s, name, buf, PROBE_BYTES, STORE_PUT_IF_ABSENT, e) != ERR_EXISTS)
		return e->code ? e->code : err_set(e, ERR_CORRUPT, "a put that must find nothing there was taken twice");
	err_clear(e);
	if (store_remove(s, name, e) < 0)
		return e->code;
	say(d, V_OK, "put, read, list, remove", "put %.0f MiB/s%s, read %.0f MiB/s",
	    (double)PROBE_BYTES / (double)MIB / put, store_caps(s)->is_local ? " with fsync" : "",
	    (double)PROBE_BYTES / (double)MIB / read);
	return 0;
}

/* A store that looks before it puts says "it is there" whatever the server does: so it is opened anew, to be tried. */
static void check_condition(struct doctor *d)
{
	struct store *s = NULL;
	struct err e = ERR_INIT;

	d->c->test_store = true;
	if (open_store(d->c, false, &s, &e) < 0) {
		say_err(d, "conditional put", &e);
		return;
	}
	if (store_caps(s)->conditional_put)
		say(d, V_OK, "conditional put", "honoured");
	else
		say(d, V_WARN, "conditional put",
		    "not honoured: of two inits at once in one place both may think that theirs is the repository");
	store_close(s);
}

static void check_store(struct doctor *d)
{
	struct err e = ERR_INIT, ignored = ERR_INIT;
	uint8_t *buf = malloc(2 * PROBE_BYTES), id[16];
	char name[64], hex[33];

	if (!buf)
		return;
	randombytes_buf(buf, PROBE_BYTES);
	randombytes_buf(id, sizeof(id));
	snprintf(name, sizeof(name), "doctor/%s", text_hex(id, sizeof(id), hex));
	if (store_test(d, name, buf, buf + PROBE_BYTES, &e) < 0) {
		say_err(d, "store", &e);
		if (store_remove(d->o.store, name, &ignored) < 0)	/* whatever was left of the probe */
			LOG_DEBUG("%s: not removed", name);
	}
	free(buf);
}

static void check_space(struct doctor *d, const char *what, const char *path, uint64_t least)
{
	struct statvfs v;
	char a[MSG_SIZE_BYTES];
	uint64_t free_bytes;

	if (statvfs(path, &v) < 0) {
		say(d, V_WARN, what, "%s: %s", path, strerror(errno));
		return;
	}
	free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	say(d, free_bytes >= least ? V_OK : V_WARN, what, "%s free in %s", msg_size(d->c, free_bytes, a), path);
}

/* The state folder must be writable, or rolled-back storage can't be noticed. */
static void check_folder(struct doctor *d, const char *what, const char *path, const char *why)
{
	CLEANUP(free_ptr) char *probe = NULL;
	struct err e = ERR_INIT;

	if (fs_mkdirs(path, 0700, &e) < 0) {
		say(d, V_WARN, what, "%s can't be made: %s; %s", path, strerror(e.os_errno), why);
		return;
	}
	probe = text_printf(&e, "%s/.doctor", path);
	if (!probe || fs_write_atomic(probe, "x", 1, true, 0600, &e) < 0) {
		say(d, V_WARN, what, "%s can't be written; %s", path, why);
		return;
	}
	unlink(probe);
	say(d, V_OK, what, "%s", path);
}

static void check_machine(struct doctor *d)
{
	struct rlimit rl;
	char text[32];
	uint64_t memory;

	say(d, clock_wall_ns() > INT64_C(1700000000) * 1000000000 ? V_OK : V_BAD, "clock", "%s",
	    clock_utc_text(clock_wall_ns(), text));
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0)
		say(d, rl.rlim_cur >= 512 ? V_OK : V_WARN, "open files", "limit %" PRIu64 "%s", (uint64_t)rl.rlim_cur,
		    rl.rlim_cur >= 512
			    ? ""
			    : ": a chain of 200 layers needs 512, a VMDK one for each of its files (ulimit -Hn)");
	memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	say(d, memory >= 512 * MIB ? V_OK : V_WARN, "memory",
	    "%" PRIu64 " MiB; kedge uses at most %" PRIu64 " MiB for buffers (--memory)", memory / MIB,
	    d->c->g.memory / MIB);
	say(d, V_OK, "processors", "%" PRIu64 " usable", d->c->g.threads);
}

static void check_repo(struct doctor *d)
{
	const struct repo_config *rc = repo_config(d->o.repo);
	struct slot_list slots = { 0 };
	struct err e = ERR_INIT;
	size_t recovery = 0, usable = 0;

	say(d, V_OK, "repository", "format 1%s, chunks of %u KiB, opened with a %s key", rc->draft ? " (draft)" : "",
	    rc->chunk_size / 1024, slot_role_name(repo_own_role(d->o.repo)));
	if (repo_slots(d->o.repo, &slots, &e) < 0) {
		say_err(d, "keys", &e);
		return;
	}
	for (size_t i = 0; i < slots.n; i++) {
		usable += slots.p[i].kinds && !slots.p[i].removed;
		recovery += !slots.p[i].removed && (slots.p[i].kinds & 1u << SECRET_RECOVERY);
	}
	say(d, recovery ? V_OK : V_WARN, "keys", "%zu usable, %s recovery key", usable, recovery ? "with a" : "no");
	slot_list_free(&slots);
	if (open_backups(&d->o, NULL, &e) < 0)
		say_err(d, "backups", &e);
	else
		say(d, d->o.bad ? V_BAD : V_OK, "backups", "%zu listed, %u can't be read or don't count",
		    d->o.backups.n, d->o.bad);
}

static int run(struct cli *c, void *opts, struct err *e)
{
	struct doctor d = { .c = c };
	int r;

	(void)opts;	/* has no options of its own */
	if (c->g.json)
		d.rows = json_array();
	r = open_repo(c, &d.o, e);
	if (r < 0) {
		json_decref(d.rows);
		opened_done(&d.o);
		return r;
	}
	check_machine(&d);
	check_folder(&d, "state folder", d.o.state_dir,
		     "a store that is rolled back can't be noticed (KEDGE_STATE_DIR)");
	check_folder(&d, "cache folder", d.o.cache_dir, "runs are slower (KEDGE_CACHE_DIR)");
	check_repo(&d);
	check_store(&d);
	check_condition(&d);
	if (store_caps(d.o.store)->is_local)
		check_space(&d, "space", d.o.store->location, GIB);
	if (c->g.json) {
		json_t *o = json_object();

		msg_json_set(&o, "bad", json_integer(d.bad));
		msg_json_set(&o, "notes", json_integer(d.warned));
		msg_json_set(&o, "findings", d.rows);
		r = msg_json(o, e);
	} else if (d.bad || !c->g.quiet) {
		const char *verdict = d.warned ? "It works; see the notes above." : "All is well.";

		puts(d.bad ? "Something is wrong: see BAD above." : verdict);
		r = msg_flush(e);
	}
	opened_done(&d.o);
	return r < 0 ? r : d.bad ? EXIT_FAILED : EXIT_DONE;
}

const struct command cmd_doctor = {
	.name = "doctor",
	.summary = "test the store and this machine, and say what is wrong",
	.usage = "",
	.text = "Tries put, read, list, conditional put and remove on the store with an object of its own\n"
		"(removed again), and looks at clock, limits, folders, keys and backups.",
	.globals = CLI_REPO | CLI_JSON | CLI_BYTES | CLI_THREADS | CLI_MEMORY,
	.run = run,
};
