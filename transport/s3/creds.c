/* creds.c - the chain of sources, and who may look at what it found. */
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "transport/s3/creds_internal.h"

#define EARLY_NS ((int64_t)300 * 1000000000)	/* fetched anew this long before they end */
#define LAST_NS ((int64_t)15 * 1000000000)	/* and not used any more from here */
#define RETRY_NS ((int64_t)30 * 1000000000)	/* a failed fetch is tried again after this, while the old ones hold */

enum source { ENVIRONMENT, WEB_IDENTITY, PROFILE, CONTAINER, INSTANCE, SOURCES, NONE_YET };

struct s3_keyring {
	struct s3_http *http;
	struct cancel *cancel;
	char *profile, *region;
	bool profile_given;		/* as an option: it alone counts */
	pthread_mutex_t lock;		/* guards what follows; never held while credentials are fetched */
	pthread_cond_t fetched;
	struct s3_creds *creds;		/* guarded memory; valid from generation 1 on */
	enum source source;
	uint64_t generation;
	int64_t again_ns;		/* not before */
	bool fetching, refused;
};

int s3_keyring_new(const struct s3_keyring_opts *o, struct s3_keyring **ret, struct err *e)
{
	struct s3_keyring *k = calloc(1, sizeof(*k));

	if (!k)
		return err_set(e, ERR_NOMEM, "credentials");
	k->http = o->http;
	k->cancel = o->cancel;
	k->source = NONE_YET;
	k->profile_given = o->profile && *o->profile;
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->fetched, NULL);
	k->creds = sodium_malloc(sizeof(*k->creds));
	k->profile = text_printf(e, "%s", s3_profile_name(o->profile));
	k->region = text_printf(e, "%s", o->region);
	if (!k->creds || !k->profile || !k->region) {
		s3_keyring_free(k);
		return err_set(e, ERR_NOMEM, "credentials (see ulimit -l)");
	}
	*ret = k;
	return 0;
}

void s3_keyring_free(struct s3_keyring *k)
{
	if (!k)
		return;
	sodium_free(k->creds);	/* wipes */
	pthread_cond_destroy(&k->fetched);
	pthread_mutex_destroy(&k->lock);
	free(k->profile);
	free(k->region);
	free(k);
}

int s3_secret_copy(char *to, size_t size, const char *s, size_t len, const char *what, struct err *e)
{
	if (len >= size)
		return err_set(e, ERR_INVALID, "%s has more than %zu characters", what, size - 1);
	for (size_t i = 0; i < len; i++) {
		if ((uint8_t)s[i] < 0x20 || s[i] == 0x7f)	/* it would end a header */
			return err_set(e, ERR_INVALID, "%s has a control character", what);
	}
	memcpy(to, s, len);
	to[len] = '\0';
	return 0;
}

