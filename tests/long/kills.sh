# Killed at a random moment, two hundred times, a backup that is run again until it succeeds holds what the source held; check stays clean.
. "$TOP/tests/e2e/lib.sh"
needs jq openssl
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
