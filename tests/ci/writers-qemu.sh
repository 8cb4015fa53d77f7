#!/bin/bash
# Images that our writers made, judged by qemu-img: check is clean, compare finds the input, every snapshot can be applied
# (then check and compare again) and deleted; overlays too.  Seeded: ROUNDS=n SEED=n for more or for one again.
set -eu
command -v qemu-img >/dev/null || { echo "SKIP: qemu-utils is not installed"; exit 77; }
command -v python3 >/dev/null || { echo "SKIP: python3 is not installed"; exit 77; }
BUILD=${BUILD:-$(cd "$(dirname "$0")/../.." && pwd)/build/release}
WRITE=$BUILD/helpers/write_image
ROUNDS=${ROUNDS:-15}
SEED=${SEED:-1}
dir=$(mktemp -d "${TMPDIR:-/tmp}/kedge-writers.XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir"

fail() { echo "seed $seed: $line: $*"; exit 1; }

# make_states SEED COUNT MAX RESIZE: s0.raw s1.raw ..., each some changes away from the one before, and a vm.bin
make_states() {
	python3 - "$@" <<'PY'
import random, sys
seed, count, size, resize = map(int, sys.argv[1:])
r = random.Random(seed)
def stuff(n):
    kind = r.randrange(4)
    if kind == 0: return bytes(n)
    if kind == 1: return (b"all work and no play %d " % r.randrange(9) * (n // 20 + 1))[:n]
    return r.randbytes(n)
def size_now(): return r.randrange(size // 2, size * 2) if resize else size
cur = bytearray()
while len(cur) < size: cur += stuff(r.randrange(1, 200000))
del cur[size:]
for i in range(count):
    if i:
        n = size_now()
        cur = cur[:n] + bytes(max(0, n - len(cur)))
        for _ in range(r.randrange(6)):
            off = r.randrange(n); piece = stuff(r.randrange(1, 150000))[:n - off]
            cur[off:off + len(piece)] = piece
    open("s%d.raw" % i, "wb").write(cur)
open("vm.bin", "wb").write(stuff(r.randrange(1, 300000)))
PY
}

check() {	# check IMAGE
	qemu-img check -q -f qcow2 "$1" >out 2>&1 || { cat out; fail "check $1"; }
	qemu-img check -f qcow2 "$1" | grep "No errors were found" >/dev/null || fail "check of $1 is not clean"
}

# compare RAW IMAGE FORMAT: both are rounded up to sectors by qemu.  (Strict mode would compare allocation too.)
compare() {
	qemu-img compare -f raw -F "$3" "$1" "$2" >out 2>&1 || { cat out; fail "compare $1 $2"; }
	! grep -q mismatch out || { cat out; fail "compare $1 $2"; }
}

features() {	# features IMAGE: as asked for in line
	local want="zlib false"
	[[ $line != *zstd=1* ]] || want="zstd false"
	[[ $line != *extended_l2=1* ]] || want="${want% *} true"
	qemu-img info -f qcow2 --output json "$1" >out
	[ "$(python3 -c 'import json, sys; d = json.load(open("out"))["format-specific"]["data"]
print(d["compression-type"], str(d["extended-l2"]).lower())')" = "$want" ] || fail "not $want"
}

apply_all() {	# apply_all IMAGE COUNT: each snapshot in turn becomes the current state
	local i
	for ((i = 0; i < $2; i++)); do
		cp "$1" applied.qcow2
		qemu-img snapshot -a "s$i" applied.qcow2 || fail "apply s$i"
		check applied.qcow2
		compare "s$i.raw" applied.qcow2 qcow2
	done
	for ((i = 0; i < $2; i++)); do
		qemu-img snapshot -d "s$i" "$1" || fail "delete s$i"
		check "$1"
	done
}

one_round() {
	local pick=$1 format=qcow2 states=1 resize=0 opts=() cluster files=() i
	local clusters=(512 1024 4096 16384 65536 262144 2097152)
	RANDOM=$pick
	seed=$pick line=
	cluster=${clusters[RANDOM % 7]}
	opts+=(cluster=$cluster)
	((RANDOM % 3)) && states=$((1 + RANDOM % 5))
	resize=$((RANDOM % 2))
	case $((RANDOM % 6)) in
	0) opts+=(preallocation=metadata) ;;
	1) opts+=(preallocation=falloc) ;;
	2) opts+=(preallocation=full) ;;
	3 | 4) opts+=(compress=1 zstd=$((pick % 2)) threads=$((RANDOM % 4))) ;;
	esac
	# not by RANDOM, so that the rounds without stay what they were
	((cluster >= 16384 && pick % 3 != 0)) && opts+=(extended_l2=1)
	case $((RANDOM % 4)) in
	0) opts+=(step=$((1000 + RANDOM))) ;;
	1) opts+=(step=64K) ;;
	2) opts+=(step=$cluster jobs=$((1 + RANDOM % 4))) ;;
	3) opts+=(step=$((cluster * (1 + RANDOM % 9)))) ;;
	esac
	((RANDOM % 2)) && opts+=(seed=$pick)
	((RANDOM % 4)) || opts+=(max_bytes=1)
	((RANDOM % 5)) || opts+=(share=0)
	make_states "$pick" $states $((200000 + RANDOM * 100)) $resize
	for ((i = 0; i < states; i++)); do
		((i + 1 < states && RANDOM % 2)) && files+=("s$i.raw,vm.bin") || files+=("s$i.raw")
	done
	line="write_image $format ${opts[*]} ${files[*]}"
	rm -f disk.qcow2
	"$WRITE" $format disk.qcow2 "${opts[@]}" "${files[@]}" || fail "failed"
	check disk.qcow2
	compare "s$((states - 1)).raw" disk.qcow2 qcow2
	features disk.qcow2
	qemu-img snapshot -l disk.qcow2 >out || fail "snapshot -l"
	[ "$(grep -cE '^[0-9]+ +s[0-9]' out)" = $((states - 1)) ] || { cat out; fail "list of snapshots"; }
	# -l keeps the current size, so it shows all of a snapshot only where sizes are equal
	if [ $resize = 0 ] && [ $states -gt 1 ]; then
		qemu-img convert -f qcow2 -O raw -l snapshot.name=s0 disk.qcow2 out.raw
		compare s0.raw out.raw raw
	fi
	apply_all disk.qcow2 $((states - 1))
	compare "s$((states - 1)).raw" disk.qcow2 qcow2
}

