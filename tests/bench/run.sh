#!/bin/bash
# run.sh - measure kedge beside restic, borg and qemu-img on a corpus of VM disks; see tests/bench/README.md.
#
# From the top folder: CORPUS=DIR [ROUNDS=n] [ONLY="SECTION..."] [TOOLS="NAME..."] [VMS="NAME..."] [KINDS=TEXT] [ADD=1] [SYNC=own] tests/bench/run.sh
set -euo pipefail
{	# read whole before it runs: it may be edited in the meantime
export LC_ALL=C.UTF-8
top=$PWD
here=$top/tests/bench
[ -n "${CORPUS:-}" ] || { echo "run.sh: CORPUS=DIR must name what tests/bench/make-corpus.sh has made" >&2; exit 2; }
[ -s "$CORPUS/SHA256.tsv" ] || { echo "run.sh: $CORPUS has no SHA256.tsv: tests/bench/make-corpus.sh $CORPUS full" >&2; exit 2; }
corpus=$(cd "$CORPUS" && pwd)
out=$top/build/bench
mkdir -p "$out"
"$here/peers.sh" "$out/peers"
case ${SYNC:-apart} in
apart) gcc -O2 -o "$out/nosync" "$here/nosync.c"; nosync=$out/nosync ;;
own) nosync= ;;
*) echo "run.sh: SYNC is apart (default) or own" >&2; exit 2 ;;
esac
gcc -O2 -o "$out/pages" "$here/pages.c"
gcc -D_GNU_SOURCE -O2 -fPIC -shared -o "$out/reads.so" "$here/reads.c" -ldl
# Figures of different corpora never meet in one table.
results=$out/results/$(sha256sum <"$corpus/SHA256.tsv" | cut -c1-8)
# A build in the meantime must not change what is measured.
cp -f "$top/build/kedge" "$out/kedge.$$"
trap 'rm -f "$out/kedge.$$"' EXIT
python3 "$here/bench.py" --corpus "$corpus" --work "${WORK:-$out/work}" --results "${RESULTS:-$results}" \
	--peers "$out/peers" --kedge "$out/kedge.$$" --nosync "$nosync" --counter "$out/reads.so" --pages "$out/pages" \
	--only "${ONLY:-}" --rounds "${ROUNDS:-3}" \
	--tools "${TOOLS:-}" --vms "${VMS:-}" --kinds "${KINDS:-}" ${ADD:+--add} --report "$out/benchmarks.md"
exit
}
