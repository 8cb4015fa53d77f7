/*
 * point.c - a point as it is written, VM[:DISK][@WHEN][/STATE] (kedge(1), POINTS).
 *
 *	WHEN	"latest" (default), an id prefix, a day, a date-time
 *	STATE	"current" (default), "snap:NAME", "snapid:ID", "layer:FILE" (a FILE with a slash is
 *		compared with whole paths)
 *
 * The first '/' ends VM, DISK and WHEN, of which none can hold one; STATE takes the rest of the word.
 */
#include <inttypes.h>
#include <stdarg.h>

#include "base/clock.h"
#include "base/fs.h"
#include "base/text.h"
#include "repo/backups.h"
#include "repo/point_internal.h"

#define ID_PREFIX_MIN 4u
#define LISTED_MAX 8u		/* choices that a message lists */

/* A list of choices for a message: "a, b, c and 5 more". */
struct choices {
	char text[320];
	size_t used, n;
	bool more;	/* some are left out */
};

static void choice_add(struct choices *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void choice_add(struct choices *c, const char *fmt, ...)
{
	char one[160], quoted[120];
	size_t len;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(one, sizeof(one), fmt, ap);
	va_end(ap);
	text_quote(one, quoted, sizeof(quoted));
	len = strlen(quoted);
	if (c->n++ < LISTED_MAX && c->used + len + 3 < sizeof(c->text))
		c->used += (size_t)snprintf(c->text + c->used, sizeof(c->text) - c->used, "%s%s", c->used ? ", " : "",
					    quoted);
	else
		c->more = true;
}

static const char *choice_text(const struct choices *c)
{
	return c->used ? c->text : "none";
}

static const char *choice_more(const struct choices *c)
{
	return c->more ? ", ..." : "";
}

/* --- taking the text apart ---------------------------------------------------------------------------------------- */

static int copy_part(const char *from, size_t len, char *to, size_t size, const char *what, struct err *e)
{
	if (len >= size)
		return err_set(e, ERR_INVALID, "the %s is too long", what);
	memcpy(to, from, len);
	to[len] = '\0';
	return 0;
}

int point_parse(const char *text, struct point_text *ret, struct err *e)
{
	const char *slash = strchrnul(text, '/'), *at = memchr(text, '@', (size_t)(slash - text));
	const char *vm_end = at ? at : slash, *colon = memchr(text, ':', (size_t)(vm_end - text));
	struct point_text p = { 0 };

	if (copy_part(text, (size_t)((colon ? colon : vm_end) - text), p.vm, sizeof(p.vm), "VM's name", e) < 0 ||
	    (colon &&
	     copy_part(colon + 1, (size_t)(vm_end - colon - 1), p.disk, sizeof(p.disk), "disk's name", e) < 0) ||
	    (at && copy_part(at + 1, (size_t)(slash - at - 1), p.when, sizeof(p.when), "time", e) < 0))
		return e->code;
	p.has_disk = colon != NULL;
	p.state = *slash ? slash + 1 : NULL;
	if (!text_is_name(p.vm) || (colon && !text_is_name(p.disk)) || (at && !p.when[0]) || (p.state && !p.state[0])) {
		err_set(e, ERR_INVALID, "a point is written VM[:DISK][@WHEN][/STATE]");
		return err_hint(e, "for example web, web@2026-11-20, web:vda@latest/snap:night-3; `kedge list` shows "
				   "what there is");
	}
	*ret = p;
	return 0;
}

/* --- the backup --------------------------------------------------------------------------------------------------- */

static int no_vm(const struct backup_list *l, const char *vm, struct err *e)
{
	struct choices c = { 0 };

	for (size_t i = 0; i < l->n; i++)
		if (i == 0 || strcmp(l->p[i].m->vm, l->p[i - 1].m->vm) != 0)
			choice_add(&c, "%s", l->p[i].m->vm);
	err_set(e, ERR_NOTFOUND, "there is no backup of a VM \"%s\"", vm);
	return err_hint(e, "VMs here: %s%s", choice_text(&c), choice_more(&c));
}

static bool is_id_prefix(const char *when)
{
	size_t n = strlen(when);

	return n >= ID_PREFIX_MIN && n <= 2 * ID_BYTES && strspn(when, "0123456789abcdef") == n;
}

static void choice_backup(struct choices *c, const struct backup *b)
{
	char hex[2 * ID_BYTES + 1], when[32];

	choice_add(c, "%.12s of %s%s", text_hex(b->hash.b, ID_BYTES, hex), clock_local_text(b->m->end_ns, when),
		   b->m->complete ? "" : " (incomplete)");
}

static int find_by_id(const struct backup_list *l, const struct point_text *p, const struct backup **ret, struct err *e)
{
	const struct backup *found = NULL;
	struct choices c = { 0 }, all = { 0 };
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++) {
		char hex[2 * ID_BYTES + 1];

		if (strcmp(l->p[i].m->vm, p->vm) != 0)
			continue;
		choice_backup(&all, &l->p[i]);
		if (strncmp(text_hex(l->p[i].hash.b, ID_BYTES, hex), p->when, strlen(p->when)) != 0)
			continue;
		choice_backup(&c, &l->p[i]);
		found = &l->p[i];
		n++;
	}
	if (n > 1)
		return err_set(e, ERR_INVALID, "%zu backups of %s have an id that begins with %s: %s%s", n, p->vm,
			       p->when, choice_text(&c), choice_more(&c));
	if (n == 0) {
		err_set(e, ERR_NOTFOUND, "no backup of %s has an id that begins with %s", p->vm, p->when);
		return err_hint(e, "backups of %s: %s%s", p->vm, choice_text(&all), choice_more(&all));
	}
	*ret = found;
	return 0;
}