# Overlays over a raw file: what equals it is left out, in steps of any size; QEMU reads it through, and makes it larger.
overlay_round() {
	local pick=$1 opts=() cluster step clusters=(16384 65536 262144 2097152)
	RANDOM=$pick
	seed=overlay-$pick line=
	cluster=${clusters[RANDOM % 4]}
	((RANDOM % 3)) && opts+=(extended_l2=1)
	# whole units: of a part the rest would have to come too
	step=$((cluster / 32 * (1 << RANDOM % 7)))
	[[ ${opts[*]} = *extended* ]] || step=$cluster
	opts+=(cluster=$cluster step=$step)
	((RANDOM % 3)) || opts+=(compress=1 zstd=$((RANDOM % 2)) step=$((step > cluster ? step : cluster)))
	((RANDOM % 2)) && opts+=(seed=$pick)
	make_states "$pick" 2 $((100000 + RANDOM * 50)) $((RANDOM % 2))
	line="write_image qcow2 backing=s0.raw ${opts[*]} s1.raw"
	rm -f over.qcow2
	"$WRITE" qcow2 over.qcow2 backing=s0.raw "${opts[@]}" s1.raw || fail "failed"
	check over.qcow2
	features over.qcow2
	compare s1.raw over.qcow2 qcow2
	# what lay in the backing file behind the disk's end doesn't come up
	qemu-img resize -q -f qcow2 over.qcow2 9M
	cp s1.raw grown.raw
	truncate -s 9M grown.raw
	compare grown.raw over.qcow2 qcow2
}

raw_rounds() {
	local p
	seed=raw
	make_states 7 1 3000001 0
	for p in off falloc full; do
		line="write_image raw preallocation=$p"
		"$WRITE" raw "raw.$p" preallocation=$p step=5000 seed=3 s0.raw || fail "failed"
		cmp s0.raw "raw.$p" || fail "differs"
	done
}

for ((n = SEED; n < SEED + ROUNDS; n++)); do
	one_round "$n"
	((n % 4 != 2)) || overlay_round "$n"
done
raw_rounds
echo "$ROUNDS rounds from seed $SEED: all clean"
