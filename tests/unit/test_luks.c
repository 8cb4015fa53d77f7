/*
 * LUKS version 1: each field of the header right and wrong, how much work it may ask for; what QEMU has written, in every
 * cipher, mode and hash (tests/golden/luks; tests/e2e/34-encrypted.sh reads what it writes now).
 *
 * golden/luks/HASH.luks: the password is "kedge".  The file up to the end of key slot 0's material, then sector 1 of the data.
 */
#include "tests/test.h"

#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cancel.h"
#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/crypt/crypt.h"
#include "formats/image.h"

#define LEN ((size_t)2 << 20)
#define SLOT(n) (208 + 48 * (size_t)(n))
#define MATERIAL 8u		/* sector of slot 0 */

/* AES-256-XTS with one slot, whose material is zeros: nothing opens it. */
static void header(uint8_t *p)
{
	memset(p, 0, LEN);
	memcpy(p, "LUKS\xba\xbe\0\1", 8);
	memcpy(p + 8, "aes", 3);
	memcpy(p + 40, "xts-plain64", 11);
	memcpy(p + 72, "sha256", 6);
	put_be32(p + 108, 64);
	put_be32(p + 164, 10);
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		put_be32(p + SLOT(i), 0xdead);
	put_be32(p + SLOT(0), 0x00ac71f3);
	put_be32(p + SLOT(0) + 4, 10);
	put_be32(p + SLOT(0) + 40, MATERIAL);
	put_be32(p + SLOT(0) + 44, 4000);
}

static int file(const uint8_t *p)
{
	int fd = memfd_create("luks", MFD_CLOEXEC);
	struct err e = ERR_INIT;

	assert_true(fd >= 0);
	assert_ok(fs_pwrite_full(fd, p, LEN, 0, &e), &e);
	return fd;
}

struct field {
	size_t at;
	unsigned width;		/* 0: text */
	uint32_t value;
	const char *text;
	int code;
	const char *cause;
};

static const struct field fields[] = {
	{ 0, 4, 0x4c554b54, NULL, ERR_CORRUPT, "doesn't begin" },
	{ 6, 2, 2, NULL, ERR_UNSUPPORTED, "Argon2" },
	{ 6, 2, 0, NULL, ERR_UNSUPPORTED, "version 0" },
	{ 8, 0, 0, "des", ERR_UNSUPPORTED, "des-xts-plain64" },
	{ 8, 0, 0, "serpent", 0, "" },
	{ 8, 0, 0, "twofish", 0, "" },
	{ 8, 0, 0, "cast5", ERR_UNSUPPORTED, "cast5-xts" },
	{ 40, 0, 0, "xts-plain", 0, "" },
	{ 40, 0, 0, "xts-random", ERR_UNSUPPORTED, "xts-random" },
	{ 40, 0, 0, "lrw-plain64", ERR_UNSUPPORTED, "lrw" },
	{ 40, 0, 0, "cbc-plain64", ERR_UNSUPPORTED, "key of 64 bytes" },	/* a key for XTS */
	{ 40, 0, 0, "xts-essiv:sha256", 0, "" },
	{ 40, 0, 0, "xts-essiv:sha1", ERR_UNSUPPORTED, "essiv:sha1" },
	{ 40, 0, 0, "xts-essiv:none", ERR_UNSUPPORTED, "essiv:none" },
	{ 72, 0, 0, "sha512", 0, "" },
	{ 72, 0, 0, "crc32", ERR_UNSUPPORTED, "hash \"crc32\"" },
	{ 108, 4, 0, NULL, ERR_CORRUPT, "key of 0 bytes" },
	{ 108, 4, 65, NULL, ERR_CORRUPT, "key of 65 bytes" },
	{ 108, 4, 33, NULL, ERR_UNSUPPORTED, "key of 33 bytes" },
	{ 108, 4, 32, NULL, 0, "" },
	{ 108, 4, UINT32_MAX, NULL, ERR_CORRUPT, "key of 4294967295 bytes" },
	{ 164, 4, 0, NULL, ERR_CORRUPT, "digest has no iterations" },
	{ SLOT(0), 4, 1, NULL, ERR_CORRUPT, "key slot 0 is neither" },
	{ SLOT(0), 4, 0xdead, NULL, ERR_CORRUPT, "no key slot is active" },
	{ SLOT(0) + 4, 4, 0, NULL, ERR_CORRUPT, "key slot 0 has no iterations" },
	{ SLOT(0) + 40, 4, 1, NULL, ERR_CORRUPT, "key slot 0 lies at 512" },
	{ SLOT(0) + 40, 4, (uint32_t)(LEN / 512) - 500, NULL, 0, "" },
	{ SLOT(0) + 40, 4, (uint32_t)(LEN / 512) - 499, NULL, ERR_CORRUPT, "outside" },
	{ SLOT(0) + 40, 4, UINT32_MAX, NULL, ERR_CORRUPT, "outside" },
	{ SLOT(0) + 44, 4, 3999, NULL, ERR_CORRUPT, "3999 stripes" },
	{ SLOT(7), 4, 0x00ac71f3, NULL, ERR_CORRUPT, "key slot 7 has 0 stripes" },
};

