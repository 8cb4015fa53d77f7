/*
 * creds_file.c - profiles of ~/.aws/credentials and ~/.aws/config, and a command that prints credentials.
 *
 * The files are read here and not by a library for INI files: lines may be as long as a session token, and nothing of
 * them may stay behind in memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/text.h"
#include "transport/s3/creds_internal.h"

#define FILE_MAX_BYTES ((size_t)1 << 20)
#define OUTPUT_MAX_BYTES ((size_t)64 << 10)
#define PROCESS_SECONDS 60.0

extern char **environ;

const char *s3_profile_name(const char *given)
{
	const char *v = getenv("AWS_PROFILE");

	return given && *given ? given : v && *v ? v : "default";
}

static size_t trimmed(const char **s, size_t len)
{
	while (len && strchr(" \t\r", **s))
		(*s)++, len--;
	while (len && strchr(" \t\r", (*s)[len - 1]))
		len--;
	return len;
}

static bool is_word(const char *s, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(s, word, len) == 0;
}

struct ini {
	const char *path, *profile;
	bool config;		/* sections are "profile NAME" there, but for "default" */
	unsigned line;
	bool inside;
	struct s3_profile *p;
};

/* "[name]" or "[profile name]". */
static bool is_our_section(const struct ini *i, const char *s, size_t len)
{
	static const char word[] = "profile";
	size_t n = sizeof(word) - 1;

	len = trimmed(&s, len);
	if (i->config && len > n && memcmp(s, word, n) == 0 && strchr(" \t", s[n])) {
		s += n;
		len = trimmed(&s, len - n);
		return is_word(s, len, i->profile);
	}
	return is_word(s, len, i->profile) && (!i->config || is_word(s, len, "default"));
}

static int take_pair(struct ini *i, const char *key, size_t key_len, const char *v, size_t len, struct err *e)
{
	struct s3_profile *p = i->p;
	const struct {
		const char *name;
		char *to;
		size_t size;
	} known[] = {
		{ "aws_access_key_id", p->keys.access, sizeof(p->keys.access) },
		{ "aws_secret_access_key", p->keys.secret, sizeof(p->keys.secret) },
		{ "aws_session_token", p->keys.token, sizeof(p->keys.token) },
		{ "credential_process", p->process, sizeof(p->process) },
		{ "web_identity_token_file", p->token_file, sizeof(p->token_file) },
		{ "role_arn", p->role_arn, sizeof(p->role_arn) },
		{ "role_session_name", p->session_name, sizeof(p->session_name) },
		{ "source_profile", p->source, sizeof(p->source) },
		{ "region", p->region, sizeof(p->region) },
	};

	for (size_t k = 0; k < sizeof(known) / sizeof(*known); k++) {
		if (is_word(key, key_len, known[k].name) && !*known[k].to)	/* the file of credentials came first */
			return s3_secret_copy(known[k].to, known[k].size, v, len, known[k].name, e);
	}
	return 0;
}

static int take_line(struct ini *i, const char *s, size_t len, struct err *e)
{
	bool indented = len && strchr(" \t", *s);
	const char *eq, *value;
	size_t key_len;

	len = trimmed(&s, len);
	if (!len || *s == '#' || *s == ';')
		return 0;
	if (*s == '[') {
		if (s[len - 1] != ']')
			return err_set(e, ERR_INVALID, "a section without ]");
		i->inside = is_our_section(i, s + 1, len - 2);
		i->p->found |= i->inside;
		return 0;
	}
	eq = memchr(s, '=', len);
	if (indented || !i->inside)	/* indented: settings of a service, nested */
		return 0;
	if (!eq)
		return err_set(e, ERR_INVALID, "a line without =");
	value = eq + 1;
	key_len = trimmed(&s, (size_t)(eq - s));
	len = trimmed(&value, len - (size_t)(value - s));
	return take_pair(i, s, key_len, value, len, e);
}

/* Into guarded memory: the file may be all secrets. */
static int read_guarded(const char *path, char **ret, size_t *ret_len, struct err *e)
{
	CLEANUP(close_fd) int fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC));
	struct stat st;
	char *text;
	size_t len;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "%s", path);
	if (st.st_size < 0 || (uint64_t)st.st_size > FILE_MAX_BYTES)
		return err_set(e, ERR_INVALID, "%s: more than 1 MiB", path);
	text = sodium_malloc((size_t)st.st_size + 1);
	if (!text)
		return err_set(e, ERR_NOMEM, "%s", path);
	if (fs_pread(fd, text, (size_t)st.st_size, 0, &len, e) < 0) {
		sodium_free(text);
		return e->code;
	}
	text[len] = '\0';
	*ret = text;
	*ret_len = len;
	return 0;
}

static int read_profile(struct ini *i, struct err *e)
{
	char *text = NULL;
	size_t len = 0;
	int r = read_guarded(i->path, &text, &len, e);

	if (r == ERR_NOTFOUND) {
		err_clear(e);
		return 0;
	}
	for (char *s = text, *end; r == 0 && s && s < text + len; s = end + 1) {
		end = memchr(s, '\n', (size_t)(text + len - s));
		end = end ? end : text + len;
		i->line++;
		r = take_line(i, s, (size_t)(end - s), e);
		if (r < 0)
			err_ctx(e, "%s: line %u", i->path, i->line);
	}
	sodium_free(text);
	return r;
}

