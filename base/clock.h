/*
 * clock.h - the two clocks, and times as text.  Any thread.
 */
#ifndef KEDGE_BASE_CLOCK_H
#define KEDGE_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Wall clock, nanoseconds since 1970 UTC.  KEDGE_TEST_TIME_OFFSET (seconds, tests only) is added when set. */
int64_t clock_wall_ns(void);
/* Which start of this host it is: the kernel's boot id.  False where the kernel doesn't say.  KEDGE_TEST_BOOT_ID (tests
 * only) takes its place when set. */
bool clock_boot_id(uint8_t ret[static 16]);
/* Monotonic seconds from an arbitrary start; for durations. */
double clock_mono(void);
/* "2026-11-20T03:04:05Z"; buf takes 32 bytes.  Returns buf. */
const char *clock_utc_text(int64_t wall_ns, char buf[static 32]);
/* "2026-11-20 04:04:05" in the local time zone. */
const char *clock_local_text(int64_t wall_ns, char buf[static 32]);
/* Parses "2026-11-20" (local day: *ret_from is its first, *ret_to its last nanosecond) or "2026-11-20T03:04[:05][Z]" /
 * "2026-11-20 03:04[:05]" (local unless Z; both results are that instant's last nanosecond at the given precision). */
bool clock_parse(const char *text, int64_t *ret_from, int64_t *ret_to, bool *ret_is_day);

#endif
