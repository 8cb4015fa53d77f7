/*
 * cmd_backup.c - kedge backup: all states of one VM's disks into the repository.
 */
#include <string.h>

#include "base/num.h"
#include "base/text.h"
#include "cli/backup_internal.h"
#include "cli/msg.h"

static const struct opt backup_options[] = {
	OPT(struct backup_opts, vm, 0, OPT_TEXT, "vm", "NAME",
	    "the VM's name (default: the machine's, or from the first file's name)"),
	OPT(struct backup_opts, skip_disks, 0, OPT_LIST, "skip-disk", "DISK",
	    "leave out this disk of the machine (repeatable)"),
	OPT(struct backup_opts, attach, 0, OPT_LIST, "attach", "FILE",
	    "store a file with it, such as the VM's description (repeatable)"),
	OPT(struct backup_opts, states, 0, OPT_TEXT, "states", "SELECTORS",
	    "all (default), or a list: current,snap:NAME,layer:FILE"),
	IMAGE_ARGS_FORMAT(struct backup_opts),
	IMAGE_ARGS_CHAIN(struct backup_opts),
	IMAGE_ARGS_UNPACK(struct backup_opts),
	IMAGE_ARGS_SECRET(struct backup_opts),
	OPT(struct backup_opts, image.force, 'f', OPT_FLAG, "force", NULL,
	    "read images that are marked corrupt, and layers that changed since"),
	OPT(struct backup_opts, adopt, 0, OPT_FLAG, "adopt", NULL, "continue a VM name that another machine has used"),
	OPT(struct backup_opts, tags, 0, OPT_LIST, "tag", "TEXT", "a note that is kept with the backup (repeatable)"),
	OPT(struct backup_opts, audit, 0, OPT_TEXT, "audit", "AMOUNT",
	    "how much of what is called unchanged to read again: N%, a time, off"),
	OPT(struct backup_opts, full_read, 0, OPT_FLAG, "full-read", NULL,
	    "call nothing unchanged: read every state of every disk whole"),
	OPT(struct backup_opts, compression, 0, OPT_TEXT, "compression", "LEVEL", "how hard to compress",
	    .choices = "fast|default|max|off"),
	OPT(struct backup_opts, no_shared_compression, 0, OPT_FLAG, "no-shared-compression", NULL,
	    "compress every chunk alone"),
	OPT(struct backup_opts, dry_run, 'n', OPT_FLAG, "dry-run", NULL, "say what would be read, and stop"),
	{ .name = NULL },
};

struct backup_job {
	struct cli *c;
	const struct backup_opts *o;
	struct sources s;
	struct opened open;
	struct repo_writer *w;
	struct ingest_plan *plan;
	VEC(struct ingest_disk) disks;
	VEC(struct ingest_attachment) files;
	struct manifest *m;
	struct id id;
	struct ingest_result result;
};

static enum compression compression_of(const char *text)
{
	if (!text || !strcmp(text, "default"))
		return COMPRESS_DEFAULT;
	return !strcmp(text, "fast") ? COMPRESS_FAST : !strcmp(text, "max") ? COMPRESS_MAX : COMPRESS_OFF;
}

/* The writer's session comes first: a base must be listed after it was posted. */
static int open_writer(struct backup_job *j, struct err *e)
{
	const struct repo_writer_opts wo = {
		.vm = j->s.vm, .threads = (unsigned)j->c->g.threads, .max_bytes = (size_t)(j->c->g.memory * 5 / 8),
		.compression = compression_of(j->o->compression), .single_chunk_segments = j->o->no_shared_compression,
	};

	return j->o->dry_run ? 0 : repo_writer_open(j->open.repo, &wo, &j->w, e);
}

static int collect(struct backup_job *j, struct err *e)
{
	for (size_t i = 0; i < j->s.disks.n; i++) {
		struct ingest_disk *d = VEC_PUSH(&j->disks, e);

		if (!d)
			return e->code;
		*d = (struct ingest_disk){
			.name = j->s.disks.p[i].name, .path = j->s.disks.p[i].path, .chain = j->s.disks.p[i].chain,
			.states_all = !j->s.states, .states = (const char *const *)j->s.states,
			.snapshots = j->s.disks.p[i].snapshots.p, .nsnapshots = j->s.disks.p[i].snapshots.n,
		};
	}
	for (size_t i = 0; i < j->s.files.n; i++) {
		struct ingest_attachment *a = VEC_PUSH(&j->files, e);

		if (!a)
			return e->code;
		*a = (struct ingest_attachment){
			.name = j->s.files.p[i].name,
			.p = j->s.files.p[i].p,
			.len = j->s.files.p[i].len,
			.mode = j->s.files.p[i].mode,
		};
	}
	return 0;
}

