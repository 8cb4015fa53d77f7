# Killed in the middle, a backup loses nothing that was committed, leaves no lock, and the next run continues (promise 2).
. "$TOP/tests/e2e/lib.sh"
needs qemu-img jq openssl
quick_repo
truncate -s 300M big.raw
random_at big.raw 0 280000000 7
truncate -s 2M small.raw
random_at small.raw 0 1000000 8
expect 0 k backup --vm small raw:small.raw
stored() { du -sb repo/data | cut -f1; }
"$KEDGE" --key-file "$KEY" backup --vm big raw:big.raw >/dev/null 2>&1 &
pid=$!
for i in $(seq 600); do [ "$(stored)" -lt 140000000 ] || break; kill -0 $pid 2>/dev/null || break; sleep 0.05; done
kill -9 $pid 2>/dev/null || die "the backup was over before it could be killed"
wait $pid 2>/dev/null || true
half=$(stored)
equal "$(k list --json | jq length)" 1 "listed after the kill"
equal "$(point_digest small)" "$(digest < small.raw)" "the other backup"
expect 0 k backup --vm big raw:big.raw --json
sent=$(field out .bytes_stored)
[ "$sent" -le $((285000000 - half + 2 * 36000000 + 2000000)) ] || die "after $half bytes were stored the second run sent $sent"
equal "$(point_digest big)" "$(digest < big.raw)" "after the kill"

# a polite end (SIGTERM; a shell's background jobs ignore SIGINT): exits with 130, saves what it has
random_at big.raw 0 280000000 9
"$KEDGE" --key-file "$KEY" backup --vm big raw:big.raw >out 2>err &
pid=$!
before=$(stored)
for i in $(seq 600); do [ "$(stored)" -lt $((before + 100000000)) ] || break; sleep 0.05; done
kill -TERM $pid
code=0; wait $pid || code=$?
equal $code 130 "exit after SIGTERM"
equal "$(k list --json | jq length)" 2 "listed after SIGTERM"
got=$(( $(stored) - before ))
expect 0 k backup --vm big raw:big.raw --json
[ "$(field out .bytes_stored)" -le $((285000000 - got + 36000000)) ] || die "SIGTERM saved nothing"
equal "$(point_digest big)" "$(digest < big.raw)" "after SIGTERM"
expect 0 k check
