/*
 * http.c - one thread, one multi handle.  Callers queue calls and wait on one condition; only the thread touches
 * libcurl's handles of calls under way, so no lock is held while bytes move.
 */
#include "transport/s3/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/text.h"
#include "base/workers.h"

#define HEADERS_MAX_BYTES ((size_t)256 << 10)
#define POLL_MS 1000
#define SLOW_BYTES_PER_S ((size_t)16 << 10)
#define KEPT_CONNECTIONS 24L
#define RECEIVE_BYTES (256L << 10)
#define SEND_BYTES (256L << 10)

struct s3_http {
	CURLM *multi;
	char *ca_file;
	struct s3_limits limits;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;		/* guards what follows, and state and abort of calls */
	pthread_cond_t done;
	struct s3_http_call *queued, *running;
	bool stop;
};

/* --- one call, in the thread ------------------------------------------------------------------------------------- */

static size_t on_send(char *to, size_t size, size_t n, void *opaque)
{
	struct s3_http_call *c = opaque;
	size_t len = min_size(size * n, c->body_len - c->sent);

	if (len)
		memcpy(to, (const char *)c->body + c->sent, len);
	c->sent += len;
	c->sent_all = c->sent == c->body_len;
	return len;
}

/* libcurl sends again when a kept connection turned out to be dead. */
static int on_seek(void *opaque, curl_off_t off, int origin)
{
	struct s3_http_call *c = opaque;

	if (origin != SEEK_SET || off < 0 || (uint64_t)off > c->body_len)
		return CURL_SEEKFUNC_FAIL;
	c->sent = (size_t)off;
	return CURL_SEEKFUNC_OK;
}

static size_t on_body(char *p, size_t size, size_t n, void *opaque)
{
	struct s3_http_call *c = opaque;
	struct err unheard = ERR_INIT;
	size_t len = size * n;
	long status = 0;

	curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	if (c->into && status >= 200 && status < 300) {
		if (len > c->into_len - c->got) {
			c->too_long = true;
			return 0;
		}
		memcpy((char *)c->into + c->got, p, len);
		c->got += len;
		return len;
	}
	if (buf_add(&c->text, p, len, &unheard) < 0) {
		c->too_long = len > c->text.max - c->text.len;
		return 0;
	}
	return len;
}

static void take_header(const char *p, size_t len, const char *name, char *to, size_t size)
{
	size_t n = strlen(name);

	if (len <= n || p[n] != ':' || strncasecmp(p, name, n))
		return;
	p += n + 1;
	len -= n + 1;
	while (len && (*p == ' ' || *p == '\t'))
		p++, len--;
	while (len && strchr(" \t\r\n", p[len - 1]))
		len--;
	snprintf(to, size, "%.*s", (int)min_size(len, size - 1), p);
}

static size_t on_header(char *p, size_t size, size_t n, void *opaque)
{
	struct s3_http_call *c = opaque;
	struct s3_reply_headers *h = &c->h;
	size_t len = size * n;

	c->header_bytes += len;
	if (c->header_bytes > HEADERS_MAX_BYTES) {
		c->too_long = true;
		return 0;
	}
	if (len > 5 && memcmp(p, "HTTP/", 5) == 0) {	/* what came before was "100 Continue" */
		*h = (struct s3_reply_headers){ 0 };
		return len;
	}
	take_header(p, len, "date", h->date, sizeof(h->date));
	take_header(p, len, "last-modified", h->last_modified, sizeof(h->last_modified));
	take_header(p, len, "etag", h->etag, sizeof(h->etag));
	take_header(p, len, "retry-after", h->retry_after, sizeof(h->retry_after));
	take_header(p, len, "x-amz-bucket-region", h->region, sizeof(h->region));
	take_header(p, len, "content-range", h->content_range, sizeof(h->content_range));
	take_header(p, len, "x-amz-meta-kedge-put", h->nonce, sizeof(h->nonce));
	take_header(p, len, "x-amz-request-id", h->request_id, sizeof(h->request_id));
	take_header(p, len, "x-amz-id-2", h->request_id, sizeof(h->request_id));
	take_header(p, len, "location", h->location, sizeof(h->location));
	return len;
}

