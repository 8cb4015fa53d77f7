/*
 * test.h - what every unit test includes first: cmocka needs these headers before its own, in this order.
 */
#ifndef KEDGE_TESTS_TEST_H
#define KEDGE_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

/* The call succeeded (>= 0); prints the error chain when not.  e is the struct err that the call was given. */
#define assert_ok(call, e) \
	do { \
		int ok_r_ = (call); \
		if (ok_r_ < 0) { \
			char ok_text_[ERR_CTX_BYTES + ERR_CAUSE_BYTES + 8]; \
			fail_msg("%s: %s", #call, err_text((e), ok_text_, sizeof(ok_text_))); \
		} \
	} while (0)

/* The call failed with the code, and left it in e too. */
#define assert_err(call, want, e) \
	do { \
		int err_r_ = (call); \
		if (err_r_ != (want) || (e)->code != (want)) \
			fail_msg("%s: %s (%d), wanted %s: %s", #call, err_code_name(err_r_), err_r_, err_code_name(want), \
				 (e)->cause); \
		err_clear(e); \
	} while (0)

/* The text contains the words. */
#define assert_has(text, words) \
	do { \
		if (!strstr((text), (words))) \
			fail_msg("\"%s\" does not contain \"%s\"", (text), (words)); \
	} while (0)

#endif