static int plan(struct backup_job *j, struct err *e)
{
	const struct ingest_opts io = {
		.vm = j->s.vm,
		.vm_name = j->s.vm_name,
		.machine_uuid = j->s.uuid,
		.machine_kind = j->s.machine ? machine_kind_name(j->s.machine->kind) : j->s.uuid ? "libvirt" : NULL,
		.machine_source = j->s.machine_source,
		.disks = j->disks.p,
		.ndisks = j->disks.n,
		.attachments = j->files.p,
		.nattachments = j->files.n,
		.tags = j->o->tags.p,
		.backups = &j->open.backups,
		.threads = (unsigned)j->c->g.threads,
		.max_bytes = (size_t)(j->c->g.memory / 4),
		.audit = j->s.audit,
		.audit_value = j->s.audit_value,
		.full_read = j->o->full_read,
		.cancel = &j->c->cancel,
		.progress = &j->c->progress,
	};

	return ingest_plan_new(j->open.repo, j->w, &io, &j->plan, e);
}

static int store(struct backup_job *j, struct err *e)
{
	if (ingest_run(j->plan, j->w, &j->m, &j->result, e) < 0)
		return e->code;
	return repo_writer_commit(j->w, j->m, &j->id, e);
}

static int report(struct backup_job *j, struct err *e)
{
	if (j->o->dry_run)
		return j->c->g.json ? msg_json(backup_plan_json(&j->s, j->plan), e) : 0;
	backup_say_result(j->c, &j->s, j->m, &j->id, j->result.claim_false);
	if (j->c->g.json && msg_json(backup_result_json(j->m, &j->id, j->result.claim_false), e) < 0)
		return e->code;
	if (j->result.incomplete || !j->m->complete)
		return EXIT_INCOMPLETE;
	return j->result.claim_false ? EXIT_FALSE_CLAIM : EXIT_DONE;
}

static int work(struct backup_job *j, struct err *e)
{
	if (sources_open(j->c, j->o, &j->s, e) < 0 || open_repo(j->c, &j->open, e) < 0 || open_writer(j, e) < 0 ||
	    open_backups(&j->open, j->s.vm, e) < 0 || sources_check_last(j->c, j->o, &j->s, &j->open.backups, e) < 0 ||
	    collect(j, e) < 0 || plan(j, e) < 0)
		return e->code;
	backup_say_plan(j->c, &j->s, j->plan);
	if (!j->o->dry_run && store(j, e) < 0)
		return e->code;
	return report(j, e);
}

static int run(struct cli *c, void *opts, struct err *e)
{
	struct backup_job j = { .c = c, .o = opts };
	int r = work(&j, e);

	if (r == ERR_CANCELLED)
		msg_note(c, "interrupted: saving what is stored; run the same command again to continue");
	ingest_plan_free(j.plan);
	repo_writer_close(j.w, r < 0);	/* after a failure too, what is stored serves the next run */
	manifest_free(j.m);
	VEC_DONE(&j.disks);
	VEC_DONE(&j.files);
	opened_done(&j.open);
	sources_done(&j.s);
	return r;
}

const struct command cmd_backup = {
	.name = "backup",
	.summary = "back up the disks of a VM with all their states",
	.usage = "[DISK=][FORMAT:]PATH...|MACHINE",
	.text = "Stores every state of each disk: its current content, each internal snapshot, each lower layer\n"
		"of its chain.  What a listed backup holds already is not read again.  An image that a running VM\n"
		"writes to is refused: take an external snapshot and back up the layer below.\n"
		"An image may be compressed (.gz, .xz, .zst, .bz2, .lz4) or in an archive: FILE.tar//MEMBER.\n"
		"MACHINE is a description: VirtualBox's .vbox, VMware's .vmx, libvirt's .xml, .ovf, .ova. All its\n"
		"disks are backed up with its files, and each of its snapshots is a state across all disks.",
	.options = backup_options,
	.opts_size = sizeof(struct backup_opts),
	.globals = CLI_REPO | CLI_JSON | CLI_PROGRESS | CLI_BYTES | CLI_THREADS | CLI_MEMORY,
	.min_args = 1,
	.max_args = SIZE_MAX,
	.run = run,
};
