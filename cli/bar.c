/* bar.c - the progress line. */
#include "cli/bar.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/text.h"
#include "base/workers.h"
#include "cli/cli.h"

#define TICK_NS 200000000L	/* five lines a second at most */
#define WHAT_BYTES 64
#define LINE_BYTES 512
#define BAR_COLUMNS 20
#define BAR_COLUMNS_LEAST 6
#define RATE_WINDOW_S 5.0

struct bar {
	pthread_mutex_t lock;		/* guards all below; held while a line is written, which is short */
	pthread_cond_t wake;
	pthread_t thread;
	bool draw, stop, dirty;
	unsigned hidden;
	struct progress_state s;
	char what[WHAT_BYTES];
	double rate, rate_at;		/* bytes a second, smoothed; when it was last brought up to date */
	uint64_t rate_done;
	bool on_screen;
};

/* Smooths over about RATE_WINDOW_S; the lock is held. */
static void update_rate(struct bar *b)
{
	double now = clock_mono(), span = now - b->rate_at, fresh, weight;

	if (b->rate_at == 0 || b->s.done < b->rate_done) {	/* first sight of a phase */
		b->rate_at = now;
		b->rate_done = b->s.done;
		b->rate = 0;
		return;
	}
	if (span < 0.19)
		return;
	fresh = (double)(b->s.done - b->rate_done) / span;
	weight = b->rate > 0 ? span / (span + RATE_WINDOW_S) : 1;
	b->rate += (fresh - b->rate) * weight;
	b->rate_at = now;
	b->rate_done = b->s.done;
}

static void add(char *buf, size_t len, size_t *used, const char *text)
{
	size_t n = strlen(text);

	if (*used + n < len) {
		memcpy(buf + *used, text, n + 1);
		*used += n;
	}
}

static void eta_text(uint64_t left, double rate, char *buf, size_t len)
{
	double s = (double)left / rate;

	if (s >= 360000)
		snprintf(buf, len, "ETA >4 days");
	else if (s >= 3600)
		snprintf(buf, len, "ETA %u:%02u:%02u", (unsigned)s / 3600, (unsigned)s / 60 % 60, (unsigned)s % 60);
	else
		snprintf(buf, len, "ETA %u:%02u", (unsigned)s / 60, (unsigned)s % 60);
}

static void bar_text(const struct progress_state *s, unsigned columns, char *buf)
{
	unsigned full = (unsigned)((double)min_u64(s->done, s->total) / (double)s->total * columns);

	buf[0] = '[';
	memset(buf + 1, '#', full);
	memset(buf + 1 + full, '.', columns - full);
	memcpy(buf + 1 + columns, "] ", 3);
}

/* Parts by importance: what does not fit in the width is left out from the least important on. */
const char *bar_line(const struct progress_state *s, double rate, size_t width, char *buf, size_t len)
{
	char phase[40], what[WHAT_BYTES + 2] = "", gauge[BAR_COLUMNS + 4] = "", percent[8] = "";
	char amount[64], speed[40] = "", eta[24] = "";
	char a[HUMAN_BYTES_MAX], b[HUMAN_BYTES_MAX], shown[WHAT_BYTES];
	const char *parts[] = { phase, what, gauge, percent, amount, speed, eta };
	static const unsigned char rank[] = { 0, 5, 6, 1, 2, 4, 3 };	/* of each part; 0 stays longest */
	bool keep[7] = { true };
	size_t room = min_size(width, len - 1), used = 0, sum = 0, words = 0;

	snprintf(phase, sizeof(phase), "%s ", s->phase ? s->phase : "working");
	if (s->what && *s->what)
		snprintf(what, sizeof(what), "%s ", text_quote(s->what, shown, sizeof(shown)));
	if (s->total) {
		snprintf(percent, sizeof(percent), "%u%% ",
			 (unsigned)((double)min_u64(s->done, s->total) * 100 / (double)s->total));
		snprintf(amount, sizeof(amount), "%s/%s ", human_bytes(s->done, a), human_bytes(s->total, b));
	} else {
		snprintf(amount, sizeof(amount), "%s ", human_bytes(s->done, a));
	}
	if (rate >= 1)
		snprintf(speed, sizeof(speed), "%s/s ", human_bytes((uint64_t)rate, a));
	if (rate >= 1 && s->total > s->done)
		eta_text(s->total - s->done, rate, eta, sizeof(eta));
	/* The gauge gives way first: it takes what the words leave. */
	for (size_t i = 0; i < 7; i++)
		words += strlen(parts[i]);
	if (s->total && room >= words + BAR_COLUMNS_LEAST + 3)
		bar_text(s, (unsigned)min_size(BAR_COLUMNS, room - words - 3), gauge);
	for (unsigned r = 0; r < 7; r++)
		for (size_t i = 0; i < 7; i++)
			if (rank[i] == r && sum + strlen(parts[i]) <= room) {
				keep[i] = true;
				sum += strlen(parts[i]);
			}
	buf[0] = '\0';
	for (size_t i = 0; i < 7; i++)
		if (keep[i])
			add(buf, room + 1, &used, parts[i]);
	while (used && buf[used - 1] == ' ')
		buf[--used] = '\0';
	return buf;
}

