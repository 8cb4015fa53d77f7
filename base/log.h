/*
 * log.h - what the program says about itself: level, sink, one line a message.
 *
 * Libraries log at debug only, and report everything else through results; cli/ owns the sink and the level.
 * Any thread may log; a line is written whole.  Secrets never go through here.
 */
#ifndef KEDGE_BASE_LOG_H
#define KEDGE_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Receives each line without newline; must not call back into the log. */
typedef void (*log_sink_fn)(void *opaque, enum log_level level, const char *line);

/* Messages above the level are dropped before they are formatted.  Default: warnings, to stderr (sink NULL).  Not while
 * other threads log: cli/ calls it before a command runs and after. */
void log_setup(enum log_level level, log_sink_fn sink, void *opaque);
int log_enabled(enum log_level level);
void log_write(enum log_level level, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#define LOG_DEBUG(...) \
	do { if (log_enabled(LOG_LEVEL_DEBUG)) log_write(LOG_LEVEL_DEBUG, __FILE__, __LINE__, __VA_ARGS__); } while (0)

#endif