/* The newest complete backup that ended in [from, to]. */
static int find_by_time(const struct backup_list *l, const struct point_text *p, int64_t from, int64_t to,
			const struct backup **ret, struct err *e)
{
	const char *when = p->when[0] ? p->when : "latest";
	const struct backup *found = NULL;
	struct choices incomplete = { 0 }, all = { 0 };

	for (size_t i = 0; i < l->n; i++) {
		const struct backup *b = &l->p[i];

		if (strcmp(b->m->vm, p->vm) != 0)
			continue;
		choice_backup(&all, b);
		if (b->m->end_ns < from || b->m->end_ns > to)
			continue;
		if (!b->m->complete)
			choice_backup(&incomplete, b);
		else if (!found || b->m->end_ns >= found->m->end_ns)
			found = b;
	}
	if (found) {
		*ret = found;
		return 0;
	}
	if (incomplete.n) {
		err_set(e, ERR_NOTFOUND, "only incomplete backups of %s fit \"%s\"", p->vm, when);
		return err_hint(e, "an incomplete one must be named by its id: %s%s", choice_text(&incomplete),
				choice_more(&incomplete));
	}
	err_set(e, ERR_NOTFOUND, "no backup of %s fits \"%s\"", p->vm, when);
	return err_hint(e, "backups of %s: %s%s", p->vm, choice_text(&all), choice_more(&all));
}

static int find_backup(const struct backup_list *l, const struct point_text *p, const struct backup **ret,
		       struct err *e)
{
	int64_t from = INT64_MIN, to = INT64_MAX;
	bool is_day = true, known = false;

	for (size_t i = 0; i < l->n && !known; i++)
		known = !strcmp(l->p[i].m->vm, p->vm);
	if (!known)
		return no_vm(l, p->vm, e);
	if (!p->when[0] || !strcmp(p->when, "latest"))
		return find_by_time(l, p, from, to, ret, e);
	if (is_id_prefix(p->when))
		return find_by_id(l, p, ret, e);
	if (!clock_parse(p->when, &from, &to, &is_day)) {
		err_set(e, ERR_INVALID, "\"%s\" is neither latest, an id's first %u or more digits, a day nor a time",
			p->when, ID_PREFIX_MIN);
		return err_hint(e, "for example @latest, @3fa9c1, @2026-11-20, @2026-11-20T03:04");
	}
	return find_by_time(l, p, is_day ? from : INT64_MIN, to, ret, e);
}

int backup_find(const struct backup_list *l, const char *text, const struct backup **ret, struct err *e)
{
	struct point_text p;

	if (point_parse(text, &p, e) < 0)
		return e->code;
	if (p.has_disk || p.state)
		return err_set(e, ERR_INVALID, "\"%s\" names a part of a backup; here it is VM[@WHEN]", text);
	return find_backup(l, &p, ret, e);
}

/* --- the state ---------------------------------------------------------------------------------------------------- */

const struct manifest_state_disk *point_disk(const struct manifest *m, uint32_t state, uint32_t disk)
{
	const struct manifest_state *s = &m->states.p[state];

	for (size_t i = 0; i < s->disks.n; i++)
		if (s->disks.p[i].disk == disk)
			return &s->disks.p[i];
	return NULL;
}

static bool has_snapshot_id(const struct manifest_state *s, const struct point *p, const char *id)
{
	if (s->machine_id && !strcmp(s->machine_id, id))
		return true;
	for (size_t i = 0; i < s->disks.n; i++)
		if (s->disks.p[i].snapshot_id && (!p->has_disk || s->disks.p[i].disk == p->disk) &&
		    !strcmp(s->disks.p[i].snapshot_id, id))
			return true;
	return false;
}