static void test_luks__fields(void **state)
{
	uint8_t *p = malloc(LEN);

	(void)state;
	assert_non_null(p);
	for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
		const struct field *f = &fields[i];
		struct err e = ERR_INIT;
		struct luks_header h;
		int fd, r;

		header(p);
		if (f->text) {
			memset(p + f->at, 0, 32);
			memcpy(p + f->at, f->text, strlen(f->text));
		} else if (f->width == 4) {
			put_be32(p + f->at, f->value);
		} else {
			put_be16(p + f->at, (uint16_t)f->value);
		}
		fd = file(p);
		r = luks_read(&(struct file){ fd, 0, LEN }, 0, LEN, &h, &e);
		close(fd);
		if (r != f->code || !strstr(e.cause, f->cause))
			fail_msg("row %zu: %s: %s; wanted %s: %s", i, err_code_name(r), e.cause, err_code_name(f->code),
				 f->cause);
	}
	free(p);
}

static void test_luks__places(void **state)
{
	uint8_t *p = malloc(LEN);
	struct err e = ERR_INIT;
	struct luks_header h;
	char text[160];
	int fd;

	(void)state;
	assert_non_null(p);
	header(p);
	fd = file(p);
	assert_int_equal(luks_read(&(struct file){ fd, 0, LEN }, 0, 591, &h, &e), ERR_CORRUPT);
	assert_int_equal(luks_read(&(struct file){ fd, 0, LEN }, LEN - 591, 592, &h, &e), ERR_CORRUPT);
	assert_int_equal(luks_read(&(struct file){ fd, 0, LEN }, UINT64_MAX, UINT64_MAX, &h, &e), ERR_CORRUPT);
	assert_ok(luks_read(&(struct file){ fd, 0, LEN }, 0, LEN, &h, &e), &e);
	assert_string_equal(luks_text(&h, text, sizeof(text)), "luks, aes-256-xts-plain64, sha256, 1 of 8 key slots");
	close(fd);
	free(p);
}

static int open_with(const uint8_t *p, const struct image_secret *s, const struct luks_limits *limits, struct err *e)
{
	struct luks_header h;
	struct imgcrypt *c;
	int fd = file(p), r = luks_read(&(struct file){ fd, 0, LEN }, 0, LEN, &h, e);

	assert_ok(r, e);
	r = luks_open(&(struct file){ fd, 0, LEN }, 0, &h, &s, 1, limits, &c, e);
	close(fd);
	return r;
}

/* A wrong password is told from a header that wants to keep us busy: 2^32 iterations would be half an hour. */
static void test_luks__work(void **state)
{
	const struct image_secret s = { .p = (const uint8_t *)"wrong\n", .len = 6 };
	struct cancel cancel = { 0 };
	/* With the newline and without: 2 tries of 10 rounds for a key of two blocks, and 10 for the digest. */
	const struct luks_limits usual = { LUKS_ROUNDS_ONE, LUKS_ROUNDS_ALL, NULL }, just = { 20, 60, NULL },
		one = { 19, 60, NULL }, all = { 20, 59, NULL }, stopped = { LUKS_ROUNDS_ONE, LUKS_ROUNDS_ALL, &cancel };
	uint8_t *p = malloc(LEN);
	struct err e = ERR_INIT;

	(void)state;
	assert_non_null(p);
	header(p);
	assert_int_equal(open_with(p, &s, &usual, &e), ERR_AUTH);
	assert_has(e.cause, "doesn't open any of its 1 key slots");
	assert_has(e.hint, "--image-secret");
	err_clear(&e);
	assert_err(open_with(p, &s, &just, &e), ERR_AUTH, &e);
	assert_int_equal(open_with(p, &s, &one, &e), ERR_UNSUPPORTED);
	assert_has(e.cause, "key slot 0 asks for 10 iterations");
	err_clear(&e);
	assert_int_equal(open_with(p, &s, &all, &e), ERR_UNSUPPORTED);	/* that is the secrets', not the slot's fault */
	assert_has(e.cause, "none of the secrets tried so far");
	assert_has(e.hint, "NAME=FILE");
	err_clear(&e);
	cancel_request(&cancel);
	put_be32(p + SLOT(0) + 4, 100000000);
	assert_err(open_with(p, &s, &stopped, &e), ERR_CANCELLED, &e);
	put_be32(p + SLOT(0) + 4, UINT32_MAX);
	assert_int_equal(open_with(p, &s, &usual, &e), ERR_UNSUPPORTED);
	assert_has(e.cause, "key slot 0 asks for 4294967295 iterations of sha256");
	put_be32(p + SLOT(0) + 4, 10);
	put_be32(p + 164, UINT32_MAX);
	err_clear(&e);
	assert_int_equal(open_with(p, &s, &usual, &e), ERR_UNSUPPORTED);
	assert_has(e.cause, "digest asks for 4294967295 iterations");
	free(p);
}

