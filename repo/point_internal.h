/* point_internal.h - the parts of a point's text. */
#ifndef KEDGE_REPO_POINT_INTERNAL_H
#define KEDGE_REPO_POINT_INTERNAL_H

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/err.h"

struct point_text {
	char vm[65], disk[65];
	char when[80];		/* empty: latest */
	bool has_disk;
	const char *state;	/* in the text given; NULL: current */
};
MUST_CHECK int point_parse(const char *text, struct point_text *ret, struct err *e);

#endif
