# Every fuzzer for half an hour (FUZZ_SECONDS), one after the other; corpora stay in build/fuzz/corpus, finished ones are not run again.
. "$TOP/tests/lib.sh"
need clang clang
for f in "$TOP"/tests/fuzz/fuzz_*.c; do
	n=$(basename "$f" .c)
	n=${n#fuzz_}
	[ ! -f "${KEEPDIR:-.}/fuzzed-$n" ] || continue
	make -C "$TOP" --no-print-directory fuzz FUZZ="$n" FUZZ_SECONDS="${FUZZ_SECONDS:-1800}" || fail "fuzz_$n: see build/fuzz/crashes"
	: > "${KEEPDIR:-.}/fuzzed-$n"
done