/* libcurl leaves its sockets open across exec: a credential_process has no business with them. */
static curl_socket_t on_socket(void *opaque, curlsocktype purpose, struct curl_sockaddr *a)
{
	(void)opaque, (void)purpose;
	return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static void set_request(CURL *z, struct s3_http_call *c)
{
	curl_easy_setopt(z, CURLOPT_URL, c->url);
	curl_easy_setopt(z, CURLOPT_PATH_AS_IS, 1L);	/* what was signed is what is sent */
	curl_easy_setopt(z, CURLOPT_HTTPHEADER, c->headers);
	if (strcmp(c->method, "HEAD") == 0) {
		curl_easy_setopt(z, CURLOPT_NOBODY, 1L);
	} else if (strcmp(c->method, "PUT") == 0) {
		curl_easy_setopt(z, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(z, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->body_len);
	} else if (strcmp(c->method, "POST") == 0) {
		curl_easy_setopt(z, CURLOPT_POST, 1L);
		curl_easy_setopt(z, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body_len);
	} else if (strcmp(c->method, "GET") != 0) {
		curl_easy_setopt(z, CURLOPT_CUSTOMREQUEST, c->method);
	}
	curl_easy_setopt(z, CURLOPT_READFUNCTION, on_send);
	curl_easy_setopt(z, CURLOPT_READDATA, c);
	curl_easy_setopt(z, CURLOPT_SEEKFUNCTION, on_seek);
	curl_easy_setopt(z, CURLOPT_SEEKDATA, c);
	curl_easy_setopt(z, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BYTES);
}

static void set_reply(CURL *z, struct s3_http_call *c)
{
	curl_easy_setopt(z, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(z, CURLOPT_WRITEDATA, c);
	curl_easy_setopt(z, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(z, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(z, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
	curl_easy_setopt(z, CURLOPT_ERRORBUFFER, c->curl_text);
	curl_easy_setopt(z, CURLOPT_PRIVATE, c);
}

static void set_connection(struct s3_http *h, CURL *z, const struct s3_http_call *c)
{
	const struct s3_limits *l = &h->limits;
	size_t bytes = c->body_len + c->into_len;

	curl_easy_setopt(z, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(z, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(z, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(z, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_2TLS);
	curl_easy_setopt(z, CURLOPT_HTTP09_ALLOWED, 0L);
	curl_easy_setopt(z, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(z, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(z, CURLOPT_OPENSOCKETFUNCTION, on_socket);
	curl_easy_setopt(z, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(z, CURLOPT_CONNECTTIMEOUT_MS, (long)(c->connect_ms ? c->connect_ms : l->connect_ms));
	curl_easy_setopt(z, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(z, CURLOPT_LOW_SPEED_TIME, (long)l->stall_s);
	curl_easy_setopt(z, CURLOPT_TIMEOUT, (long)((c->total_s ? c->total_s : l->total_s) + bytes / SLOW_BYTES_PER_S));
	curl_easy_setopt(z, CURLOPT_USERAGENT, "kedge/" KEDGE_VERSION);
	if (c->direct)
		curl_easy_setopt(z, CURLOPT_NOPROXY, "*");
	if (h->ca_file)
		curl_easy_setopt(z, CURLOPT_CAINFO, h->ca_file);
}

static void finish(struct s3_http *h, struct s3_http_call *c, CURLcode code)
{
	curl_off_t length = -1;

	if (c->easy) {
		curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &c->status);
		curl_easy_getinfo(c->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
		curl_multi_remove_handle(h->multi, c->easy);
		curl_easy_cleanup(c->easy);
		c->easy = NULL;
	}
	c->length = length;
	c->curl_code = (int)code;
	pthread_mutex_lock(&h->lock);
	for (struct s3_http_call **p = &h->running; *p; p = &(*p)->next) {
		if (*p == c) {
			*p = c->next;
			break;
		}
	}
	c->state = S3_HTTP_DONE;
	pthread_cond_broadcast(&h->done);
	pthread_mutex_unlock(&h->lock);
}

static void begin(struct s3_http *h, struct s3_http_call *c)
{
	CURL *z = curl_easy_init();

	c->easy = z;
	if (!z) {
		finish(h, c, CURLE_OUT_OF_MEMORY);
		return;
	}
	set_request(z, c);
	set_reply(z, c);
	set_connection(h, z, c);
	if (curl_multi_add_handle(h->multi, z) != CURLM_OK)
		finish(h, c, CURLE_OUT_OF_MEMORY);
}

/* Moves what was queued to what runs; those to be ended come first.  False: stop. */
static bool take_queue(struct s3_http *h)
{
	struct s3_http_call *fresh, *gone = NULL, *next;
	bool stop;

	pthread_mutex_lock(&h->lock);
	fresh = h->queued;
	h->queued = NULL;
	stop = h->stop;
	for (struct s3_http_call *c = fresh; c; c = c->next)
		c->state = S3_HTTP_RUNNING;
	for (struct s3_http_call *c = h->running; c; c = c->next) {
		if (c->abort)
			gone = c;	/* one at a time: finish changes the list */
	}
	pthread_mutex_unlock(&h->lock);
	if (gone)
		finish(h, gone, CURLE_ABORTED_BY_CALLBACK);
	for (; fresh; fresh = next) {
		next = fresh->next;
		pthread_mutex_lock(&h->lock);
		fresh->next = h->running;
		h->running = fresh;
		pthread_mutex_unlock(&h->lock);
		begin(h, fresh);
	}
	if (gone)
		curl_multi_wakeup(h->multi);
	return !stop;
}

static void *http_thread(void *opaque)
{
	struct s3_http *h = opaque;
	int running, left;
	CURLMsg *m;

	while (take_queue(h)) {
		curl_multi_perform(h->multi, &running);
		while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
			struct s3_http_call *c = NULL;
			CURLcode code = m->data.result;

			if (m->msg != CURLMSG_DONE)
				continue;
			curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
			finish(h, c, code);
		}
		curl_multi_poll(h->multi, NULL, 0, POLL_MS, NULL);
	}
	return NULL;
}

/* --- the callers' side ------------------------------------------------------------------------------------------- */

static void set_limits(struct s3_limits *l)
{
	l->connect_ms = l->connect_ms ? l->connect_ms : 15000;
	l->stall_s = l->stall_s ? l->stall_s : 30;
	l->total_s = l->total_s ? l->total_s : 120;
	l->tries = l->tries ? l->tries : 15;
	l->retry_s = l->retry_s ? l->retry_s : 300;
}

static int start_thread(struct s3_http *h, struct err *e)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&h->thread, NULL, http_thread, h);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return workers_no_thread(e, r, "network");
	(void)pthread_setname_np(h->thread, "kedge-http");
	h->started = true;
	return 0;
}

int s3_http_new(const struct s3_http_opts *o, struct s3_http **ret, struct err *e)
{
	struct s3_http *h;
	pthread_condattr_t mono;

	/* counts, and is safe from any thread, since 7.84 */
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return err_set(e, ERR_NOMEM, "libcurl does not start");
	h = calloc(1, sizeof(*h));
	if (!h) {
		curl_global_cleanup();
		return err_set(e, ERR_NOMEM, "network");
	}
	pthread_mutex_init(&h->lock, NULL);
	pthread_condattr_init(&mono);
	pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
	pthread_cond_init(&h->done, &mono);
	pthread_condattr_destroy(&mono);
	h->limits = o->limits;
	set_limits(&h->limits);
	h->multi = curl_multi_init();
	if (o->ca_file)
		h->ca_file = text_printf(e, "%s", o->ca_file);
	if (!h->multi || (o->ca_file && !h->ca_file)) {
		s3_http_free(h);
		return err_set(e, ERR_NOMEM, "network");
	}
	curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, KEPT_CONNECTIONS);
	curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
	if (start_thread(h, e) < 0) {
		s3_http_free(h);
		return e->code;
	}
	*ret = h;
	return 0;
}

void s3_http_free(struct s3_http *h)
{
	if (!h)
		return;
	if (h->started) {
		pthread_mutex_lock(&h->lock);
		h->stop = true;
		pthread_mutex_unlock(&h->lock);
		curl_multi_wakeup(h->multi);
		pthread_join(h->thread, NULL);
	}
	if (h->multi)
		curl_multi_cleanup(h->multi);
	pthread_cond_destroy(&h->done);
	pthread_mutex_destroy(&h->lock);
	free(h->ca_file);
	free(h);
	curl_global_cleanup();
}

const struct s3_limits *s3_http_limits(const struct s3_http *h)
{
	return &h->limits;
}

void s3_http_start(struct s3_http *h, struct s3_http_call *c)
{
	c->http = h;
	c->easy = NULL;
	c->sent = c->got = c->header_bytes = 0;
	c->status = 0;
	c->length = -1;
	c->too_long = c->abort = false;
	c->sent_all = c->body_len == 0;
	c->curl_text[0] = '\0';
	c->h = (struct s3_reply_headers){ 0 };
	buf_clear(&c->text);
	pthread_mutex_lock(&h->lock);
	c->state = S3_HTTP_QUEUED;
	c->next = h->queued;
	h->queued = c;
	pthread_mutex_unlock(&h->lock);
	curl_multi_wakeup(h->multi);
}

static size_t count_done(struct s3_http_call *const *c, size_t n)
{
	size_t done = 0;

	for (size_t i = 0; i < n; i++)
		done += c[i]->state == S3_HTTP_DONE;
	return done;
}

size_t s3_http_wait(struct s3_http *h, struct s3_http_call *const *c, size_t n, double seconds)
{
	struct timespec until;
	size_t done;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)seconds;
	until.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&h->lock);
	while ((done = count_done(c, n)) == 0 && pthread_cond_timedwait(&h->done, &h->lock, &until) == 0)
		;
	pthread_mutex_unlock(&h->lock);
	return done;
}

bool s3_http_done(struct s3_http *h, struct s3_http_call *c)
{
	bool done;

	pthread_mutex_lock(&h->lock);
	done = c->state == S3_HTTP_DONE;
	pthread_mutex_unlock(&h->lock);
	return done;
}

void s3_http_abort(struct s3_http *h, struct s3_http_call *c)
{
	pthread_mutex_lock(&h->lock);
	c->abort = true;
	while (c->state == S3_HTTP_QUEUED || c->state == S3_HTTP_RUNNING) {
		pthread_mutex_unlock(&h->lock);
		curl_multi_wakeup(h->multi);
		(void)s3_http_wait(h, &c, 1, 0.1);
		pthread_mutex_lock(&h->lock);
	}
	pthread_mutex_unlock(&h->lock);
}

int s3_http_do(struct s3_http *h, struct s3_http_call *c, struct cancel *cancel, struct err *e)
{
	s3_http_start(h, c);
	while (s3_http_wait(h, &c, 1, 0.2) == 0) {
		if (cancel_check(cancel, e) < 0) {
			s3_http_abort(h, c);
			return e->code;
		}
	}
	return 0;
}

/* A proxy's address, which libcurl repeats, may have a password in it. */
static void hide_password(char *text)
{
	char *p = text;

	while ((p = strstr(p, "://"))) {
		size_t len = strcspn(p += 3, " '\"");
		char *at = memrchr(p, '@', len);

		if (at) {
			memset(p, '*', (size_t)(at - p));
			p = at;
		}
	}
}

int s3_http_error(const struct s3_http_call *c, struct err *e)
{
	char why[300];
	const char *text = c->curl_text[0] ? c->curl_text : curl_easy_strerror((CURLcode)c->curl_code);

	text_quote(text, why, sizeof(why));
	hide_password(why);
	if (c->too_long)
		return err_set(e, c->status >= 300 ? ERR_REFUSED : ERR_CORRUPT,
			       "the server sends more than was asked for");
	switch (c->curl_code) {
	case CURLE_OUT_OF_MEMORY:
		return err_set(e, ERR_NOMEM, "no memory for a request");
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
		err_set(e, ERR_REFUSED, "the server's certificate does not prove that it is the server: %s", why);
		return err_hint(e, "a private authority is given with --cacert FILE or AWS_CA_BUNDLE");
	case CURLE_SSL_CACERT_BADFILE:
		return err_set(e, ERR_INVALID, "the file of certificates: %s", why);
	case CURLE_WRITE_ERROR:
		return err_set(e, ERR_NOMEM, "no memory for a reply");
	case CURLE_OPERATION_TIMEDOUT:
		return err_set(e, ERR_TRANSIENT, "timed out: %s", why);
	default:
		return err_set(e, ERR_TRANSIENT, "%s", why);
	}
}

static int append(struct curl_slist **list, const char *line, struct err *e)
{
	struct curl_slist *more = curl_slist_append(*list, line);

	if (!more)
		return err_set(e, ERR_NOMEM, "headers of a request");
	*list = more;
	return 0;
}

int s3_http_header(struct curl_slist **list, const char *name, const char *value, struct err *e)
{
	CLEANUP(free_ptr) char *line = text_printf(e, "%s: %s", name, value);
	int r = line ? append(list, line, e) : e->code;

	if (line)
		sodium_memzero(line, strlen(line));	/* it may be a session token */
	return r;
}

int s3_http_no_expect(struct curl_slist **list, struct err *e)
{
	return append(list, "Expect:", e);
}

void s3_http_headers_free(struct curl_slist *list)
{
	for (struct curl_slist *l = list; l; l = l->next)
		sodium_memzero(l->data, strlen(l->data));
	curl_slist_free_all(list);
}
