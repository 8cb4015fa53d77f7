# Killed before and after every call that matters, and at random moments: what is committed restores, and the next run succeeds.
# PART=N runs at most N kills of each command and kind, KILLS=N that many at random moments.
. "$TOP/tests/e2e/lib.sh"
needs jq openssl qemu-img python3

# --- every call, in a loop until a run has no kill left -------------------------------------------------------------------
device=
if [ "$(id -u)" = 0 ] && truncate -s 4M device.img && device=$(losetup --find --show device.img 2>/dev/null); then
	trap 'losetup -d "$device"' EXIT
fi
python3 "$TOP/tests/faults/kill.py" --part "${PART:-0}" ${device:+--device "$device"}
python3 "$TOP/tests/faults/kill.py" --changes --plain --part "${PART:-0}"

# --- random moments of a backup of 400 MB: run again until it succeeds, it holds what the source held --------------------------
fresh_repo
truncate -s 600M disk.raw
random_at disk.raw 0 400000000 1
for i in $(seq "${KILLS:-200}"); do
	random_at disk.raw $((i * 1000003 % 400000000)) 30000000 "$i"
	while :; do
		"$KEDGE" backup --vm d raw:disk.raw >/dev/null 2>&1 &
		pid=$!
		sleep "0.$((RANDOM % 10))$((RANDOM % 10))"
		if kill -9 $pid 2>/dev/null; then wait $pid 2>/dev/null || true; else wait $pid && break; fi
		[ $((RANDOM % 4)) -ne 0 ] || { expect 0 k backup --vm d raw:disk.raw; break; }
	done
	equal "$(point_digest d)" "$(digest < disk.raw)" "round $i"
	[ $((i % 20)) -ne 0 ] || expect 0 k check --read-data
done
