/* creds_net.c - credentials from STS, from a container's endpoint, from an instance's metadata service. */
#include <curl/curl.h>
#include <sodium.h>
#include <string.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "transport/s3/creds_internal.h"
#include "transport/s3/http.h"
#include "transport/s3/url.h"
#include "transport/s3/xml.h"

#define REPLY_MAX_BYTES ((size_t)64 << 10)
#define TOKEN_FILE_MAX_BYTES ((size_t)32 << 10)
#define METADATA_CONNECT_MS 1000u	/* it is next door, or not there */
#define METADATA_SECONDS 10u
#define TRIES 3

static const char *env_of(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

/* One exchange; the reply is in c->text.  The caller calls call_done. */
static void call_init(struct s3_http_call *c, const char *method, const char *url)
{
	*c = (struct s3_http_call){ .method = method, .url = url };
	buf_init(&c->text, REPLY_MAX_BYTES);
}

static void call_done(struct s3_http_call *c)
{
	if (c->text.p)
		sodium_memzero(c->text.p, c->text.cap);
	buf_done(&c->text);
	s3_http_headers_free(c->headers);
	c->headers = NULL;
}

/* What may pass is tried again, with a short rest. */
static int exchange(struct s3_http *http, struct s3_http_call *c, struct cancel *cancel, struct err *e)
{
	for (int i = 0;; i++) {
		if (s3_http_do(http, c, cancel, e) < 0)
			return e->code;
		if (c->curl_code == CURLE_OK && c->status != 429 && c->status < 500)
			return 0;
		if (i + 1 == TRIES)
			break;
		(void)s3_http_wait(http, NULL, 0, 0.2 * (i + 1));
	}
	if (c->curl_code != CURLE_OK)
		return s3_http_error(c, e);
	return err_set(e, ERR_TRANSIENT, "HTTP status %ld", c->status);
}

/* --- STS --------------------------------------------------------------------------------------------------------- */

static int on_sts(void *opaque, const char *parent, const char *name, char *text, struct err *e)
{
	struct s3_creds *c = opaque;
	size_t n = strlen(text);

	if (strcmp(parent, "Credentials"))
		return 0;
	if (!strcmp(name, "AccessKeyId"))
		return s3_secret_copy(c->access, sizeof(c->access), text, n, name, e);
	if (!strcmp(name, "SecretAccessKey"))
		return s3_secret_copy(c->secret, sizeof(c->secret), text, n, name, e);
	if (!strcmp(name, "SessionToken"))
		return s3_secret_copy(c->token, sizeof(c->token), text, n, name, e);
	if (!strcmp(name, "Expiration") && !s3_time_iso(text, &c->expires_ns))
		return err_set(e, ERR_CORRUPT, "Expiration is no time");
	return 0;
}

static int form_add(struct buf *b, const char *name, const char *value, struct err *e)
{
	if (buf_add(b, name, strlen(name), e) < 0)
		return e->code;
	return s3_encode(b, value, false, e);
}

static int sts_form(const struct s3_web_identity *w, struct buf *b, struct err *e)
{
	CLEANUP(free_ptr) uint8_t *token = NULL;
	size_t len;
	int r;

	if (fs_read_file(w->token_file, TOKEN_FILE_MAX_BYTES, &token, &len, e) < 0)
		return err_ctx(e, "%s", w->token_file);
	len = strcspn((char *)token, "\r\n");
	token[len] = '\0';
	r = form_add(b, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=", w->role_arn, e);
	if (r == 0)
		r = form_add(b, "&RoleSessionName=", w->session_name ? w->session_name : "kedge", e);
	if (r == 0)
		r = form_add(b, "&WebIdentityToken=", (char *)token, e);
	sodium_memzero(token, len);
	return r;
}

static int sts_reply(struct s3_http_call *c, struct s3_creds *ret, struct err *e)
{
	if (c->status != 200) {
		struct s3_xml_error x;

		s3_xml_error(c->text.p, c->text.len, &x);
		return err_set(e, ERR_REFUSED, "STS refuses: HTTP status %ld %s", c->status, x.code);
	}
	if (s3_xml_parse(c->text.p, c->text.len, on_sts, ret, e) < 0)
		return e->code;
	if (!*ret->access || !*ret->secret || !*ret->token)
		return err_set(e, ERR_CORRUPT, "STS answers without credentials");
	return 0;
}

int s3_creds_web_identity(struct s3_http *http, const struct s3_web_identity *w, struct cancel *cancel,
			  struct s3_creds *ret, struct err *e)
{
	const char *given = env_of("AWS_ENDPOINT_URL_STS");
	CLEANUP(free_ptr) char *url = given ? text_printf(e, "%s", given)
					    : text_printf(e, "https://sts.%s.amazonaws.com%s/", w->region,
							  strncmp(w->region, "cn-", 3) ? "" : ".cn");
	struct s3_http_call c;
	struct buf form;
	int r;

	if (!url)
		return e->code;
	call_init(&c, "POST", url);
	buf_init(&form, 4 * TOKEN_FILE_MAX_BYTES);
	r = sts_form(w, &form, e);
	if (r == 0)
		r = s3_http_header(&c.headers, "Content-Type", "application/x-www-form-urlencoded", e);
	c.body = form.p;
	c.body_len = form.len;
	if (r == 0)
		r = exchange(http, &c, cancel, e);
	if (r == 0)
		r = sts_reply(&c, ret, e);
	if (form.p)
		sodium_memzero(form.p, form.cap);
	buf_done(&form);
	call_done(&c);
	return r < 0 ? err_ctx(e, "web identity") : 0;
}

/* --- a container's endpoint (ECS, EKS) --------------------------------------------------------------------------- */

/* Without TLS only where nobody listens in: this host, and the link-local addresses of AWS. */
static bool container_url_ok(const char *url)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost", "[::1]", "169.254.170.2", "169.254.170.23",
					     "[fd00:ec2::23]" };

	if (strncmp(url, "https://", 8) == 0)
		return true;
	if (strncmp(url, "http://", 7))
		return false;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
		size_t n = strlen(hosts[i]);

		if (strncmp(url + 7, hosts[i], n) == 0 && strchr("/:", url[7 + n]) && !strchr(url, '@'))
			return true;
	}
	return false;
}

