/*
 * split.c - reading raw disks that lie in pieces.
 *
 * Pieces are named STEM.SUFFIX.  The suffix counts in digits from 0 or 1, or in letters from a, at one width; where
 * split(1) runs out of suffixes it goes on with longer ones: .yz, .zaaa; .89, .9000.  Others go from .999 to .1000.
 */
#include "formats/split/split.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/num.h"
#include "base/text.h"
#include "formats/digest.h"
#include "formats/file.h"

#define SUFFIX_MAX 12u		/* characters */
#define GAP_MAX 1000u		/* so many pieces behind a missing one are looked for, of each width */

struct split {
	struct image im;
	struct image_state current;
	uint64_t piece;			/* bytes of each but the last */
	VEC(uint32_t) files;		/* of each piece, in image_file's numbers */
};

/* The suffix of a first piece, behind the last dot; NULL: it is none. */
static const char *first_suffix(const char *path)
{
	const char *base = fs_basename(path), *dot = strrchr(base, '.');
	size_t len = dot ? strlen(dot + 1) : 0, zeros, as;

	if (!dot || dot == base || !len || len > SUFFIX_MAX / 2)
		return NULL;
	zeros = strspn(dot + 1, "0");
	as = strspn(dot + 1, "a");
	if ((len > 1 && as == len) || (len > 1 && zeros == len) || (len > 1 && zeros == len - 1 && dot[len] == '1'))
		return dot + 1;
	return NULL;
}

/* Counts s, of the length that it has, up by one; false: it was the last of that length. */
static bool count_up(char *s)
{
	const bool letters = *s >= 'a';
	const char last = letters ? 'z' : '9', first = letters ? 'a' : '0';

	for (size_t i = strlen(s); i-- > 0;) {
		if (s[i] != last) {
			s[i]++;
			return true;
		}
		s[i] = first;
	}
	return false;
}

/* What split(1) puts behind "yz" and "89": "zaaa", "9000".  False: s isn't such a one. */
static bool widen(char s[SUFFIX_MAX + 1])
{
	const bool letters = *s >= 'a';
	size_t len = strlen(s);

	if (len + 2 > SUFFIX_MAX || *s != (letters ? 'y' : '8') || strspn(s + 1, letters ? "z" : "9") != len - 1)
		return false;
	memset(s, letters ? 'a' : '0', len + 2);
	*s = letters ? 'z' : '9';
	s[len + 2] = '\0';
	return true;
}

/* What others than split(1) put behind "999": "1000".  False: s isn't such a one. */
static bool lengthen(char s[SUFFIX_MAX + 1])
{
	size_t len = strlen(s);

	if (len + 1 > SUFFIX_MAX || strspn(s, "9") != len)
		return false;
	memset(s, '0', len + 1);
	*s = '1';
	s[len + 1] = '\0';
	return true;
}

static char *piece_name(const char *path, const char *suffix, struct err *e)
{
	const char *base = fs_basename(path);

	return text_printf(e, "%.*s%s", (int)(first_suffix(path) - base), base, suffix);
}

bool split_is(const char *path)
{
	const char *first = first_suffix(path);
	char suffix[SUFFIX_MAX + 1];
	struct err unheard = ERR_INIT;
	struct stat st;
	char *next;
	bool found;

	if (!first)
		return false;
	(void)snprintf(suffix, sizeof(suffix), "%s", first);
	(void)count_up(suffix);
	next = text_printf(&unheard, "%.*s%s", (int)(first - path), path, suffix);
	found = next && stat(next, &st) == 0 && S_ISREG(st.st_mode);
	free(next);
	return found;
}

/* --- opening ------------------------------------------------------------------------------------------------------- */

static void split_close(struct image *im)
{
	struct split *s = (struct split *)im;

	VEC_DONE(&s->files);
	image_base_done(im);
	free(s);
}

static int add_piece(struct split *s, const struct image_open_opts *o, const char *suffix, struct err *e)
{
	CLEANUP(free_ptr) char *name = piece_name(s->im.path, suffix, e);
	uint32_t file, *slot;

	if (!name || image_part_open(&s->im, o, name, "piece", &file, e) < 0)
		return e->code;
	slot = VEC_PUSH(&s->files, e);
	if (!slot)
		return e->code;
	*slot = file;
	return 0;
}

/* 1: there is a piece of that name, or something that can't be opened. */
static int is_there(const struct split *s, const struct image_open_opts *o, const char *suffix, struct err *e)
{
	CLEANUP(free_ptr) char *name = piece_name(s->im.path, suffix, e);
	struct image_part part = { .fd = -1 };
	struct err none = ERR_INIT;
	int r;

	if (!name)
		return e->code;
	r = o->opener->open(o->opener->opaque, name, "piece", &part, &none);
	close_fd(&part.fd);
	free(part.path);
	return r != ERR_NOTFOUND;
}