/* One key used in two ways gives two contents: images must not count as unchanged. */
static void test_luks__check_value(void **state)
{
	static const char *const ways[][2] = { { "aes", "xts-plain64" }, { "aes", "xts-plain" }, { "serpent", "xts-plain64" },
					       { "aes", "xts-essiv:sha256" }, { "aes", "ecb" }, { "aes", "cbc-plain64" } };
	uint8_t key[64] = { 1, 2, 3 }, values[6][32];
	struct err e = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct imgcrypt_spec s;
		struct imgcrypt *c;

		assert_ok(imgcrypt_spec_of(ways[i][0], ways[i][1], 32, &s, &e), &e);
		assert_ok(imgcrypt_new(&s, key, &c, &e), &e);
		imgcrypt_check_value(c, values[i]);
		imgcrypt_free(c);
		for (size_t k = 0; k < i; k++)
			if (!memcmp(values[i], values[k], 32))
				fail_msg("%s-%s and %s-%s", ways[i][0], ways[i][1], ways[k][0], ways[k][1]);
	}
}

/* What is made is opened by its secret and no other, and decrypts what was encrypted; no two are the same. */
static void test_luks_make__opens(void **state)
{
	const struct image_secret right = { .p = (const uint8_t *)"right", .len = 5 }, wrong = { .p = (const uint8_t *)"Right", .len = 5 };
	const struct image_secret *p = &right;
	uint8_t *a, *b, plain[1024], sealed[1024];
	struct imgcrypt *ca, *cb, *again;
	struct err e = ERR_INIT;
	const struct luks_limits limits = { .one = LUKS_ROUNDS_ONE, .all = LUKS_ROUNDS_ALL };
	struct luks_header h;
	size_t len, len_b;
	struct file f;

	(void)state;
	assert_ok(luks_make(&right, 1, &a, &len, &ca, &e), &e);
	assert_ok(luks_make(&right, 1, &b, &len_b, &cb, &e), &e);
	assert_int_equal(len, 2068480);	/* as QEMU's */
	assert_int_equal(len_b, len);
	assert_memory_not_equal(a + 112, b + 112, 92);	/* digest, salt, iterations, UUID */
	assert_memory_not_equal(a + 4096, b + 4096, 4096);
	f = (struct file){ .fd = memfd_create("luks", MFD_CLOEXEC), .size = len };
	assert_ok(fs_pwrite_full(f.fd, a, len, 0, &e), &e);
	assert_ok(luks_read(&f, 0, len, &h, &e), &e);
	assert_int_equal(h.payload, len / 512);
	assert_true(h.slots[0].iterations >= 100000 && h.digest_iterations >= 12500);
	memset(plain, 7, sizeof(plain));
	assert_ok(imgcrypt_encrypt(ca, sealed, plain, sizeof(plain), 5, &e), &e);
	assert_memory_not_equal(sealed, sealed + 512, 512);
	assert_ok(luks_open(&f, 0, &h, &p, 1, &limits, &again, &e), &e);
	assert_ok(imgcrypt_decrypt(again, sealed, sizeof(sealed), 5, &e), &e);
	assert_memory_equal(sealed, plain, sizeof(plain));
	imgcrypt_free(again);
	p = &wrong;
	assert_int_equal(luks_open(&f, 0, &h, &p, 1, &limits, &again, &e), ERR_AUTH);
	close(f.fd);
	imgcrypt_free(ca);
	imgcrypt_free(cb);
	free(a);
	free(b);
}

static void test_luks_make__refuses(void **state)
{
	const struct image_secret line = { .p = (const uint8_t *)"x\n", .len = 2 }, none = { .p = (const uint8_t *)"" };
	struct imgcrypt *c = NULL;
	struct err e = ERR_INIT;
	uint8_t *h = NULL;
	size_t len;

	(void)state;
	assert_int_equal(luks_make(&none, 1, &h, &len, &c, &e), ERR_INVALID);
	assert_int_equal(luks_make(&line, 1, &h, &len, &c, &e), ERR_INVALID);
	assert_has(e.hint, "printf");
	assert_null(h);
	assert_null(c);
}

