/* main.c - parse, set up, run, report. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/num.h"
#include "base/workers.h"
#include "cli/bar.h"
#include "cli/cli.h"
#include "cli/hint.h"
#include "cli/msg.h"

#define MEMORY_DEFAULT_BYTES (256 * MIB)
#define KEPT_BLOCK_MAX_BYTES (4 * MIB)	/* larger than any buffer of the pipelines */
#define KEPT_FREE_BYTES (32 * MIB)
#define ARENAS 4

/* A closed stdin, stdout or stderr would give its number to the next file opened: an image must not become stdout. */
static int fill_standard_fds(void)
{
	int fd;

	do
		fd = FS_RETRY(open("/dev/null", O_RDWR));
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

/* An image may have thousands of files (VMDK's extents), and all are open at once.  Where it can't be,
 * opening tells. */
static void allow_many_files(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0 || l.rlim_cur >= l.rlim_max)
		return;
	l.rlim_cur = l.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &l);
}

/*
 * Keys, passwords and tokens are in memory, some of them in that of libraries, which wipe nothing: a core dump has them.
 * Neither a file nor a program of core_pattern gets one, and nobody else of the same user may look in.
 */
static void keep_memory_secret(void)
{
	const char *wanted = getenv("KEDGE_CORE");
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	wanted = "1";	/* the search for leaks looks in from another process */
#endif

	if (wanted && !strcmp(wanted, "1"))
		return;
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	(void)setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
}

/* Errors in the options themselves: whether --json was given must be known before they are parsed. */
static bool asks_for_json(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "--json"))
			return true;
	return false;
}

static void log_to_stderr(void *opaque, enum log_level level, const char *line)
{
	struct bar *b = opaque;

	(void)level;
	bar_hide(b);
	fprintf(stderr, "kedge: %s\n", line);
	bar_show(b);
}

/*
 * Buffers of about 1 MiB come and go with each read.  glibc would give every one back to the kernel and fetch it anew,
 * page by page: reading cached images took four times as long.  But each of its arenas keeps what was freed into it,
 * and it would make one for every thread.
 */
static void keep_freed_memory(void)
{
	(void)mallopt(M_MMAP_THRESHOLD, (int)KEPT_BLOCK_MAX_BYTES);
	(void)mallopt(M_TRIM_THRESHOLD, (int)KEPT_FREE_BYTES);
	(void)mallopt(M_ARENA_MAX, ARENAS);
}

static int set_up(struct cli *c, struct err *e)
{
	signals_install(&c->cancel);
	keep_freed_memory();
	if (!c->g.threads)
		c->g.threads = workers_cpus();
	if (!c->g.memory)
		c->g.memory = MEMORY_DEFAULT_BYTES;
	if (c->cmd->globals & CLI_PROGRESS) {
		bool draw = isatty(STDERR_FILENO) && !c->g.quiet && !c->g.no_progress;

		if (bar_new(draw, &c->bar, e) < 0)
			return e->code;
		c->progress = (struct progress){ .update = bar_update, .opaque = c->bar };
	}
	log_setup(c->g.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, log_to_stderr, c->bar);
	return 0;
}

static int run(struct cli *c, void *opts, struct err *e)
{
	int r = set_up(c, e);

	if (r == 0)
		r = c->cmd->run(c, opts, e);
	log_setup(LOG_LEVEL_WARN, NULL, NULL);
	bar_free(c->bar);
	c->bar = NULL;
	if (r >= 0 && msg_flush(e) < 0)
		return e->code;
	return r;
}

static int report(const struct cli *c, int r, struct err *e)
{
	int code = c->exit_code ? c->exit_code : exit_of_err(e);

	if (r >= 0)
		return r;
	if (e->code == ERR_CANCELLED)
		code = EXIT_INTERRUPTED;
	hint_general(e, c->cmd);
	if (e->os_errno != EPIPE)	/* whoever reads our output has had enough: nobody is left to tell */
		msg_error(c, e, code);
	return code;
}

/* No openssl.cnf decides which algorithms there are, what kedge has no use for is not loaded, and nothing is torn down
 * at exit under a thread that runs.  libcrypto makes its context when first asked for it, and goes on without in
 * places: so now, and the answer is looked at. */
static int start_libraries(void)
{
	static const uint64_t how = OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS |
				    OPENSSL_INIT_NO_ADD_ALL_CIPHERS | OPENSSL_INIT_NO_ADD_ALL_DIGESTS |
				    OPENSSL_INIT_NO_ATEXIT;

	if (sodium_init() < 0) {
		fputs("kedge: error: no random numbers on this system\n"
		      "  hint: /dev/urandom or getrandom(2) must work: a chroot or container may lack them\n", stderr);
		return -1;
	}
	if (OPENSSL_init_crypto(how, NULL) != 1 || !OSSL_LIB_CTX_get0_global_default()) {
		fputs("kedge: error: no memory for libcrypto\n"
		      "  hint: look at `free`, `ulimit -v` and the cgroup's memory.max\n", stderr);
		return -1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct cli c = { 0 };
	struct parsed p = { 0 };
	struct err e = ERR_INIT;
	int r;

	if (fill_standard_fds() < 0) {
		fprintf(stderr, "kedge: error: /dev/null: %s\n", strerror(errno));
		return EXIT_FAILED;
	}
	keep_memory_secret();
	allow_many_files();
	if (start_libraries() < 0)
		return EXIT_FAILED;
	setlocale(LC_CTYPE, "");
	if (options_parse(argc, argv, cli_global_options, &c.g, cli_commands, &p, &e) < 0) {
		c.g.json = asks_for_json(argc, argv);
		c.exit_code = e.code == ERR_INVALID ? EXIT_USAGE : EXIT_FAILED;
		if (p.cmd)
			(void)err_hint(&e, "kedge help %s", p.cmd->name);
		r = report(&c, e.code, &e);
	} else if (p.version || p.help) {
		if (p.version)
			puts("kedge " KEDGE_VERSION);
		else if (p.cmd)
			help_print_command(p.cmd);
		else
			help_print_all();
		r = report(&c, msg_flush(&e), &e);
	} else {
		c.cmd = p.cmd;
		c.args = p.args;
		c.nargs = p.nargs;
		r = report(&c, run(&c, p.opts, &e), &e);
	}
	options_done(&p, cli_global_options, &c.g);
	return r;
}