static int missing_piece(const struct split *s, const char *missing, const char *there, struct err *e)
{
	CLEANUP(free_ptr) char *name = piece_name(s->im.path, there, e), *first = piece_name(s->im.path, missing, e);
	char q[200], qn[200];

	if (!name || !first)
		return e->code;
	(void)err_set(e, ERR_CORRUPT, "piece %s is missing, and %s is there", text_quote(first, q, sizeof(q)),
		      text_quote(name, qn, sizeof(qn)));
	return err_hint(e, "put all pieces into one folder");
}

/* Nothing may follow from suffix on where missing is.  */
static int check_behind(const struct split *s, const struct image_open_opts *o, const char *missing, const char *from,
			struct err *e)
{
	char suffix[SUFFIX_MAX + 1];
	unsigned i = 0;

	(void)snprintf(suffix, sizeof(suffix), "%s", from);
	do {
		int r = is_there(s, o, suffix, e);

		if (r)
			return r < 0 ? r : missing_piece(s, missing, suffix, e);
	} while (++i < GAP_MAX && count_up(suffix));
	return 0;
}

/* The same for all names that could come behind the piece named last: of its width, and of the next ones. */
static int check_gap(const struct split *s, const struct image_open_opts *o, const char *last, struct err *e)
{
	char next[SUFFIX_MAX + 1], wide[SUFFIX_MAX + 1], longer[SUFFIX_MAX + 1];
	const bool letters = *last >= 'a';

	(void)snprintf(next, sizeof(next), "%s", last);
	(void)snprintf(wide, sizeof(wide), "%s", last);
	memset(wide, letters ? 'z' : '9', strlen(wide));
	(void)snprintf(longer, sizeof(longer), "%s", wide);
	*wide = letters ? 'y' : '8';
	if (!lengthen(next) && !count_up(next))
		return 0;
	if (check_behind(s, o, next, next, e) < 0 || (widen(wide) && check_behind(s, o, next, wide, e) < 0) ||
	    (lengthen(longer) && check_behind(s, o, next, longer, e) < 0))
		return e->code;
	return 0;
}

static int open_pieces(struct split *s, const struct image_open_opts *o, struct err *e)
{
	char suffix[SUFFIX_MAX + 1], before[SUFFIX_MAX + 1];

	(void)snprintf(suffix, sizeof(suffix), "%s", first_suffix(s->im.path));
	for (;;) {
		int r = ERR_NOTFOUND;

		memcpy(before, suffix, sizeof(before));
		if (lengthen(suffix) || count_up(suffix))
			r = add_piece(s, o, suffix, e);
		if (r == ERR_NOTFOUND) {
			memcpy(suffix, before, sizeof(suffix));
			if (widen(suffix)) {
				err_clear(e);
				r = add_piece(s, o, suffix, e);
			}
		}
		if (r == ERR_NOTFOUND) {
			err_clear(e);
			return check_gap(s, o, before, e);
		}
		if (r < 0)
			return r;
	}
}

/* What begins at .001 isn't whole where there is a .000. */
static int check_first(const struct split *s, const struct image_open_opts *o, struct err *e)
{
	char suffix[SUFFIX_MAX + 1], q[200];
	int r;

	(void)snprintf(suffix, sizeof(suffix), "%s", first_suffix(s->im.path));
	if (suffix[strlen(suffix) - 1] != '1')
		return 0;
	suffix[strlen(suffix) - 1] = '0';
	r = is_there(s, o, suffix, e);
	if (r <= 0)
		return r;
	(void)err_set(e, ERR_INVALID, "%s isn't the first piece: there is one that ends in .%s",
		      text_quote(fs_basename(s->im.path), q, sizeof(q)), suffix);
	return err_hint(e, "name that one; if it is no piece of this disk, move it away");
}

static const char *piece_path(const struct split *s, size_t i)
{
	return s->files.p[i] ? s->im.parts.p[s->files.p[i] - 1].path : s->im.path;
}

