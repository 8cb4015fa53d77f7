/* fuzz_text.c - any bytes as names of objects, escaped text, sizes, times, recovery keys and sources. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/formats.h"
#include "repo/keys.h"
#include "repo/object.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void try_name(const char *text)
{
	char back[OBJECT_NAME_BYTES];
	struct object_name n;

	if (!object_name_parse(text, &n))
		return;
	object_name_text(&n, back);
	check(strcmp(back, text) == 0);
}

/* Escaping loses nothing, and what it makes needs no further escaping. */
static void try_escape(const uint8_t *data, size_t size, const char *text)
{
	CLEANUP(free_ptr) char *escaped = NULL, *back = NULL, *plain = NULL;
	struct err e = ERR_INIT;
	size_t len = 0;

	escaped = text_escape(data, size, &e);
	check(escaped && text_unescape(escaped, &back, &len, &e) == 0);
	check(len == size && (size == 0 || memcmp(back, data, size) == 0) && back[len] == 0);
	for (const char *p = escaped; *p; p++)
		check((uint8_t)*p >= 0x20 && *p != 0x7f);
	if (text_unescape(text, &plain, &len, &e) < 0)
		check(e.code == ERR_CORRUPT && !plain);
	else
		check(len <= strlen(text));
}

/* Never more than the buffer, never a control character. */
static void try_quote(const char *text)
{
	static const size_t sizes[] = { 1, 2, 4, 5, 7, 16, 64, 300 };
	char buf[300];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		for (int shell = 0; shell < 2; shell++) {
			memset(buf, 0x7f, sizeof(buf));
			(void)(shell ? text_shell(text, buf, sizes[i]) : text_quote(text, buf, sizes[i]));
			check(memchr(buf, 0, sizes[i]) != NULL);
			for (const char *p = buf; *p; p++)
				check((uint8_t)*p >= 0x20 && *p != 0x7f);
		}
	}
}

static void try_numbers(const char *text)
{
	char hex[33], buf[32];
	uint8_t bytes[16];
	int64_t from, to;
	uint64_t v;
	bool day;

	(void)parse_size(text, &v);
	if (parse_u64(text, 10, 1000, &v))
		check(v >= 10 && v <= 1000);
	if (clock_parse(text, &from, &to, &day)) {
		check(from <= to);
		check(memchr(clock_utc_text(from, buf), 0, sizeof(buf)) != NULL);
		check(memchr(clock_local_text(to, buf), 0, sizeof(buf)) != NULL);
	}
	if (text_unhex(text, bytes, sizeof(bytes)))
		check(strcasecmp(text_hex(bytes, sizeof(bytes), hex), text) == 0);
	if (text_is_name(text))
		check(strlen(text) <= 64 && !strchr(text, '/') && text[0]);
}

/* A recovery key reads back from its own text. */
static void try_secret(const uint8_t *data, size_t size)
{
	struct secret *s = NULL, *again = NULL;
	struct err e = ERR_INIT;
	char *text = NULL;

	if (secret_new(SECRET_PASSPHRASE, data, size, &s, &e) < 0) {
		check(e.code < 0 && e.cause[0]);
		return;
	}
	if (s->kind == SECRET_RECOVERY) {
		check(secret_recovery_text(s, &text, &e) == 0);
		check(secret_new(SECRET_RECOVERY, text, strlen(text), &again, &e) == 0);
		check(again->len == s->len && memcmp(again->bytes, s->bytes, s->len) == 0);
	} else {
		check(s->len == size && (size == 0 || memcmp(s->bytes, data, size) == 0));
	}
	sodium_free(text);
	secret_free(s);
	secret_free(again);
}

static void try_source(const char *text)
{
	CLEANUP(free_ptr) char *disk = NULL, *path = NULL;
	const struct format *f = NULL;
	struct err e = ERR_INIT;

	if (format_parse_source(text, &disk, &f, &path, &e) < 0)
		check(e.code < 0 && e.cause[0] && !path);
	else
		check(path[0] && (!disk || text_is_name(disk)) && strlen(path) <= strlen(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(free_ptr) char *text = malloc(size + 1);

	check(text != NULL && sodium_init() >= 0);
	memcpy(text, data, size);
	text[size] = '\0';
	try_name(text);
	try_escape(data, size, text);
	try_quote(text);
	try_numbers(text);
	try_secret(data, size);
	try_source(text);
	return 0;
}
