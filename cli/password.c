/* password.c - secrets from a file, a command or the terminal, in locked memory. */
#include "cli/password.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/text.h"
#include "cli/msg.h"

extern char **environ;

/* Bytes as they come in: locked memory, wiped by typed_done. */
struct typed {
	uint8_t *p;	/* NUL after len bytes */
	size_t len;
};

static void typed_done(struct typed *s)
{
	sodium_free(s->p);	/* wipes; NULL is fine */
	*s = (struct typed){ 0 };
}

static int typed_alloc(size_t max, struct typed *ret, struct err *e)
{
	uint8_t *p = sodium_malloc(max + 1);

	if (!p)
		return err_set(e, ERR_NOMEM, "no memory for a secret (see ulimit -l)");
	memset(p, 0, max + 1);
	*ret = (struct typed){ .p = p };
	return 0;
}

/* Reads to the end of fd, at most max bytes, without a buffer that would keep a copy. */
static int read_typed(int fd, const char *from, size_t max, struct typed *ret, struct err *e)
{
	CLEANUP(typed_done) struct typed s = { 0 };

	if (typed_alloc(max + 1, &s, e) < 0)
		return e->code;
	for (;;) {
		ssize_t n = read(fd, s.p + s.len, max + 1 - s.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "%s", from);
		if (n == 0)
			break;
		s.len += (size_t)n;
		if (s.len > max)
			return err_set(e, ERR_INVALID, "%s: more than %zu bytes", from, max);
	}
	*ret = s;
	s = (struct typed){ 0 };
	return 0;
}

/* The passphrase is the first line (what password managers print goes on behind it); wipes the rest. */
static int check_line(struct typed *s, const char *from, struct err *e)
{
	uint8_t *end = memchr(s->p, '\n', s->len);
	size_t len = end ? (size_t)(end - s->p) : s->len;

	if (len && s->p[len - 1] == '\r')
		len--;
	sodium_memzero(s->p + len, s->len - len);
	s->len = len;
	if (len == 0)
		return err_set(e, ERR_INVALID, "%s: the passphrase is empty", from);
	if (memchr(s->p, 0, len))
		return err_set(e, ERR_INVALID, "%s: a passphrase is text, this has a zero byte", from);
	return 0;
}

static int read_file(const struct cli *c, const char *path, const char *what, struct typed *ret, struct err *e)
{
	CLEANUP(close_fd) int fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC));
	struct stat st;

	if (fd < 0)
		return err_sys(e, "%s %s", what, path);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & S_IROTH))
		msg_warn(c, "%s %s: everybody may read it (chmod 600 %s)", what, path, path);
	return read_typed(fd, path, PASSWORD_MAX_BYTES, ret, e) < 0 ? err_ctx(e, "%s", what) : 0;
}

int password_read_image_secret(const struct cli *c, const char *path, uint8_t **ret, size_t *ret_len, struct err *e)
{
	struct typed s = { 0 };

	if (read_file(c, path, "image secret", &s, e) < 0)
		return e->code;
	if (!s.len) {
		typed_done(&s);
		return err_set(e, ERR_INVALID, "image secret %s: it is empty", path);
	}
	*ret = s.p;
	*ret_len = s.len;
	return 0;
}

static int from_file(const struct cli *c, const char *path, struct typed *ret, struct err *e)
{
	CLEANUP(typed_done) struct typed s = { 0 };

	if (read_file(c, path, "password file", &s, e) < 0)
		return e->code;
	if (check_line(&s, path, e) < 0)
		return err_ctx(e, "password file");
	*ret = s;
	s = (struct typed){ 0 };
	return 0;
}

/* Starts `sh -c command` with its stdout in a pipe; *ret_fd is the end to read. */
static int spawn_shell(const char *command, pid_t *ret_pid, int *ret_fd, struct err *e)
{
	char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, NULL, NULL };
	CLEANUP(free_ptr) char *copy = text_printf(e, "%s", command);
	posix_spawn_file_actions_t fa;
	int p[2], r;

	if (!copy)
		return e->code;
	argv[2] = copy;
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, p[1], STDOUT_FILENO);
	r = posix_spawn(ret_pid, "/bin/sh", &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(p[1]);
	if (r) {
		close(p[0]);
		errno = r;
		return err_sys(e, "/bin/sh");
	}
	*ret_fd = p[0];
	return 0;
}

static int wait_command(pid_t pid, struct err *e)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(e, "wait");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status))
		return err_set(e, ERR_INVALID, "it exited with %d", WEXITSTATUS(status));
	return err_set(e, ERR_INVALID, "it was ended by signal %d", WTERMSIG(status));
}

static int from_command(const char *command, struct typed *ret, struct err *e)
{
	static const char from[] = "KEDGE_PASSWORD_COMMAND";
	CLEANUP(typed_done) struct typed s = { 0 };
	CLEANUP(close_fd) int fd = -1;
	pid_t pid;
	int r;

	if (spawn_shell(command, &pid, &fd, e) < 0)
		return err_ctx(e, "%s", from);
	r = read_typed(fd, "its output", PASSWORD_MAX_BYTES, &s, e);
	close_fd(&fd);
	if (r < 0) {
		struct err unused = ERR_INIT;

		(void)wait_command(pid, &unused);	/* the read's failure says more */
		return err_ctx(e, "%s", from);
	}
	if (wait_command(pid, e) < 0 || check_line(&s, "its output", e) < 0)
		return err_ctx(e, "%s", from);
	*ret = s;
	s = (struct typed){ 0 };
	return 0;
}

/* Waits for input or a signal, whichever comes first: signals are blocked but for the wait itself, so that none slips
 * in between the look at the flag and the wait. */
