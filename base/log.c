/* log.c - level, sink, one line a message.  The one place with mutable state of the process: set once by cli/. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES 2048

static void sink_stderr(void *opaque, enum log_level level, const char *line)
{
	(void)opaque;
	(void)level;
	fprintf(stderr, "kedge: %s\n", line);	/* one call: stdio locks, so a line is written whole */
}

static struct {
	_Atomic(enum log_level) level;
	log_sink_fn sink;
	void *opaque;
} log_state = { .level = LOG_LEVEL_WARN, .sink = sink_stderr };

void log_setup(enum log_level level, log_sink_fn sink, void *opaque)
{
	log_state.sink = sink ? sink : sink_stderr;
	log_state.opaque = opaque;
	atomic_store(&log_state.level, level);
}

int log_enabled(enum log_level level)
{
	return level <= atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

void log_write(enum log_level level, const char *file, int line, const char *fmt, ...)
{
	char text[LINE_BYTES];
	size_t used = 0;
	va_list ap;
	int n;

	if (!log_enabled(level))
		return;
	if (level == LOG_LEVEL_DEBUG) {
		n = snprintf(text, sizeof(text), "%s:%d: ", file, line);
		used = n > 0 && (size_t)n < sizeof(text) ? (size_t)n : 0;
	}
	va_start(ap, fmt);
	vsnprintf(text + used, sizeof(text) - used, fmt, ap);
	va_end(ap);
	log_state.sink(log_state.opaque, level, text);
}
