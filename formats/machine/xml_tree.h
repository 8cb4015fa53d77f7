/*
 * xml_tree.h - a small XML document in memory: read by xml_parse (bounded, no entities), changed, built, written.
 *
 * Elements, attributes and the text of elements that have no others inside them; comments, processing instructions and
 * white space between elements are not kept, which no hypervisor's description needs.  Names keep their prefixes.
 *
 * Errors stick: a call whose node is NULL, or that finds e->code set, does nothing and returns NULL; so a tree is built
 * in one go and e->code looked at once.  All strings are copied.  Threads: one tree, one thread.
 */
#ifndef KEDGE_FORMATS_MACHINE_XML_TREE_H
#define KEDGE_FORMATS_MACHINE_XML_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/vec.h"

struct xml_pair {
	char *name, *value;
};

struct xml_node {
	char *name;
	char *text;			/* NULL: none */
	struct xml_node *parent;	/* NULL: the root */
	VEC(struct xml_pair) attributes;
	VEC(struct xml_node *) children;
};

/* A whole document, as xml_parse takes it.  *ret is the root: xml_free. */
MUST_CHECK int xml_tree_parse(const void *text, size_t len, struct xml_node **ret, struct err *e);
/* Frees a root and all below it; NULL is fine. */
void xml_free(struct xml_node *root);
DEFINE_CLEANUP(struct xml_node, xml_free)

/* --- looking: NULL-safe, "" and NULL for what isn't there ---------------------------------------------------------- */

/* The first element at a path of names below n: "os/loader"; NULL.  A name without a prefix fits any prefix. */
struct xml_node *xml_find(const struct xml_node *n, const char *path);
/* The next child of n of that name (NULL: any), from the *at-th on, which is counted on; NULL: no more. */
struct xml_node *xml_next(const struct xml_node *n, size_t *at, const char *name);
/* An attribute's value; NULL.  A name without a prefix fits any prefix. */
const char *xml_get(const struct xml_node *n, const char *name);
/* Has n that attribute with that value? */
bool xml_is(const struct xml_node *n, const char *name, const char *value);
/* n's text without white space around it: NULL where there is none, else copied to buf and cut to fit. */
const char *xml_text(const struct xml_node *n, char *buf, size_t len);
/* Is the element called so, whatever its prefix? */
bool xml_named(const struct xml_node *n, const char *name);

/* --- changing ------------------------------------------------------------------------------------------------------ */

struct xml_node *xml_new(const char *name, struct err *e);
/* A new last child. */
struct xml_node *xml_add(struct xml_node *parent, const char *name, struct err *e);
/* A new last child with that text. */
struct xml_node *xml_add_text(struct xml_node *parent, const char *name, const char *text, struct err *e);
/* The child of that name, made where there is none. */
struct xml_node *xml_need(struct xml_node *parent, const char *name, struct err *e);
/* Sets an attribute, and returns n; value NULL: removes it. */
struct xml_node *xml_set(struct xml_node *n, const char *name, const char *value, struct err *e);
struct xml_node *xml_setf(struct xml_node *n, struct err *e, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Sets the text, and returns n; it must have no elements. */
struct xml_node *xml_set_text(struct xml_node *n, const char *text, struct err *e);
struct xml_node *xml_set_textf(struct xml_node *n, struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Takes n out of its parent and frees it; NULL is fine. */
void xml_remove(struct xml_node *n);
/* Removes all children of n of that name. */
void xml_remove_all(struct xml_node *n, const char *name);

/*
 * Appends the document, with a declaration, indented, UTF-8.  What XML cannot hold (control characters, bytes that are
 * no UTF-8), and marks that would disguise a name, are written as \xNN.
 */
MUST_CHECK int xml_write(const struct xml_node *root, struct buf *b, struct err *e);

#endif