static int wait_tty(struct cli *c, int fd, struct err *e)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	sigset_t stops, before;
	int r = 0;

	sigemptyset(&stops);
	sigaddset(&stops, SIGINT);
	sigaddset(&stops, SIGTERM);
	sigaddset(&stops, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &stops, &before);
	while (cancel_check(&c->cancel, e) == 0) {
		r = ppoll(&p, 1, NULL, &before);
		if (r >= 0 || errno != EINTR)
			break;
	}
	if (r < 0 && !e->code)
		(void)err_sys(e, "terminal");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return e->code;
}

/* One line from the terminal into s, byte by byte in locked memory. */
static int read_tty_line(struct cli *c, int fd, struct typed *s, struct err *e)
{
	for (;;) {
		uint8_t *at = s->p + s->len;
		ssize_t n;

		if (wait_tty(c, fd, e) < 0)
			return e->code;
		n = read(fd, at, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "terminal");
		if (n == 0 || *at == '\n') {
			*at = 0;
			return 0;
		}
		if (++s->len > PASSWORD_MAX_BYTES)
			return err_set(e, ERR_INVALID, "a passphrase has at most %d bytes", PASSWORD_MAX_BYTES);
	}
}

static int ask(struct cli *c, int fd, const char *prompt, struct typed *ret, struct err *e)
{
	CLEANUP(typed_done) struct typed s = { 0 };
	struct termios before, quiet;
	char shown[256];
	int r;

	if (typed_alloc(PASSWORD_MAX_BYTES + 1, &s, e) < 0)
		return e->code;
	if (tcgetattr(fd, &before) < 0)
		return err_sys(e, "terminal");
	quiet = before;
	quiet.c_lflag &= ~(tcflag_t)ECHO;
	quiet.c_lflag |= ICANON | ISIG;
	if (tcsetattr(fd, TCSAFLUSH, &quiet) < 0)	/* first: it drops what was typed before the question */
		return err_sys(e, "terminal");
	dprintf(fd, "%s: ", text_quote(prompt, shown, sizeof(shown)));
	r = read_tty_line(c, fd, &s, e);
	tcsetattr(fd, TCSAFLUSH, &before);
	dprintf(fd, "\n");
	if (r < 0 || check_line(&s, "terminal", e) < 0)
		return e->code;
	*ret = s;
	s = (struct typed){ 0 };
	return 0;
}

static int no_terminal(struct cli *c, const char *hint, struct err *e)
{
	(void)err_set(e, ERR_INVALID, "no passphrase given and no terminal to ask on");
	(void)err_hint(e, "%s", hint);
	return cli_exit(c, EXIT_USAGE, e);
}

static int from_terminal(struct cli *c, const char *prompt, bool twice, const char *hint, struct typed *ret,
			 struct err *e)
{
	CLEANUP(typed_done) struct typed first = { 0 }, again = { 0 };
	CLEANUP(close_fd) int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (fd < 0 || !isatty(fd))
		return no_terminal(c, hint, e);
	if (ask(c, fd, prompt, &first, e) < 0)
		return e->code;
	if (twice && ask(c, fd, "the same again", &again, e) < 0)
		return e->code;
	if (twice && (first.len != again.len || sodium_memcmp(first.p, again.p, first.len) != 0))
		return err_set(e, ERR_INVALID, "the two passphrases differ");
	*ret = first;
	first = (struct typed){ 0 };
	return 0;
}

static int get(struct cli *c, const char *prompt, bool is_new, struct typed *ret, struct err *e)
{
	const char *command = getenv("KEDGE_PASSWORD_COMMAND");

	if (c->g.password_file)		/* the option, or KEDGE_PASSWORD_FILE */
		return from_file(c, c->g.password_file, ret, e);
	if (command && *command)
		return from_command(command, ret, e);
	return from_terminal(c, prompt, is_new,
			     "give one by --password-file FILE, KEDGE_PASSWORD_FILE=FILE, "
			     "KEDGE_PASSWORD_COMMAND='COMMAND' or "
			     "--key-file FILE",
			     ret, e);
}

int password_get(struct cli *c, const char *prompt, struct secret **ret, struct err *e)
{
	CLEANUP(typed_done) struct typed s = { 0 };

	if (get(c, prompt, false, &s, e) < 0)
		return e->code;
	return secret_new(SECRET_PASSPHRASE, s.p, s.len, ret, e);
}

int password_get_new(struct cli *c, const char *prompt, const char *file, struct secret **ret, struct err *e)
{
	CLEANUP(typed_done) struct typed s = { 0 };

	if ((file ? from_file(c, file, &s, e) : get(c, prompt, true, &s, e)) < 0)
		return e->code;
	return secret_new(SECRET_PASSPHRASE, s.p, s.len, ret, e);
}

int password_ask_new(struct cli *c, const char *prompt, struct secret **ret, struct err *e)
{
	CLEANUP(typed_done) struct typed s = { 0 };

	if (from_terminal(c, prompt, true, "give the new one by --new-password-file FILE or --new-key-file FILE", &s,
			  e) < 0)
		return e->code;
	return secret_new(SECRET_PASSPHRASE, s.p, s.len, ret, e);
}

int password_read_key_file(const char *path, struct secret **ret, struct err *e)
{
	CLEANUP(close_fd) int fd = FS_RETRY(open(path, O_RDONLY | O_CLOEXEC));
	CLEANUP(typed_done) struct typed s = { 0 };

	if (fd < 0)
		return err_sys(e, "key file %s", path);
	if (read_typed(fd, path, KEY_FILE_MAX_BYTES, &s, e) < 0)
		return err_ctx(e, "key file");
	if (secret_new(SECRET_KEYFILE, s.p, s.len, ret, e) < 0)
		return err_ctx(e, "key file %s", path);
	return 0;
}