/* A copy that was cut short must not move what follows it. */
static int check_sizes(struct split *s, struct err *e)
{
	char q[300];

	for (size_t i = 0; i < s->files.n; i++) {
		struct file f = image_file(&s->im, s->files.p[i]);
		bool last = i + 1 == s->files.n;

		if (!f.size || (last ? f.size > s->piece : f.size != s->piece))
			return err_set(e, ERR_CORRUPT, "piece %s has %" PRIu64 " bytes, the first one has %" PRIu64
				       ": only the last may have less", text_quote(piece_path(s, i), q, sizeof(q)), f.size,
				       s->piece);
		if (!add_u64(s->current.size, f.size, &s->current.size) || s->current.size > INT64_MAX)
			return err_set(e, ERR_UNSUPPORTED, "the pieces are too large together");
	}
	return 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------- */

/* Where guest byte off lies, and for how long at most. */
static struct file place(struct split *s, uint64_t off, uint32_t *ret_file, uint64_t *ret_in)
{
	*ret_file = s->files.p[off / s->piece];
	*ret_in = off % s->piece;
	return image_file(&s->im, *ret_file);
}

static int split_next_extent(struct image *im, uint32_t state, uint64_t off, uint64_t limit, struct extent *ret,
			     struct err *e)
{
	struct split *s = (struct split *)im;
	uint32_t file;
	uint64_t in, end;
	struct file f = place(s, off, &file, &in);
	bool data;

	(void)state;
	if (file_next_data(&f, in, min_u64(f.size, in + limit), &data, &end, e) < 0)
		return e->code;
	*ret = (struct extent){ .start = off, .len = end - in, .kind = data ? EXTENT_DATA : EXTENT_HOLE };
	if (data)
		ret->origin = (struct extent_origin){ .file = file, .host = in };
	return 1;
}

static int split_pread(struct image *im, uint32_t state, void *buf, size_t len, uint64_t off, struct err *e)
{
	struct split *s = (struct split *)im;
	uint8_t *p = buf;

	(void)state;
	while (len) {
		uint32_t file;
		uint64_t in;
		struct file f = place(s, off, &file, &in);
		size_t n = (size_t)min_u64(len, f.size - in);
		char q[300];

		if (file_pread_padded(&f, p, n, in, e) < 0)
			return err_ctx(e, "piece %s", text_quote(piece_path(s, (size_t)(off / s->piece)), q, sizeof(q)));
		p += n;
		off += n;
		len -= n;
	}
	return 0;
}

static void split_advise(struct image *im, uint32_t state, uint64_t off, uint64_t len, bool will_need)
{
	struct split *s = (struct split *)im;

	(void)state;
	while (len) {
		uint32_t file;
		uint64_t in, n;
		struct file f = place(s, off, &file, &in);

		n = min_u64(len, f.size - in);
		file_advise(&f, in, n, will_need);
		off += n;
		len -= n;
	}
}

/* As of a raw file: it proves which files these are, and nothing of their content. */
static int split_state_digest(struct image *im, uint32_t state, uint8_t digest[32], struct err *e)
{
	struct digest d;

	(void)e;
	digest_begin(&d, "kedge split state 1");
	digest_u64(&d, im->states[state].size);
	digest_parts(&d, im);
	digest_end(&d, digest);
	return 0;
}

static const struct image_ops split_ops = {
	.format = "split",
	.close = split_close,
	.next_extent = split_next_extent,
	.pread = split_pread,
	.state_digest = split_state_digest,
	.advise = split_advise,
};

static void split_drop(struct split **s)
{
	if (*s) {
		(*s)->im.file.fd = -1;	/* the caller's */
		split_close(&(*s)->im);
	}
}

int split_open(int fd, const char *path, const struct image_open_opts *o, struct image **ret, struct err *e)
{
	CLEANUP(split_drop) struct split *s = calloc(1, sizeof(*s));
	uint32_t *slot;
	char q[200];

	if (!s)
		return err_set(e, ERR_NOMEM, "split image");
	if (!first_suffix(path)) {
		(void)err_set(e, ERR_INVALID, "%s is not the name of a first piece", text_quote(fs_basename(path), q, sizeof(q)));
		return err_hint(e, "that ends in .001, .000, .00 or .aa, as the others end in .002, .ab and so on");
	}
	if (!o->opener && !o->metadata_only) {
		(void)err_set(e, ERR_UNSUPPORTED, "pieces in an archive aren't put together");
		return err_hint(e, "unpack the archive, and name the first piece");
	}
	if (image_base_init(&s->im, &split_ops, fd, path, o, e) < 0)
		return e->code;
	s->piece = s->im.file.size;
	slot = VEC_PUSH(&s->files, e);	/* 0: the file itself */
	if (!slot || (o->opener && (check_first(s, o, e) < 0 || open_pieces(s, o, e) < 0)) || check_sizes(s, e) < 0)
		return e->code;
	s->current.name = "current";
	s->current.id = "";
	s->im.states = &s->current;
	s->im.info = (struct image_info){
		.format = "split",
		.file_size = s->im.file.size,
		.virtual_size = s->current.size,
		.nstates = 1,
		.note = o->opener ? NULL : "only the first piece was looked at; --chain shows all",
	};
	if (split_state_digest(&s->im, IMAGE_STATE_CURRENT, s->im.identity.metadata_digest, e) < 0)
		return e->code;
	*ret = &STEAL(s)->im;
	return 0;
}
