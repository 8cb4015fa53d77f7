# Backups at once into one repository, restores and checks beside them: no lock, all succeed, nothing is mixed up (promise 2).
. "$TOP/tests/e2e/lib.sh"
needs jq qemu-img qemu-io
quick_repo

sessions() { find repo/session -type f 2>/dev/null | wc -l; }
quiet() { [ ! -s "$1" ] || die "$1 was not expected to say: $(head -c 2000 "$1")"; }

# start NAME ARGUMENT...: a backup that stands still once its session is posted; the pids collect in pids.
pids=() names=()
start() {
	local before i
	before=$(sessions)
	"$KEDGE" --key-file "$KEY" backup "${@:2}" --json >"$1.out" 2>"$1.err" &
	pids+=($!)
	names+=("$1")
	for i in $(seq 1000); do
		[ "$(sessions)" = "$before" ] || break
		sleep 0.01
	done
	kill -STOP $! 2>/dev/null || true	# one that was faster than this loop does not overlap: no failure of kedge's
}
# finish: all go on together; each must succeed.
finish() {
	local i code
	kill -CONT "${pids[@]}" 2>/dev/null || true
	for i in "${!pids[@]}"; do
		code=0
		wait "${pids[i]}" || code=$?
		equal $code 0 "exit of backup ${names[i]} beside others: $(cat "${names[i]}.err")"
	done
	pids=() names=()
}

# Five disks; a third of each is the same in all, so that the runs store the same chunks at the same time.
for n in 0 1 2 3 4; do
	truncate -s 40M d$n.raw
	random_at d$n.raw 0 9000000 1
	random_at d$n.raw 12000000 12000000 $((10 + n))
done
expect 0 k backup --vm d0 raw:d0.raw
d0=$(digest <d0.raw)

# Two at once, and one that reads.
start one --vm d1 raw:d1.raw
start two --vm d2 raw:d2.raw
k cat d0 >cat.out 2>cat.err &
reading=$!
finish
wait $reading || die "cat beside backups: $(cat cat.err)"
equal "$(digest <cat.out)" "$d0" "cat beside backups"
quiet cat.err

# Four at once: two of one VM, one of a qcow2 with a snapshot, restores and a check meanwhile.
qemu-img convert -f raw -O qcow2 d4.raw d4.qcow2
qemu-img snapshot -c s d4.qcow2
qemu-io -f qcow2 -c "write -P 5 30M 300k" d4.qcow2 >/dev/null
random_at d3.raw 20000000 10000 7
start a --vm d3 raw:d3.raw
start b --vm d3 raw:d3.raw
start c --vm d4 d4.qcow2
start d --vm d0 raw:d0.raw
for r in 1 2; do
	{ k restore d$r -o r$r.raw -q && k check -q && k list -q; } >reader$r.out 2>reader$r.err &
	readers[r]=$!
done
finish
for r in 1 2; do
	wait ${readers[r]} || die "restore $r beside backups: $(cat reader$r.err)"
	cmp r$r.raw d$r.raw
	quiet reader$r.err
done

expect 0 k list --json
quiet err
equal "$(field out '[.[] | select(.complete and (.pending | not)) | .vm] | sort | join(" ")')" "d0 d0 d1 d2 d3 d3 d4" "backups"
for id in $(field out '.[] | select(.vm == "d3") | .id'); do
	equal "$(point_digest "d3@$id")" "$(digest <d3.raw)" "one of two backups of a VM at once"
done
for n in 0 1 2; do equal "$(point_digest d$n)" "$(digest <d$n.raw)" "d$n"; done
equal "$(point_digest d4/snap:s)" "$(digest <d4.raw)" "the snapshot of d4"
equal "$(point_digest d4)" "$(image_digest d4.qcow2)" "d4"
expect 0 k check --read-data
# Each of them finds next time what all have stored.
for n in 0 1 2 3; do
	expect 0 k backup --vm d$n raw:d$n.raw --json
	equal "$(field out .bytes_new)" 0 "new bytes of d$n afterwards"
done

if /usr/bin/python3 -c 'import nacl, zstandard' 2>/dev/null; then
	PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$TOP/tests/reader/kedge_reader.py" verify repo --key-file key >verified ||
		die "the independent reader: $(cat verified)"
fi