static const char *env_of(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

static int from_environment(struct s3_creds *c, struct err *e)
{
	const char *access = env_of("AWS_ACCESS_KEY_ID"), *secret = env_of("AWS_SECRET_ACCESS_KEY"),
		   *token = env_of("AWS_SESSION_TOKEN");

	if (!access && !secret)
		return err_set(e, ERR_NOTFOUND, "no keys in the environment");
	if (!access || !secret)
		return err_set(e, ERR_REFUSED, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not both set");
	if (s3_secret_copy(c->access, sizeof(c->access), access, strlen(access), "AWS_ACCESS_KEY_ID", e) < 0 ||
	    s3_secret_copy(c->secret, sizeof(c->secret), secret, strlen(secret), "AWS_SECRET_ACCESS_KEY", e) < 0)
		return e->code;
	return token ? s3_secret_copy(c->token, sizeof(c->token), token, strlen(token), "AWS_SESSION_TOKEN", e) : 0;
}

static int from_web_identity(struct s3_keyring *k, struct s3_creds *c, struct err *e)
{
	const struct s3_web_identity w = { .token_file = env_of("AWS_WEB_IDENTITY_TOKEN_FILE"),
					   .role_arn = env_of("AWS_ROLE_ARN"),
					   .session_name = env_of("AWS_ROLE_SESSION_NAME"), .region = k->region };

	if (!w.token_file || !w.role_arn)
		return err_set(e, ERR_NOTFOUND, "no web identity in the environment");
	return s3_creds_web_identity(k->http, &w, k->cancel, c, e);
}

static int use_profile(struct s3_keyring *k, const struct s3_profile *p, struct s3_creds *c, struct err *e)
{
	const struct s3_web_identity w = { .token_file = p->token_file, .role_arn = p->role_arn,
					   .session_name = *p->session_name ? p->session_name : NULL,
					   .region = k->region };

	if (*p->role_arn && *p->token_file)
		return s3_creds_web_identity(k->http, &w, k->cancel, c, e);
	if (*p->role_arn) {
		err_set(e, ERR_REFUSED,
			"it takes on a role (role_arn) by another profile's keys, which kedge does not do");
		return err_hint(e,
				"let the AWS command line do it: a profile with credential_process = aws configure "
				"export-credentials --profile %s", k->profile);
	}
	if (*p->keys.access && *p->keys.secret) {
		*c = p->keys;
		return 0;
	}
	if (*p->keys.access || *p->keys.secret)
		return err_set(e, ERR_REFUSED, "it has only one of aws_access_key_id and aws_secret_access_key");
	if (*p->process)
		return s3_creds_process(p->process, k->cancel, c, e);
	return err_set(e, ERR_NOTFOUND, "it has no credentials");
}

static int from_profile(struct s3_keyring *k, struct s3_creds *c, struct err *e)
{
	bool wanted = k->profile_given || env_of("AWS_PROFILE");
	struct s3_profile *p = NULL;
	int r = s3_profile_load(k->profile, &p, e);

	if (r < 0)
		return r;
	if (!p->found)
		r = err_set(e, ERR_NOTFOUND, "there is none in ~/.aws/credentials or ~/.aws/config");
	else
		r = use_profile(k, p, c, e);
	sodium_free(p);
	if (r == ERR_NOTFOUND && wanted)
		e->code = ERR_REFUSED;	/* somebody named it: looking further would take other keys than meant */
	if (r < 0)
		err_ctx(e, "profile \"%.64s\"", k->profile);
	return r < 0 ? e->code : 0;
}

static int from_source(struct s3_keyring *k, enum source s, struct s3_creds *c, struct err *e)
{
	sodium_memzero(c, sizeof(*c));
	switch (s) {
	case ENVIRONMENT:
		return from_environment(c, e);
	case WEB_IDENTITY:
		return from_web_identity(k, c, e);
	case PROFILE:
		return from_profile(k, c, e);
	case CONTAINER:
		return s3_creds_container(k->http, k->cancel, c, e);
	case INSTANCE:
		return s3_creds_instance(k->http, k->cancel, c, e);
	case SOURCES:
	case NONE_YET:
		break;
	}
	return err_set(e, ERR_INTERNAL, "credentials of no source");
}

/* The first source that is set up; later only that one is asked again. */
static int fetch(struct s3_keyring *k, enum source from, struct s3_creds *c, enum source *ret_source, struct err *e)
{
	enum source first = from == NONE_YET ? k->profile_given ? PROFILE : ENVIRONMENT : from;
	enum source end = from == NONE_YET && !k->profile_given ? SOURCES : first + 1;

	for (enum source s = first; s < end; s++) {
		int r = from_source(k, s, c, e);

		if (r == 0) {
			LOG_DEBUG("credentials: source %d, %s", (int)s, c->expires_ns ? "they expire" : "they last");
			*ret_source = s;
			return 0;
		}
		if (r != ERR_NOTFOUND)
			return err_ctx(e, "credentials");
		err_clear(e);
	}
	err_set(e, ERR_REFUSED, "there are no credentials for S3");
	return err_hint(e, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or make a profile in ~/.aws/credentials "
			   "(--s3-profile NAME)");
}

static bool usable(const struct s3_keyring *k, int64_t now)
{
	return k->generation && !k->refused && (!k->creds->expires_ns || now < k->creds->expires_ns - LAST_NS);
}

static bool due(const struct s3_keyring *k, int64_t now)
{
	return !k->generation || k->refused ||
	       (k->creds->expires_ns && now >= k->creds->expires_ns - EARLY_NS && now >= k->again_ns);
}

/* Called with the lock, which is let go of meanwhile. */
static int fetch_unlocked(struct s3_keyring *k, struct err *e)
{
	struct s3_creds *c = sodium_malloc(sizeof(*c));
	enum source from = k->source, source = from;
	int r;

	if (!c)
		return err_set(e, ERR_NOMEM, "credentials (see ulimit -l)");
	k->fetching = true;
	pthread_mutex_unlock(&k->lock);
	r = fetch(k, from, c, &source, e);
	pthread_mutex_lock(&k->lock);
	k->fetching = false;
	if (r == 0) {
		memcpy(k->creds, c, sizeof(*c));
		k->source = source;
		k->generation++;
		k->refused = false;
	}
	k->again_ns = clock_wall_ns() + RETRY_NS;
	pthread_cond_broadcast(&k->fetched);
	sodium_free(c);
	return r;
}

int s3_keyring_borrow(struct s3_keyring *k, const struct s3_creds **ret, struct err *e)
{
	pthread_mutex_lock(&k->lock);
	for (;;) {
		int64_t now = clock_wall_ns();

		if (!due(k, now) || (usable(k, now) && k->fetching))
			break;
		if (k->fetching) {
			pthread_cond_wait(&k->fetched, &k->lock);
			continue;
		}
		if (fetch_unlocked(k, e) < 0) {
			if (!usable(k, clock_wall_ns())) {
				pthread_mutex_unlock(&k->lock);
				return e->code;
			}
			err_clear(e);	/* these still hold; there is time to try again */
			break;
		}
		if (!usable(k, clock_wall_ns())) {
			pthread_mutex_unlock(&k->lock);
			return err_set(e, ERR_REFUSED, "credentials: those that were given have expired already");
		}
		break;
	}
	*ret = k->creds;
	return 0;
}

void s3_keyring_return(struct s3_keyring *k)
{
	pthread_mutex_unlock(&k->lock);
}

uint64_t s3_keyring_generation(const struct s3_keyring *k)
{
	return k->generation;
}

bool s3_keyring_refuse(struct s3_keyring *k, uint64_t generation)
{
	bool again;

	pthread_mutex_lock(&k->lock);
	again = generation < k->generation || (k->source != ENVIRONMENT && k->source != NONE_YET);
	if (again && generation == k->generation)
		k->refused = true;
	pthread_mutex_unlock(&k->lock);
	return again;
}

int s3_profile_region(const char *profile, char **ret, struct err *e)
{
	struct s3_profile *p = NULL;
	char *region = NULL;
	int r = s3_profile_load(s3_profile_name(profile), &p, e);

	if (r < 0)
		return r;
	if (*p->region) {
		region = text_printf(e, "%s", p->region);
		r = region ? 0 : e->code;
	}
	sodium_free(p);
	if (r == 0)
		*ret = region;
	return r;
}
