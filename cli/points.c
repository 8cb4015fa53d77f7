/*
 * points.c - points as commands need them.
 */
#include "cli/points.h"

#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "cli/msg.h"

int points_find(struct cli *c, const struct backup_list *l, const char *text, struct point *ret, struct err *e)
{
	if (point_find(l, text, ret, e) == ERR_INVALID)
		return cli_exit(c, EXIT_USAGE, e);
	return e->code;
}

int points_find_disk(struct cli *c, const struct backup_list *l, const char *text, struct point *ret, struct err *e)
{
	const struct manifest_state *s;
	const struct manifest *m;
	char names[256] = "";
	struct point pt;

	if (points_find(c, l, text, &pt, e) < 0)
		return e->code;
	m = pt.backup->m;
	s = &m->states.p[pt.state];
	if (!pt.has_disk && s->disks.n == 1) {
		pt.has_disk = true;
		pt.disk = s->disks.p[0].disk;
	}
	if (pt.has_disk) {
		if (!point_disk(m, pt.state, pt.disk))
			return err_set(e, ERR_NOTFOUND, "disk %s is not in that state", m->disks.p[pt.disk].name);
		*ret = pt;
		return 0;
	}
	for (size_t i = 0; i < s->disks.n; i++) {
		size_t n = strlen(names);

		snprintf(names + n, sizeof(names) - n, "%s%s", n ? ", " : "", m->disks.p[s->disks.p[i].disk].name);
	}
	err_set(e, ERR_INVALID, "%s has several disks: %s", m->vm, names);
	err_hint(e, "name one: %s:%s", m->vm, s->disks.n ? m->disks.p[s->disks.p[0].disk].name : "DISK");
	return cli_exit(c, EXIT_USAGE, e);
}

void points_report_damage(const struct cli *c, const struct restore_result *res)
{
	char text[300];

	for (size_t i = 0; i < res->damage.n; i++) {
		const struct restore_damage *d = &res->damage.p[i];

		msg_warn(c, "guest bytes %" PRIu64 " to %" PRIu64 ": %s", d->off, d->off + d->len,
			 text_quote(d->text, text, sizeof(text)));
	}
	if (res->ndamage > res->damage.n)
		msg_warn(c, "and %" PRIu64 " more", res->ndamage - res->damage.n);
}

json_t *points_damage_json(const struct restore_result *res)
{
	json_t *a = json_array();

	for (size_t i = 0; i < res->damage.n; i++) {
		const struct restore_damage *d = &res->damage.p[i];
		json_t *o = json_object();

		msg_json_set(&o, "start", msg_json_u64(d->off));
		msg_json_set(&o, "length", msg_json_u64(d->len));
		msg_json_set(&o, "text", msg_json_text(d->text));
		msg_json_push(&a, o);
	}
	return a;
}
