/* hint.c - what to do about errors of the system: the same words wherever they come from. */
#include "cli/hint.h"

#include <errno.h>

#include "cli/cli.h"

static void hint_memory(struct err *e, const struct command *cmd)
{
	unsigned takes = cmd ? cmd->globals : 0;

	(void)err_hint(e, "there was not enough memory: look at `free`, `ulimit -v` and the cgroup's memory.max%s",
		       takes & CLI_MEMORY ? "; --memory and --threads lower what is used"
					  : takes & CLI_THREADS ? "; --threads lowers what is used" : "");
}

static void hint_device(struct err *e)
{
	(void)err_hint(e, "the device or file system there fails: the kernel's log (`dmesg`) says more.  What is on it "
			  "may be in danger; run this again once it is in order");
}

/* Where errno says enough; false: it does not. */
static bool hint_errno(struct err *e, const struct command *cmd)
{
	switch (e->os_errno) {
	case EACCES:
	case EPERM:
		(void)err_hint(e, "this user may not do that: look at the owner and mode of the file and of the "
				  "folders above it");
		break;
	case EROFS:
		(void)err_hint(e, "the file system is mounted read-only; the kernel does that by itself after errors: "
				  "see `dmesg`");
		break;
	case EMFILE:
	case ENFILE:
		(void)err_hint(e, "too many files are open: raise the limit with `ulimit -Hn`, or end other programs");
		break;
	case EDQUOT:
		(void)err_hint(e, "the quota there is used up: make room or have it raised, and run this again");
		break;
	case EFBIG:
		(void)err_hint(e, "larger than the file system or `ulimit -f` allows: choose another place");
		break;
	case ESTALE:
	case ETIMEDOUT:
	case EHOSTDOWN:
	case EHOSTUNREACH:
	case ENOTCONN:
		(void)err_hint(e, "the server of that file system does not answer: run this again when it does");
		break;
	case ENOMEM:
	case EAGAIN:
		hint_memory(e, cmd);
		break;
	case EISDIR:
	case ENOTDIR:
	case ENAMETOOLONG:
	case ELOOP:
		(void)err_hint(e, "look at the path: it names a folder, or something below what is no folder, or it is "
				  "too long");
		break;
	case EBUSY:
	case ETXTBSY:
		(void)err_hint(e, "something else uses that now: run this again when it no longer does");
		break;
	case EIO:
	case ENXIO:
	case ENODEV:
	case EREMOTEIO:
	case EUCLEAN:
	case EBADMSG:
		hint_device(e);
		break;
	default:
		return false;
	}
	return true;
}

void hint_general(struct err *e, const struct command *cmd)
{
	if (e->hint[0] || hint_errno(e, cmd))
		return;
	switch (e->code) {
	case ERR_NOMEM:
		hint_memory(e, cmd);
		break;
	case ERR_IO:
		if (!e->os_errno)	/* a short read: the system said nothing, but there was less than there must */
			hint_device(e);
		break;
	case ERR_NOSPACE:
		(void)err_hint(e, "make room there, and run this again");
		break;
	case ERR_TRANSIENT:
		(void)err_hint(e, "run this again");
		break;
	default:
		break;
	}
}