static size_t terminal_width(void)
{
	struct winsize ws;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col >= 20)
		return ws.ws_col - 1u;	/* the last column would wrap on some terminals */
	return 79;
}

/* The lock is held. */
static void draw(struct bar *b)
{
	char line[LINE_BYTES];

	fprintf(stderr, "\r%s\033[K", bar_line(&b->s, b->rate, terminal_width(), line, sizeof(line)));
	b->on_screen = true;
}

static void wipe(struct bar *b)
{
	if (b->on_screen)
		fputs("\r\033[K", stderr);
	b->on_screen = false;
}

/* A line that stays, for SIGUSR1. */
static void print_once(struct bar *b)
{
	char line[LINE_BYTES];

	wipe(b);
	if (b->s.phase)
		fprintf(stderr, "kedge: %s\n", bar_line(&b->s, b->rate, LINE_BYTES - 1, line, sizeof(line)));
	else
		fputs("kedge: nothing to report yet\n", stderr);
	b->dirty = true;
}

static void *bar_main(void *arg)
{
	struct bar *b = arg;

	pthread_mutex_lock(&b->lock);
	while (!b->stop) {
		struct timespec until;

		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += TICK_NS;
		if (until.tv_nsec >= 1000000000L) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000L;
		}
		while (!b->stop && pthread_cond_timedwait(&b->wake, &b->lock, &until) == 0)
			;
		if (b->stop)
			break;
		if (b->s.phase)
			update_rate(b);
		if (signals_take_usr1())
			print_once(b);
		if (b->draw && !b->hidden && b->dirty) {
			draw(b);
			b->dirty = b->rate > 0;		/* the rate of a stalled job sinks: keep drawing */
		}
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

int bar_new(bool draw_it, struct bar **ret, struct err *e)
{
	struct bar *b = calloc(1, sizeof(*b));
	pthread_condattr_t attr;
	sigset_t all, before;
	int r;

	if (!b)
		return err_set(e, ERR_NOMEM, "no memory for the progress line");
	b->draw = draw_it;
	pthread_mutex_init(&b->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&b->wake, &attr);
	pthread_condattr_destroy(&attr);
	sigfillset(&all);	/* signals are the main thread's business */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&b->thread, NULL, bar_main, b);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r) {
		pthread_cond_destroy(&b->wake);
		pthread_mutex_destroy(&b->lock);
		free(b);
		return workers_no_thread(e, r, "the progress line");
	}
	*ret = b;
	return 0;
}

void bar_free(struct bar *b)
{
	if (!b)
		return;
	pthread_mutex_lock(&b->lock);
	b->stop = true;
	pthread_cond_signal(&b->wake);
	pthread_mutex_unlock(&b->lock);
	pthread_join(b->thread, NULL);
	wipe(b);
	pthread_cond_destroy(&b->wake);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

void bar_update(void *opaque, const struct progress_state *s)
{
	struct bar *b = opaque;

	pthread_mutex_lock(&b->lock);
	if (!b->s.phase || !s->phase || strcmp(b->s.phase, s->phase))
		b->rate_at = 0;
	b->s = *s;
	snprintf(b->what, sizeof(b->what), "%s", s->what ? s->what : "");
	b->s.what = b->what;
	if (b->rate_at == 0)
		update_rate(b);
	b->dirty = true;
	pthread_mutex_unlock(&b->lock);
}

void bar_hide(struct bar *b)
{
	if (!b)
		return;
	pthread_mutex_lock(&b->lock);
	b->hidden++;
	wipe(b);
	pthread_mutex_unlock(&b->lock);
}

void bar_show(struct bar *b)
{
	if (!b)
		return;
	pthread_mutex_lock(&b->lock);
	b->hidden--;
	b->dirty = b->s.phase != NULL;
	pthread_mutex_unlock(&b->lock);
}
