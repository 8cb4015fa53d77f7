/*
 * ids.c - the ids that formats give their images.
 */
#include "formats/ids.h"

#include <sodium.h>
#include <string.h>

#include "base/bytes.h"
#include "base/text.h"

#define ID32_END 0xfffffffeu	/* VMDK: "see longContentID", and "none" */

const char *uuid_text(const uint8_t uuid[16], char *buf)
{
	static const uint8_t group_bytes[] = { 4, 2, 2, 2, 6 };
	char *at = buf;

	for (size_t i = 0; i < sizeof(group_bytes); uuid += group_bytes[i++], at++) {
		text_hex(uuid, group_bytes[i], at);
		at += 2 * group_bytes[i];
		*at = '-';
	}
	at[-1] = '\0';
	return buf;
}

bool uuid_parse(const char *text, uint8_t uuid[16])
{
	size_t len = strlen(text), n = 0;
	char hex[33];

	if (len == 38 && text[0] == '{' && text[37] == '}') {
		text++;
		len = 36;
	}
	if (len != 36)
		return false;
	for (size_t i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash != (text[i] == '-'))
			return false;
		if (!dash)
			hex[n++] = text[i];
	}
	hex[n] = '\0';
	return text_unhex(hex, uuid, 16);
}

bool uuid_is_null(const uint8_t uuid[16])
{
	return bytes_all_zero(uuid, 16);
}

void uuid_swap(uint8_t uuid[16])
{
	uint32_t a = get_le32(uuid);
	uint16_t b = get_le16(uuid + 4), c = get_le16(uuid + 6);

	put_be32(uuid, a);
	put_be16(uuid + 4, b);
	put_be16(uuid + 6, c);
}

const char *uuid_text_stored(const uint8_t stored[16], char *buf)
{
	uint8_t uuid[16];

	memcpy(uuid, stored, sizeof(uuid));
	uuid_swap(uuid);
	return uuid_text(uuid, buf);
}

/* len <= 32 bytes at random, or from the seed. */
static void make(const struct writer_opts *o, const char *what, uint8_t *buf, size_t len)
{
	crypto_generichash_state h;
	uint8_t all[32];

	if (!o->id_seed) {
		randombytes_buf(buf, len);
		return;
	}
	/* the texts with their NULs, so that no two pairs run together; hashing fails only for lengths out of range */
	(void)crypto_generichash_init(&h, NULL, 0, 32);
	(void)crypto_generichash_update(&h, (const uint8_t *)"kedge id 1", 11);
	(void)crypto_generichash_update(&h, (const uint8_t *)o->id_seed, strlen(o->id_seed) + 1);
	(void)crypto_generichash_update(&h, (const uint8_t *)what, strlen(what) + 1);
	(void)crypto_generichash_final(&h, all, sizeof(all));
	memcpy(buf, all, len);
}

void uuid_for(const struct writer_opts *o, const char *kept, const char *what, uint8_t uuid[16])
{
	if (kept && kept[0] && uuid_parse(kept, uuid) && !uuid_is_null(uuid))
		return;
	make(o, what, uuid, 16);
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);	/* version 4 */
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);	/* the variant of RFC 4122 */
}

uint32_t id32_for(const struct writer_opts *o, const char *kept, const char *what)
{
	uint8_t b[4];

	if (kept && strlen(kept) == 8 && text_unhex(kept, b, 4) && get_be32(b) < ID32_END)
		return get_be32(b);
	make(o, what, b, sizeof(b));
	return get_be32(b) % ID32_END;
}