/* The variable, else ~/.aws/NAME; NULL without error: there is no home. */
static int path_of(const char *env, const char *name, char **ret, struct err *e)
{
	const char *v = getenv(env), *home = getenv("HOME");

	*ret = NULL;
	if (v && *v)
		*ret = text_printf(e, "%s", v);
	else if (home && *home == '/')
		*ret = text_printf(e, "%s/.aws/%s", home, name);
	else
		return 0;
	return *ret ? 0 : e->code;
}

int s3_profile_load(const char *name, struct s3_profile **ret, struct err *e)
{
	static const char *const env[2] = { "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE" };
	static const char *const file[2] = { "credentials", "config" };
	struct s3_profile *p = sodium_malloc(sizeof(*p));

	if (!p)
		return err_set(e, ERR_NOMEM, "profile (see ulimit -l)");
	sodium_memzero(p, sizeof(*p));
	for (int n = 0; n < 2; n++) {
		CLEANUP(free_ptr) char *path = NULL;
		struct ini i = { .profile = name, .config = n == 1, .p = p };

		if (path_of(env[n], file[n], &path, e) < 0 || (i.path = path, path && read_profile(&i, e) < 0)) {
			sodium_free(p);
			return e->code;
		}
	}
	*ret = p;
	return 0;
}

/* --- credential_process ------------------------------------------------------------------------------------------ */

static int start(const char *command, pid_t *ret_pid, int *ret_fd, struct err *e)
{
	CLEANUP(free_ptr) char *copy = text_printf(e, "%s", command);
	char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, copy, NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none;
	int p[2], r;

	if (!copy)
		return e->code;
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, p[1], STDOUT_FILENO);
	posix_spawnattr_init(&attr);
	sigemptyset(&none);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setpgroup(&attr, 0);	/* what it starts is ended with it */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	r = posix_spawn(ret_pid, "/bin/sh", &fa, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	close(p[1]);
	if (r) {
		close(p[0]);
		errno = r;
		return err_sys(e, "/bin/sh");
	}
	*ret_fd = p[0];
	return 0;
}

/* All it prints, in guarded memory of OUTPUT_MAX_BYTES. */
static int read_output(int fd, char *text, size_t *ret_len, struct cancel *cancel, struct err *e)
{
	double until = clock_mono() + PROCESS_SECONDS;
	size_t len = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n;

		if (cancel_check(cancel, e) < 0)
			return e->code;
		if (clock_mono() > until)
			return err_set(e, ERR_TRANSIENT, "it has not ended after %.0f s", PROCESS_SECONDS);
		if (poll(&p, 1, 200) <= 0)
			continue;
		n = read(fd, text + len, OUTPUT_MAX_BYTES - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "its output");
		if (n == 0)
			break;
		len += (size_t)n;
		if (len == OUTPUT_MAX_BYTES)
			return err_set(e, ERR_INVALID, "it prints more than 64 KiB");
	}
	*ret_len = len;
	return 0;
}

/* Who has closed its output need not have ended. */
static int await_end(pid_t pid, int *ret_status, struct cancel *cancel, struct err *e)
{
	double until = clock_mono() + PROCESS_SECONDS;
	pid_t got;

	while ((got = waitpid(pid, ret_status, WNOHANG)) == 0) {
		if (cancel_check(cancel, e) < 0)
			return e->code;
		if (clock_mono() > until)
			return err_set(e, ERR_TRANSIENT, "it has not ended after %.0f s", PROCESS_SECONDS);
		(void)poll(NULL, 0, 20);
	}
	return got == pid ? 0 : err_sys(e, "its end");
}

static int run(const char *command, char *text, size_t *ret_len, struct cancel *cancel, struct err *e)
{
	CLEANUP(close_fd) int fd = -1;
	pid_t pid;
	int r, status = 0;

	if (start(command, &pid, &fd, e) < 0)
		return e->code;
	r = read_output(fd, text, ret_len, cancel, e);
	if (r == 0)
		r = await_end(pid, &status, cancel, e);
	if (r < 0) {
		kill(-pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	if (r == 0 && (!WIFEXITED(status) || WEXITSTATUS(status)))
		r = err_set(e, ERR_REFUSED, "it failed (%s %d)", WIFEXITED(status) ? "exit" : "signal",
			    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	return r;
}

int s3_creds_process(const char *command, struct cancel *cancel, struct s3_creds *ret, struct err *e)
{
	char *text = sodium_malloc(OUTPUT_MAX_BYTES);
	size_t len = 0;
	int r;

	if (!text)
		return err_set(e, ERR_NOMEM, "credential_process");
	r = run(command, text, &len, cancel, e);
	if (r == 0)
		r = s3_creds_json(text, len, ret, e);
	sodium_free(text);
	return r < 0 ? err_ctx(e, "credential_process") : 0;	/* the command may have secrets in it: not shown */
}
