/* table.c - columns of text, aligned. */
#include "cli/table.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "base/text.h"

void table_init(struct table *t, size_t cols, const char *const *head)
{
	*t = (struct table){ .cols = min_size(cols, TABLE_COLS_MAX) };
	for (size_t i = 0; i < t->cols; i++)
		t->head[i] = head[i];
}

void table_done(struct table *t)
{
	for (size_t i = 0; i < t->ncells; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct table){ 0 };
}

static int grow(struct table *t, struct err *e)
{
	size_t cap = t->cap ? t->cap * 2 : 16 * t->cols, bytes;
	char **p = mul_size(cap, sizeof(*p), &bytes) ? realloc(t->cells, bytes) : NULL;

	if (!p)
		return err_set(e, ERR_NOMEM, "no memory for a table");
	t->cells = p;
	t->cap = cap;
	return 0;
}

int table_row(struct table *t, struct err *e, ...)
{
	size_t before = t->ncells;
	va_list ap;
	int r = 0;

	if (t->ncells + t->cols > t->cap && grow(t, e) < 0)
		return e->code;
	va_start(ap, e);
	for (size_t i = 0; i < t->cols && r == 0; i++) {
		const char *text = va_arg(ap, const char *);
		char *copy = text_printf(e, "%s", text ? text : "-");

		if (copy)
			t->cells[t->ncells++] = copy;
		else
			r = e->code;
	}
	va_end(ap);
	while (r < 0 && t->ncells > before)
		free(t->cells[--t->ncells]);
	return r;
}

/* Columns that valid UTF-8 takes, one a character: close enough for names. */
static size_t columns(const char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += ((uint8_t)s[i] & 0xc0) != 0x80;
	return n;
}

static size_t title_len(const char *head)
{
	size_t n = strlen(head);

	return n && head[n - 1] == '>' ? n - 1 : n;
}

static void print_cell(const char *text, size_t len, size_t width, bool right, bool last, FILE *to)
{
	size_t pad = width - columns(text, len);

	if (right)
		fprintf(to, "%*s", (int)pad, "");
	fwrite(text, 1, len, to);
	if (!right && !last)
		fprintf(to, "%*s", (int)pad, "");
	fputs(last ? "\n" : "  ", to);
}

void table_print(const struct table *t, size_t indent, FILE *to)
{
	size_t width[TABLE_COLS_MAX], rows = t->cols ? t->ncells / t->cols : 0;

	for (size_t c = 0; c < t->cols; c++) {
		width[c] = title_len(t->head[c]);
		for (size_t r = 0; r < rows; r++) {
			size_t n = columns(t->cells[r * t->cols + c], strlen(t->cells[r * t->cols + c]));

			width[c] = n > width[c] ? n : width[c];
		}
	}
	for (size_t r = 0; r <= rows; r++) {
		fprintf(to, "%*s", (int)indent, "");
		for (size_t c = 0; c < t->cols; c++) {
			const char *text = r ? t->cells[(r - 1) * t->cols + c] : t->head[c];
			bool right = title_len(t->head[c]) < strlen(t->head[c]);

			print_cell(text, r ? strlen(text) : title_len(text), width[c], right, c + 1 == t->cols, to);
		}
	}
}