#define GOLDEN "tests/golden/luks"
#define PASSWORD "kedge"

static uint8_t *golden(const char *name, size_t *ret_len)
{
	struct err e = ERR_INIT;
	CLEANUP(free_ptr) char *path = text_printf(&e, "%s/" GOLDEN "/%s", getenv("TOP") ? getenv("TOP") : ".", name);
	uint8_t *p;

	assert_non_null(path);
	assert_ok(fs_read_file(path, 1 << 20, &p, ret_len, &e), &e);
	return p;
}

static void expect_plain(struct imgcrypt *c, uint8_t *sector, uint64_t number, const char *what)
{
	struct err e = ERR_INIT;

	assert_ok(imgcrypt_decrypt(c, sector, CRYPT_SECTOR, number, &e), &e);
	for (size_t i = 0; i < CRYPT_SECTOR; i++)
		if (sector[i] != (uint8_t)(i * 7 + i / 256))
			fail_msg("%s: byte %zu is 0x%02x", what, i, sector[i]);
}

/* Each hash that is claimed makes the slot's key, joins the stripes and checks the digest. */
static void test_luks__hashes(void **state)
{
	static const char *const hashes[] = { "sha1", "sha224", "sha256", "sha384", "sha512", "md5", "ripemd160" };
	static const struct luks_limits limits = { LUKS_ROUNDS_ONE, LUKS_ROUNDS_ALL, NULL };
	const struct image_secret good = { .p = (const uint8_t *)PASSWORD, .len = 5 }, *const list[] = { &good };

	(void)state;
	for (size_t i = 0; i < sizeof(hashes) / sizeof(*hashes); i++) {
		char name[32];
		struct err e = ERR_INIT;
		struct luks_header h;
		struct imgcrypt *c;
		struct file f = { .fd = memfd_create("luks", MFD_CLOEXEC) };
		CLEANUP(free_ptr) uint8_t *p = NULL;
		size_t len;

		(void)snprintf(name, sizeof(name), "%s.luks", hashes[i]);
		p = golden(name, &len);
		assert_true(f.fd >= 0 && len > CRYPT_SECTOR);
		f.size = len - CRYPT_SECTOR;
		assert_ok(fs_pwrite_full(f.fd, p, (size_t)f.size, 0, &e), &e);
		assert_ok(luks_read(&f, 0, f.size, &h, &e), &e);
		assert_string_equal(h.hash, hashes[i]);
		assert_ok(luks_open(&f, 0, &h, list, 1, &limits, &c, &e), &e);
		expect_plain(c, p + f.size, 1, name);
		imgcrypt_free(c);
		close(f.fd);
	}
}

static void check_sector(char *line)
{
	const char *cipher = strsep(&line, " "), *mode = strsep(&line, " "), *key_hex = strsep(&line, " ");
	const char *number = strsep(&line, " ");
	uint8_t key[CRYPT_KEY_MAX], sector[CRYPT_SECTOR];
	struct imgcrypt_spec s;
	struct err e = ERR_INIT;
	struct imgcrypt *c;
	uint64_t n;

	assert_non_null(line);
	assert_true(parse_u64(number, 0, UINT64_MAX, &n) && strlen(key_hex) <= 2 * sizeof(key));
	assert_true(text_unhex(key_hex, key, strlen(key_hex) / 2) && text_unhex(line, sector, sizeof(sector)));
	assert_ok(imgcrypt_spec_of(cipher, mode, strlen(key_hex) / 2, &s, &e), &e);
	assert_ok(imgcrypt_new(&s, key, &c, &e), &e);
	expect_plain(c, sector, n, mode);
	imgcrypt_free(c);
}

/* Each cipher, mode and vector that is claimed. */
static void test_luks__sectors(void **state)
{
	size_t len;
	CLEANUP(free_ptr) uint8_t *text = golden("sectors.txt", &len);
	char *rest = (char *)text, *line;
	int n = 0;

	(void)state;
	while ((line = strsep(&rest, "\n")) != NULL)
		if (*line && *line != '#') {
			check_sector(line);
			n++;
		}
	assert_int_equal(n, 41);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_luks__fields),
		cmocka_unit_test(test_luks__places),
		cmocka_unit_test(test_luks__work),
		cmocka_unit_test(test_luks__check_value),
		cmocka_unit_test(test_luks__hashes),
		cmocka_unit_test(test_luks__sectors),
		cmocka_unit_test(test_luks_make__opens),
		cmocka_unit_test(test_luks_make__refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
