# Rot, all of it: every object truncated at every structure, swapped, deleted, and 10,000 bit flips.  What is done is kept
# in KEEPDIR, so that an interrupted run goes on.
. "$TOP/tests/lib.sh"
need qemu-io qemu-utils
/usr/bin/python3 -c 'import nacl, zstandard' 2>/dev/null || skip "python3-nacl and python3-zstandard (make deps-test) are needed"
FLIPS=${FLIPS:-10000} PIECE=${PIECE:-1000}
dir=${KEEPDIR:-$PWD/keep}/$(cat "$KEDGE" "$TOP"/tests/rot/*.py | sha256sum | cut -c1-16)
mkdir -p "$dir"
rot() { /usr/bin/python3 "$TOP/tests/rot/rot.py" --kedge "$KEDGE" --dir "$dir" --seed "${SEED:-1}" "$@"; }

piece() {	# piece NAME OPTIONS...
	[ ! -e "$dir/$1.done" ] || return 0
	rot "${@:2}" >"$dir/$1.log" || { cat "$dir/$1.log"; fail "$1"; }
	mv "$dir/$1.log" "$dir/$1.done"
}

piece swap --parts swap,delete,scenario
piece truncate --parts truncate
for ((n = 0; n < FLIPS; n += PIECE)); do
	piece "flips-$n" --parts flips --from $n --flips $((n + PIECE < FLIPS ? n + PIECE : FLIPS))
done
cat "$dir"/*.done | awk '$1 == "all" { n[$2 " " $3] += $4 } /cases,/ { c += $1; f += $3 } END { for (k in n) print k, n[k]; print c, "cases,", f, "failed" }'
