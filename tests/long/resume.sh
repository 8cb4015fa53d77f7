# With 2 GiB to store and killed at half, the second run uploads at most half of it plus the packs that were open.
. "$TOP/tests/e2e/lib.sh"
needs jq openssl
quick_repo
truncate -s 3G big.raw
random_at big.raw 0 $((2 * 1073741824)) 7
stored() { du -sb repo/data 2>/dev/null | cut -f1; }
"$KEDGE" --key-file "$KEY" backup --vm big raw:big.raw >/dev/null 2>&1 &
pid=$!
while [ "$(stored || echo 0)" -lt $((1073741824 + 20000000)) ]; do kill -0 $pid || die "over before half"; sleep 0.05; done
kill -9 $pid
wait $pid 2>/dev/null || true
expect 0 k backup --vm big raw:big.raw --json
sent=$(field out .bytes_stored)
echo "killed at half; the second run sent $sent bytes"
[ "$sent" -le $((1073741824 + 2 * 33554432)) ] || die "the second run sent $sent bytes"
equal "$(point_digest big)" "$(digest < big.raw)" "content"
expect 0 k check
