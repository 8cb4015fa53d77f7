/* signals.c - signals become flags; the flags are the only state of the process that handlers touch. */
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include "cli/cli.h"

static struct {
	struct cancel *_Atomic cancel;
	atomic_int usr1;
} signal_state;

static void on_stop(int sig)
{
	struct cancel *c = atomic_load(&signal_state.cancel);

	(void)sig;
	if (!c || atomic_exchange(&c->requested, 1))
		_exit(EXIT_INTERRUPTED);	/* asked before: the user means it */
}

static void on_usr1(int sig)
{
	(void)sig;
	atomic_store(&signal_state.usr1, 1);
}

void signals_install(struct cancel *c)
{
	/* no SA_RESTART: a prompt that waits on the terminal must wake up; everything else retries EINTR */
	struct sigaction stop = { .sa_handler = on_stop }, usr1 = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	sigemptyset(&stop.sa_mask);
	atomic_store(&signal_state.cancel, c);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGHUP, &stop, NULL);
	sigaction(SIGUSR1, &usr1, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

bool signals_take_usr1(void)
{
	return atomic_exchange(&signal_state.usr1, 0);
}
