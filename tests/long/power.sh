# As tests/ci/power.sh, thousands of states; a round that passed is not run again (KEEPDIR), rounds FIRST to ROUNDS, with
# VARIANTS=n of each history.
. "$TOP/tests/lib.sh"
need python3 python3
need qemu-img qemu-utils
need nm binutils
work=$(mktemp -d /dev/shm/kedge-power.XXXXXX 2>/dev/null || mktemp -d "$PWD/power.XXXXXX")
trap 'rm -rf "$work"' EXIT
keep=${KEEPDIR:-$PWD}
stamp=$(cat "$KEDGE" "$TOP"/tests/power/*.py "$BUILD/preload/record.so" | sha256sum | cut -c1-16)
for round in $(seq "${FIRST:-1}" "${ROUNDS:-12}"); do
	done=$keep/round.$round.$stamp
	[ ! -f "$done" ] || { cat "$done"; continue; }
	first=$(((round - 1) * ${VARIANTS:-5}))
	rm -rf "$keep/failed"
	python3 "$TOP/tests/power/power.py" --program "$KEDGE" --library "$BUILD/preload/record.so" --work "$work" \
		--seed "$round" --variants $first-$((first + ${VARIANTS:-5} - 1)) --states 12 --every 0.006 --keep "$keep/failed" >round.out ||
		fail "round $round: $(tail -30 round.out)"
	mv round.out "$done"
	cat "$done"
done
