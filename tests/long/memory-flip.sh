# Bad memory: 1,000 backups, in each of which one bit of one buffer flips.  What is done is kept in KEEPDIR.
. "$TOP/tests/lib.sh"
need qemu-io qemu-utils
/usr/bin/python3 -c 'import nacl, zstandard' 2>/dev/null || skip "python3-nacl and python3-zstandard (make deps-test) are needed"
RUNS=${RUNS:-1000} PIECE=${PIECE:-250}
dir=${KEEPDIR:-$PWD/keep}/$(cat "$KEDGE" "$TOP"/tests/rot/*.py "$TOP/tests/preload/flip.c" | sha256sum | cut -c1-16)
mkdir -p "$dir"
for ((n = 0; n < RUNS; n += PIECE)); do
	[ ! -e "$dir/$n.done" ] || continue
	/usr/bin/python3 "$TOP/tests/rot/memory_flip.py" --kedge "$KEDGE" --preload "$BUILD/preload/flip.so" --dir "$dir/work" --seed "${SEED:-1}" \
		--from $n --runs $((n + PIECE < RUNS ? n + PIECE : RUNS)) >"$dir/$n.log" || { cat "$dir/$n.log"; fail "runs from $n"; }
	mv "$dir/$n.log" "$dir/$n.done"
done
cat "$dir"/*.done | awk '$1 == "all" { n[$2 (NF > 3 ? " " $3 : "")] += $NF } /runs,/ { c += $1; f += $3 } END { for (k in n) print k ":", n[k]; print c, "runs,", f, "failed" }'