static int container_token(struct s3_http_call *c, struct err *e)
{
	const char *file = env_of("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
		   *given = env_of("AWS_CONTAINER_AUTHORIZATION_TOKEN");
	CLEANUP(free_ptr) uint8_t *token = NULL;
	size_t len;
	int r;

	if (!file)
		return given ? s3_http_header(&c->headers, "Authorization", given, e) : 0;
	if (fs_read_file(file, TOKEN_FILE_MAX_BYTES, &token, &len, e) < 0)
		return err_ctx(e, "%s", file);
	token[strcspn((char *)token, "\r\n")] = '\0';
	r = s3_http_header(&c->headers, "Authorization", (char *)token, e);
	sodium_memzero(token, len);
	return r;
}

int s3_creds_container(struct s3_http *http, struct cancel *cancel, struct s3_creds *ret, struct err *e)
{
	const char *relative = env_of("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
		   *full = env_of("AWS_CONTAINER_CREDENTIALS_FULL_URI");
	CLEANUP(free_ptr) char *url = NULL;
	struct s3_http_call c;
	int r;

	if (!relative && !full)
		return err_set(e, ERR_NOTFOUND, "no container endpoint in the environment");
	url = relative ? text_printf(e, "http://169.254.170.2%s", relative) : text_printf(e, "%s", full);
	if (!url)
		return e->code;
	if ((relative && *relative != '/') || !container_url_ok(url))
		return err_set(e, ERR_INVALID, "the container's endpoint is neither on this host nor https");
	call_init(&c, "GET", url);
	c.direct = true;
	c.connect_ms = METADATA_CONNECT_MS;
	c.total_s = METADATA_SECONDS;
	r = container_token(&c, e);
	if (r == 0)
		r = exchange(http, &c, cancel, e);
	if (r == 0 && c.status != 200)
		r = err_set(e, ERR_REFUSED, "it refuses: HTTP status %ld", c.status);
	if (r == 0)
		r = s3_creds_json((char *)c.text.p, c.text.len, ret, e);
	call_done(&c);
	return r < 0 ? err_ctx(e, "container endpoint") : 0;
}

/* --- an instance's metadata service, version 2 ------------------------------------------------------------------- */

struct imds {
	struct s3_http *http;
	struct cancel *cancel;
	char *base;
	char token[256];
};

/* The reply's text is left in *c, NUL-terminated; the caller calls call_done. */
static int imds_ask(const struct imds *m, struct s3_http_call *c, const char *method, const char *path, struct err *e)
{
	CLEANUP(free_ptr) char *url = text_printf(e, "%s%s", m->base, path);
	bool is_put = strcmp(method, "PUT") == 0;
	int r;

	call_init(c, method, url);
	if (!url)
		return e->code;
	c->direct = true;
	c->connect_ms = METADATA_CONNECT_MS;
	c->total_s = METADATA_SECONDS;
	r = is_put ? s3_http_header(&c->headers, "X-aws-ec2-metadata-token-ttl-seconds", "21600", e)
		   : s3_http_header(&c->headers, "X-aws-ec2-metadata-token", m->token, e);
	if (r == 0)
		r = exchange(m->http, c, m->cancel, e);
	c->url = NULL;
	if (r == 0)
		r = buf_u8(&c->text, 0, e);
	return r;
}

static int imds_token(struct imds *m, struct err *e)
{
	struct s3_http_call c;
	int r = imds_ask(m, &c, "PUT", "/latest/api/token", e);

	if (r == ERR_TRANSIENT && c.status == 0)
		r = err_set(e, ERR_NOTFOUND, "there is no metadata service here");
	else if (r == 0 && (c.status != 200 || c.text.len < 2))
		r = err_set(e, ERR_NOTFOUND, "the metadata service gives no token (HTTP status %ld)", c.status);
	else if (r == 0)
		r = s3_secret_copy(m->token, sizeof(m->token), (char *)c.text.p, c.text.len - 1, "its token", e);
	call_done(&c);
	return r;
}

static int imds_role(struct imds *m, char *role, size_t size, struct err *e)
{
	static const char role_chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+=,.@_-";
	struct s3_http_call c;
	int r = imds_ask(m, &c, "GET", "/latest/meta-data/iam/security-credentials/", e);

	if (r == 0 && c.status != 200)
		r = err_set(e, ERR_NOTFOUND, "this instance has no role");
	if (r == 0)
		r = s3_secret_copy(role, size, (char *)c.text.p, strcspn((char *)c.text.p, "\r\n"), "the role's name",
				   e);
	if (r == 0 && (!*role || strspn(role, role_chars) != strlen(role)))
		r = err_set(e, ERR_CORRUPT, "the role's name is none");
	call_done(&c);
	return r;
}

static int imds_creds(struct imds *m, struct s3_creds *ret, struct err *e)
{
	char role[128], path[256];
	struct s3_http_call c;
	int r;

	if (imds_token(m, e) < 0 || imds_role(m, role, sizeof(role), e) < 0)
		return e->code;
	snprintf(path, sizeof(path), "/latest/meta-data/iam/security-credentials/%s", role);
	r = imds_ask(m, &c, "GET", path, e);
	if (r == 0 && c.status != 200)
		r = err_set(e, ERR_REFUSED, "HTTP status %ld", c.status);
	if (r == 0)
		r = s3_creds_json((char *)c.text.p, c.text.len - 1, ret, e);
	call_done(&c);
	return r;
}

int s3_creds_instance(struct s3_http *http, struct cancel *cancel, struct s3_creds *ret, struct err *e)
{
	const char *off = env_of("AWS_EC2_METADATA_DISABLED"), *given = env_of("AWS_EC2_METADATA_SERVICE_ENDPOINT");
	struct imds m = { .http = http, .cancel = cancel };
	size_t n;
	int r;

	if (off && strcasecmp(off, "true") == 0)
		return err_set(e, ERR_NOTFOUND, "switched off");
	given = given ? given : "http://169.254.169.254";
	n = strlen(given);
	m.base = text_printf(e, "%.*s", (int)(n && given[n - 1] == '/' ? n - 1 : n), given);
	if (!m.base)
		return e->code;
	r = imds_creds(&m, ret, e);
	free(m.base);
	sodium_memzero(m.token, sizeof(m.token));
	return r < 0 ? err_ctx(e, "instance metadata") : 0;
}
