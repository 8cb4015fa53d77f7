/*
 * keys.h - secrets that open a repository, what they unlock, and the slots that hold them (docs/format.md, section 2).
 *
 * A keyring is what one slot unlocks: it lives in guarded memory (sodium_malloc) and is wiped by keyring_free.
 * Threads: a keyring is constant once made; any thread may use it.
 */
#ifndef KEDGE_REPO_KEYS_H
#define KEDGE_REPO_KEYS_H

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "repo/format.h"

struct keyring;
struct store;
struct repo;

enum secret_kind { SECRET_PASSPHRASE = 1, SECRET_KEYFILE = 2, SECRET_RECOVERY = 3 };
enum slot_role { ROLE_PUT = 1, ROLE_MAINTAIN = 2, ROLE_FULL = 3 };

/* Something that opens a slot.  bytes is in sodium_malloc memory; owned by whoever made the secret. */
struct secret {
	enum secret_kind kind;
	uint8_t *bytes;
	size_t len;
};
/* Copies bytes to guarded memory.  A passphrase that reads as a recovery key (format.md 2.1, checked digits) becomes
 * SECRET_RECOVERY.  Empty: ERR_INVALID.  Key file: 32 bytes to 1 MiB, else ERR_INVALID. */
MUST_CHECK int secret_new(enum secret_kind kind, const void *bytes, size_t len, struct secret **ret, struct err *e);
/* A new random recovery key. */
MUST_CHECK int secret_new_recovery(struct secret **ret, struct err *e);
/* The text of a recovery key: "kedge-XXXXX-..." with NUL in guarded memory (sodium_free). */
MUST_CHECK int secret_recovery_text(const struct secret *s, char **ret, struct err *e);
void secret_free(struct secret *s);	/* wipes; NULL is fine */

struct slot_info {
	struct slot_id id;
	enum slot_role role;
	enum secret_kind kind;
	uint8_t sign_public[32];
	char *label;		/* bytes as given */
	char **vms;		/* NULL-terminated; NULL = all */
	bool trusted, removed;
	unsigned nkeys;		/* its key objects, those that are damaged too */
	unsigned kinds;		/* 1 << enum secret_kind of each that is whole: what opens the slot */
	int64_t leaving_ns;	/* when somebody began to remove it who has not ended yet; 0 = nobody */
	uint64_t serial;
	int64_t time_ns;
};

/* Objects below the name of a slot of which there is no record that counts. */
struct slot_stray {
	struct slot_id id;
	bool foreign;		/* of no use to this repository, ever: an interrupted init leaves that */
};

struct slot_list {
	struct slot_info *p;
	size_t n;
	struct slot_stray *stray;
	size_t nstrays;
	char *unread;		/* name of a removal that can't be read: any slot may be about to go; NULL */
};
void slot_list_free(struct slot_list *l);

struct slot_new_opts {
	const char *label;
	/* only ROLE_FULL can be used yet; the others are refused with ERR_UNSUPPORTED by cli */
	enum slot_role role;
	const char *const *vms;		/* NULL-terminated; NULL = all */
	bool trusted;
	uint32_t argon_passes, argon_kib;	/* 0 = defaults (3, 65536) */
};

/* Slots known to the repository, removed ones included; and strays. */
MUST_CHECK int repo_slots(struct repo *r, struct slot_list *ret, struct err *e);
/* Adds a slot that opens with secret.  Needs a full key.  Record first, then key object: a crash leaves no unsigned
 * slot. */
MUST_CHECK int repo_slot_add(struct repo *r, const struct secret *secret, const struct slot_new_opts *o,
			     struct slot_id *ret, struct err *e);
/* Removes a slot's key objects and marks its record removed.  Refuses (ERR_INVALID) to remove the last full slot that
 * opens with anything but a recovery key, unless force; refuses the slot in use unless force.  Of a stray it removes
 * what is there: all of a foreign one, else the key object, and that only with force.  What an interrupted call left
 * the next one finishes.  Another that removes the last of the others at the same time: one of the two waits some
 * seconds for the other to give up, and is refused with ERR_TRANSIENT when it does not; so is who meets a removal that
 * can't be read. */
MUST_CHECK int repo_slot_remove(struct repo *r, const struct slot_id *id, bool force, struct err *e);
/* Forgets that somebody began to remove a slot; only when nobody does any more: ERR_TRANSIENT, unless force, in the hour
 * after that (who removes gives up by itself in half of it).  Needs a full key. */
MUST_CHECK int repo_slot_keep(struct repo *r, const struct slot_id *id, bool force, struct err *e);
/* Gives the slot in use another secret: new key object stored, then those removed that were there before.  Of any
 * number who do so at once at least the last one's secret opens the slot.  ERR_AUTH: the slot was removed meanwhile.
 * ERR_INVALID: its secret is the recovery key. */
MUST_CHECK int repo_slot_passwd(struct repo *r, const struct secret *secret, struct err *e);

#endif
