/* s3.c - the fixture server as a child process. */
#include "tests/test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/num.h"
#include "tests/support/s3.h"

struct test_s3 {
	pid_t pid;
	int in, port;		/* in: closed, it ends */
	bool tls;
};

struct test_s3 *test_s3_new(const char *cert, const char *key)
{
	struct test_s3 *t = calloc(1, sizeof(*t));
	const char *top = getenv("TOP");
	int in[2], out[2];
	char line[32] = "", script[4096];
	uint64_t port;

	assert_non_null(t);
	snprintf(script, sizeof(script), "%s/tests/s3/fixture.py", top ? top : ".");
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	t->pid = fork();
	assert_true(t->pid >= 0);
	if (t->pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execlp("python3", "python3", script, cert ? "--tls" : NULL, cert, key, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	t->in = in[1];
	t->tls = cert != NULL;
	for (size_t n = 0; n < sizeof(line) - 1 && read(out[0], line + n, 1) == 1 && line[n] != '\n'; n++)
		;
	close(out[0]);
	line[strcspn(line, "\n")] = '\0';
	if (!parse_u64(line, 1, 65535, &port))
		fail_msg("%s does not start", script);
	t->port = (int)port;
	return t;
}

void test_s3_free(struct test_s3 *t)
{
	if (!t)
		return;
	close(t->in);
	waitpid(t->pid, NULL, 0);
	free(t);
}

int test_s3_port(const struct test_s3 *t)
{
	return t->port;
}

char *test_s3_location(const struct test_s3 *t, const char *tail)
{
	char *p = NULL;

	assert_true(asprintf(&p, "s3:http%s://%s:%d/bucket/%s", t->tls ? "s" : "", t->tls ? "localhost" : "127.0.0.1", t->port,
			     tail) > 0);
	return p;
}

char *test_s3_tell(const struct test_s3 *t, const char *what, const char *json)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)t->port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t len = 0, cap = 4 << 20;
	char *reply = malloc(cap), *body;
	ssize_t n;

	assert_non_null(reply);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_true(dprintf(fd, "POST /_fixture/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", what,
			    strlen(json), json) > 0);
	while (len < cap - 1 && (n = read(fd, reply + len, cap - 1 - len)) > 0)
		len += (size_t)n;
	reply[len] = '\0';
	close(fd);
	assert_true(strncmp(reply, "HTTP/1.1 200", 12) == 0);
	body = strstr(reply, "\r\n\r\n");
	assert_non_null(body);
	memmove(reply, body + 4, strlen(body + 4) + 1);
	return reply;
}

void test_s3_clear(const struct test_s3 *t)
{
	free(test_s3_tell(t, "clear", ""));
	free(test_s3_tell(t, "set", "{\"skew\":0,\"region\":\"us-east-1\",\"conditional\":\"yes\",\"parallel\":0,\"page\":1000,"
				    "\"lifetime\":3600,\"checksums\":true}"));
	free(test_s3_tell(t, "log", ""));
}

int test_s3_count(const struct test_s3 *t, const char *text)
{
	CLEANUP(free_ptr) char *log = NULL;
	int n = 0;
	char *rest;

	log = test_s3_tell(t, "peek", "");
	for (rest = log; (rest = strstr(rest, text)) != NULL; rest += strlen(text))
		n++;
	return n;
}

void test_s3_environment(void)
{
	static const char *const gone[] = {
		"AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
		"AWS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ENDPOINT_URL_STS", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
		"http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY",
	};

	for (size_t i = 0; i < sizeof(gone) / sizeof(*gone); i++)
		unsetenv(gone[i]);
	setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials", 1);
	setenv("AWS_CONFIG_FILE", "/nonexistent/config", 1);
	setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
	setenv("AWS_ACCESS_KEY_ID", TEST_S3_ACCESS, 1);
	setenv("AWS_SECRET_ACCESS_KEY", TEST_S3_SECRET, 1);
}
