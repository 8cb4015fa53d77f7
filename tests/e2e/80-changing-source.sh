# A source that changes or vanishes while it is read makes the backup incomplete: exit 3, listed so, never `latest`.
. "$TOP/tests/e2e/lib.sh"
needs jq qemu-img qemu-io
quick_repo
truncate -s 16M a.raw
random_at a.raw 0 1000000 1
qemu-img convert -f raw -O qcow2 a.raw web.qcow2
qemu-img snapshot -c one web.qcow2
expect 0 k -q backup --vm a raw:a.raw
want=$(digest <a.raw)
expect 0 k -q backup web.qcow2

text() { seq "$1" 1000000 | sed "s/^/the quick brown fox $1 /" | head -c 12M | dd of="$2" conv=notrunc bs=1M status=none || true; }
# meanwhile CODE CHANGE ARGUMENTS...: a backup that is slow (the hardest compression, one thread) and halted once it has begun
# to read; then the change is made; then it goes on.
meanwhile() {
	local code=$1 change=$2 got=0
	shift 2
	"$KEDGE" --key-file key backup --threads 1 --compression max "$@" >out 2>err &
	local pid=$!
	for _ in $(seq 400); do grep -aq 'current: full' err && break; sleep 0.02; done
	sleep 0.1
	kill -STOP $pid
	[ -d /proc/$pid/fd ] && ls -l /proc/$pid/fd | grep "$PWD/[a-z.0-9]*\(raw\|qcow2\)" >/dev/null || die "it was over before it was halted"
	eval "$change"
	kill -CONT $pid
	wait $pid || got=$?
	equal $got "$code" "exit after: $change"
}
newest() { k list --json "$1" | jq -r '.[-1].id' | cut -c1-12; }

# content that changes behind the reader's back, on disk at the same size
text 1 a.raw
meanwhile 3 "printf x | dd of=a.raw bs=1 seek=16000000 conv=notrunc status=none" --vm a raw:a.raw
says a.raw INCOMPLETE warning
expect 0 k list
prints incomplete
equal "$(k list --json a | jq -r '[.[].complete] | join(" ")')" "true false" "complete"
equal "$(point_digest a)" "$want" "latest is the complete one"
expect 0 k show "a@$(newest a)"
prints problem INCOMPLETE
expect 0 k show a
lacks out INCOMPLETE
expect 2 k show a@incomplete
expect 0 k backup --vm a raw:a.raw --json
equal "$(field out .complete)" true "the next night"
equal "$(point_digest a)" "$(digest <a.raw)" "the next night's point"

# it shrinks to nothing; it is gone and another is in its place
cp a.raw b.raw; text 2 b.raw
meanwhile 3 ": >b.raw" --vm b raw:b.raw
says b.raw INCOMPLETE
expect 1 k restore b -o x.raw		# there is no complete backup
says "only incomplete backups" "named by its id"
expect 1 k show "b@latest"
cp a.raw c.raw; text 3 c.raw; want=$(digest <c.raw)
meanwhile 3 "rm c.raw; head -c 1M /dev/zero >c.raw" --vm c raw:c.raw
says c.raw

# a snapshot is made, which moves tables about; QEMU can't while kedge reads, others may
text 4 b.raw; truncate -s 16M b.raw
qemu-img convert -f raw -O qcow2 b.raw new.qcow2
meanwhile 3 "printf '\001' | dd of=new.qcow2 bs=1 seek=79 conv=notrunc status=none" new.qcow2
says new.qcow2
# an attachment is read at once, so what happens to it later changes nothing
echo one >note
text 5 b.raw
meanwhile 0 "echo two >note" --vm d raw:b.raw --attach note
k -q restore d --to d
equal "$(cat d/note)" one "an attachment that changed later"
# what was stored of incomplete ones is no damage
expect 0 k check --read-data
equal "$(k stats --json | jq '[.vms[].incomplete] | add')" 4 "incomplete backups in stats"