/* A FILE without a slash also fits where states are named by their paths because two layers have that file name. */
static bool has_layer_path(const struct manifest *m, const struct manifest_state *s, const struct point *p,
			   const char *file)
{
	for (size_t i = 0; i < s->disks.n; i++) {
		const struct manifest_state_disk *d = &s->disks.p[i];
		const char *path = m->disks.p[d->disk].layers.p[d->layer].path;

		if ((!p->has_disk || d->disk == p->disk) && !strcmp(strchr(file, '/') ? path : fs_basename(path), file))
			return true;
	}
	return false;
}

static bool state_fits(const struct manifest *m, const struct manifest_state *s, const struct point *p,
		       const char *text)
{
	if (!strcmp(text, "current"))
		return s->kind == STATE_CURRENT;
	if (!strncmp(text, "snap:", 5))
		return s->kind == STATE_SNAPSHOT && !strcmp(s->name, text + 5);
	if (!strncmp(text, "snapid:", 7))
		return s->kind == STATE_SNAPSHOT && has_snapshot_id(s, p, text + 7);
	return s->kind == STATE_LAYER && (!strcmp(s->name, text + 6) || has_layer_path(m, s, p, text + 6));
}

/* How to write the state so that nothing else fits. */
static void choice_state(struct choices *c, const struct manifest *m, const struct manifest_state *s, bool exactly)
{
	const struct manifest_state_disk *d = s->disks.n ? &s->disks.p[0] : NULL;

	if (s->kind == STATE_CURRENT)
		choice_add(c, "current");
	else if (s->kind == STATE_SNAPSHOT && exactly && s->machine_id)
		choice_add(c, "snapid:%s", s->machine_id);
	else if (s->kind == STATE_SNAPSHOT && exactly && d && d->snapshot_id)
		choice_add(c, "snapid:%s", d->snapshot_id);
	else if (s->kind == STATE_SNAPSHOT)
		choice_add(c, "snap:%s", s->name);
	else if (exactly && d)
		choice_add(c, "layer:%s", m->disks.p[d->disk].layers.p[d->layer].path);
	else
		choice_add(c, "layer:%s", s->name);
}

static int find_state(const struct manifest *m, const char *text, struct point *p, struct err *e)
{
	struct choices fit = { 0 }, all = { 0 };
	char shown[120];
	size_t n = 0;

	if (strcmp(text, "current") != 0 && strncmp(text, "snap:", 5) != 0 && strncmp(text, "snapid:", 7) != 0 &&
	    strncmp(text, "layer:", 6) != 0) {
		err_set(e, ERR_INVALID, "\"%s\" is no state", text_quote(text, shown, sizeof(shown)));
		return err_hint(e, "a state is written current, snap:NAME, snapid:ID or layer:FILE");
	}
	for (size_t i = 0; i < m->states.n; i++) {
		const struct manifest_state *s = &m->states.p[i];

		/* With a disk given, states in which it is absent are no answer; those in which nothing else fits say
		 * so below. */
		choice_state(&all, m, s, false);
		if (!state_fits(m, s, p, text) || (p->has_disk && !point_disk(m, (uint32_t)i, p->disk)))
			continue;
		choice_state(&fit, m, s, true);
		p->state = (uint32_t)i;
		n++;
	}
	text_quote(text, shown, sizeof(shown));
	if (n > 1)
		return err_set(e, ERR_INVALID, "%zu states fit \"%s\": %s%s", n, shown, choice_text(&fit),
			       choice_more(&fit));
	if (n == 1)
		return 0;
	err_set(e, ERR_NOTFOUND, "the backup has no state \"%s\"%s%s", shown, p->has_disk ? " of disk " : "",
		p->has_disk ? m->disks.p[p->disk].name : "");
	return err_hint(e, "states there: %s%s", choice_text(&all), choice_more(&all));
}

static int find_disk(const struct manifest *m, const char *name, struct point *p, struct err *e)
{
	struct choices c = { 0 };

	for (size_t i = 0; i < m->disks.n; i++) {
		choice_add(&c, "%s", m->disks.p[i].name);
		if (!strcmp(m->disks.p[i].name, name)) {
			p->disk = (uint32_t)i;
			p->has_disk = true;
			return 0;
		}
	}
	err_set(e, ERR_NOTFOUND, "the backup has no disk \"%s\"", name);
	return err_hint(e, "disks there: %s%s", choice_text(&c), choice_more(&c));
}

int point_find(const struct backup_list *l, const char *text, struct point *ret, struct err *e)
{
	struct point_text t;
	struct point p = { 0 };

	if (point_parse(text, &t, e) < 0 || find_backup(l, &t, &p.backup, e) < 0 ||
	    (t.has_disk && find_disk(p.backup->m, t.disk, &p, e) < 0) ||
	    find_state(p.backup->m, t.state ? t.state : "current", &p, e) < 0)
		return e->code;
	*ret = p;
	return 0;
}
