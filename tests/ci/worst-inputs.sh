# Any 1 MiB input ends within a second or two, in bounded memory: each parser on what costs it most (worst_inputs.py,
# worst_images.py).
. "$TOP/tests/e2e/lib.sh"
/usr/bin/python3 -c 'import zstandard' 2>/dev/null || skip "python3-zstandard is not installed"
LIMIT_MS=2000		# of CPU time: the machine may have other work
LIMIT_KIB=600000	# address space, libraries included
/usr/bin/python3 "$TOP/tests/ci/worst_inputs.py" in
/usr/bin/python3 "$TOP/tests/ci/worst_images.py" in

# costs COMMAND...: runs it within the limits; its CPU time in ms to the variable ms.
costs() {
	local code=0 t
	( ulimit -v $LIMIT_KIB -t 20; TIMEFORMAT='%3U %3S'; time "$@" >out 2>err ) 2>times || code=$?
	read -r -a t < <(tail -1 times)
	ms=$((10#${t[0]/./} + 10#${t[1]/./}))
	return $code
}

EVERY=${EVERY:-3} number=0	# of the inputs only each third is tried; tests/long/worst-inputs.sh tries all
skipped() { number=$((number + 1)); [ $((number % EVERY)) != 0 ]; }

total=0 slowest=0 slow=
judge() {	# judge WHAT
	total=$((total + 1))
	[ $ms -le $slowest ] || { slowest=$ms slow=$1; }
	[ $ms -le $LIMIT_MS ] || die "$1 took $ms ms"
}

for dir in in/*; do
	target=$(basename "$dir")
	for f in "$dir"/*; do
		! skipped || continue
		mkdir one
		ln "$f" one/
		costs "$BUILD/replay/fuzz_$target" one || die "fuzz_$target on $(basename "$f"): $(tail -5 err)"
		judge "$target on $(basename "$f")"
		rm -r one
	done
done
echo "$total inputs; the slowest: $slow, $slowest ms"

# The program itself on such images.  Refusing one is as good as reading it.
total=0 slowest=0
for f in in/{qcow2,vdi}/* in.files/*/*; do
	! skipped || continue
	format=$(basename "$(dirname "$f")")
	for command in info "info --json" map "map --force"; do
		ran=0
		costs "$KEDGE" $command "$format:$f" || ran=$?
		case $ran in 0 | 1) ;; *) die "$command $f: exit $ran: $(tail -3 err)" ;; esac
		judge "$command of $format $(basename "$f")"
	done
done
echo "$total commands; the slowest: $slow, $slowest ms"

# Thousands of states, stored twice: time must follow their number, not its square.
total=0 slowest=0 LIMIT_MS=4000 LIMIT_KIB=2000000
for f in in/qcow2/snapshots-*; do
	rm -rf repo state cache
	quick_repo
	for night in 1 2; do
		ran=0
		costs "$KEDGE" --key-file "$KEY" backup -q --vm vm "qcow2:$f" || ran=$?
		case $ran in 0 | 1) ;; *) die "backup of $f: exit $ran: $(tail -3 err)" ;; esac
		judge "backup $night of $(basename "$f")"
	done
done
echo "$total backups; the slowest: $slow, $slowest ms"
