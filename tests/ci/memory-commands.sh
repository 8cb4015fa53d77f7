# Anonymous memory of every command stays within the promise, whatever the number of threads; a small --memory means fewer
# threads, not a failure (promise 6).  backup on huge disks is in memory.sh.  Parameters are for tests/long/memory.sh.
. "$TOP/tests/e2e/lib.sh"
needs jq openssl qemu-img
THREADS=${THREADS:-16} BUDGETS=${BUDGETS:-32} DATA_MIB=${DATA_MIB:-200} FORMATS=${FORMATS:-raw}
quick_repo
over= runs=0

# within LIMIT-MIB COMMAND...
within() {
	local limit=$1 n
	shift
	n=$(peak_anon "$KEDGE" --key-file "$KEY" "$@")
	runs=$((runs + 1))
	echo "$((n / 1024)) of $limit MiB: kedge $*"
	[ "$n" -le $((limit * 1024)) ] || over="$over
$((n / 1024)) of $limit MiB: kedge $*"
}

# plain LIMIT-MIB COMMAND...: the same without a repository.
plain() {
	local limit=$1 n
	shift
	n=$(peak_anon "$KEDGE" "$@")
	runs=$((runs + 1))
	echo "$((n / 1024)) of $limit MiB: kedge $*"
	[ "$n" -le $((limit * 1024)) ] || over="$over
$((n / 1024)) of $limit MiB: kedge $*"
}

truncate -s 64G a.raw
for i in $(seq 0 7); do random_at a.raw $((i * 8 * 1024 * 1024 * 1024)) $((DATA_MIB * 1048576 / 8)) "$i"; done
qemu-img convert -q -f raw -O qcow2 a.raw a.qcow2
truncate -s 1G z.raw
# Text compresses: its clusters and segments have to be decoded.
head -c 48M a.raw | openssl base64 >text
for i in $(seq 0 15); do dd if=text of=z.raw bs=1M count=4 skip=$((i * 4)) seek=$((i * 64)) conv=notrunc status=none; done
qemu-img convert -q -c -f raw -O qcow2 z.raw z.qcow2
qemu-img snapshot -c one z.qcow2

for t in $THREADS; do
	within 256 backup --vm a-$t a.qcow2 --threads "$t"
	within 256 backup --vm z-$t z.qcow2 --threads "$t"
	vm=a-$t
	for f in $FORMATS; do
		within 256 restore "$vm" -o r.out -O "$f" --force --threads "$t"
	done
	within 256 restore "$vm" -o r.out -O qcow2 --force --threads "$t"
	within 256 restore "z-$t" -o r.out -O qcow2 --compress --with-snapshots --force --threads "$t"
	within 256 restore "z-$t" --to "all-$t" --threads "$t"
	within 256 cat "z-$t" --threads "$t"
	within 256 check --threads "$t"
	within 256 check --read-data --threads "$t"
	within 256 doctor --threads "$t"
	plain 256 dump --sink null a.qcow2 --threads "$t"
	plain 256 dump z.qcow2 --threads "$t"
	plain 256 dump z.qcow2 -o d.out --force --threads "$t"
	plain 256 bench z.raw --threads "$t"
	for m in $BUDGETS; do
		# what a program has besides its buffers: libraries, stacks, a repository's keys
		within $((m + 16)) restore "$vm" -o r.out -O raw --force --threads "$t" --memory "${m}M"
		within $((m + 16)) restore "z-$t" -o r.out -O qcow2 --force --threads "$t" --memory "${m}M"
		within $((m + 16)) cat "z-$t" --threads "$t" --memory "${m}M"
		within $((m + 16)) check --read-data --threads "$t" --memory "${m}M"
		plain $((m + 16)) dump --sink null a.qcow2 --threads "$t" --memory "${m}M"
		plain $((m + 16)) dump --sink null z.qcow2 --threads "$t" --memory "${m}M"
	done
done
within 256 list
within 256 show "$vm"
within 256 diff "$vm" "z-$t"
within 256 stats
within 256 key list
plain 256 info --json z.qcow2
plain 256 map a.qcow2
plain 256 help
echo "$runs commands measured"
[ -z "$over" ] || die "above the promise:$over"
