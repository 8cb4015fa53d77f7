#!/bin/bash
# run.sh ITEM...: runs tests and ends with "N passed, N failed, N skipped"; fails when one failed.
#
# An item is a program (build/VARIANT/unit/test_x, build/VARIANT/replay/fuzz_x), a scenario (tests/cli/x.sh; with the
# program of another variant asan:tests/cli/x.sh) or make:TARGET.  Each runs in a fresh folder TESTDIR, removed afterwards, with a time limit, JOBS at a time, and gets
# KEDGE (the program), BUILD (the variant's folder) and TOP (the source folder).  Exit 77 is a skip; the last output line
# that starts with "SKIP:" says why.  Under CI (CI set) a skip is a failure unless its first word after "SKIP:" is in
# KEDGE_SKIP_OK (default "KVM root page-cache file-system").
#
# JOBS=2, LIMIT=120 (seconds), ONLY=text, KEEP=folder (keep results there; what passed is not run again until the program
# or the script changes; scenarios get KEEPDIR, which stays).
set -u
TOP=$(cd "$(dirname "$0")/.." && pwd)
cd "$TOP" || exit 1
export TOP
JOBS=${JOBS:-2} LIMIT=${LIMIT:-120} ONLY=${ONLY:-} KEEP=${KEEP:-}
SKIP_OK=" ${KEDGE_SKIP_OK-KVM root page-cache file-system} "
work=$(mktemp -d "${TMPDIR:-/tmp}/kedge-check.XXXXXX") || exit 1
work=$(cd "$work" && pwd -P)
trap 'chmod -R u+rwX "$work" 2>/dev/null; rm -rf "$work"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM

name_of() {
	case $1 in
	build/*/replay/fuzz_*) echo "${1#build/}" | sed 's|/replay/fuzz_| fuzz corpus |' ;;
	build/*/unit/*) echo "${1#build/}" | sed 's|/unit/| |' ;;
	make:*) echo "${1#make:}" ;;
	asan:* | tsan:* | debug:*) echo "${1%%:*} ${1#*:tests/}" ;;
	*) echo "${1#tests/}" ;;
	esac
}

command_of() {	# runs the item; the variant's folder is known by its path
	local item=$1
	export BUILD=$TOP/build/release
	case $item in
	build/*) BUILD=$TOP/$(echo "$item" | cut -d/ -f1-2) ;;
	asan:* | tsan:* | debug:*) BUILD=$TOP/build/${item%%:*} item=${item#*:} ;;
	esac
	export KEDGE=$BUILD/kedge
	case $item in
	make:*) exec make --no-print-directory -s -C "$TOP" "${item#make:}" ;;
	build/*/replay/*) exec "$TOP/$item" "$TOP/tests/fuzz/corpus/${item##*/fuzz_}" ;;
	*.sh) cd "$TESTDIR" && exec bash "$TOP/$item" ;;
	*) cd "$TESTDIR" && exec "$TOP/$item" ;;
	esac
}

run_one() {	# run_one NUMBER ITEM: leaves result, seconds and output in $work/NUMBER.*
	local n=$1 item=$2 start end rc stamp=
	export TESTDIR=$work/dir.$n
	if [ -n "$KEEP" ]; then
		export KEEPDIR=$TOP/$KEEP/$(basename "$item" .sh)
		mkdir -p "$KEEPDIR"
		stamp=$(cat "$TOP/$item" "$TOP/build/release/kedge" | sha256sum)
		if [ "$(cat "$KEEPDIR/passed" 2>/dev/null)" = "$stamp" ]; then
			echo "passed before, nothing changed" >"$work/$n.out"
			echo "0 0" >"$work/$n.rc"
			return
		fi
	fi
	mkdir -p "$TESTDIR"
	start=$(date +%s%N)
	(command_of "$item") </dev/null >"$work/$n.out" 2>&1 &
	local pid=$! waited=0
	( sleep "$LIMIT" && { echo "time limit of $LIMIT s" >>"$work/$n.out"; kill_tree $pid; } ) >/dev/null 2>&1 &
	local guard=$!
	wait $pid
	rc=$?
	pkill -P $guard 2>/dev/null
	kill $guard 2>/dev/null
	wait $guard 2>/dev/null
	end=$(date +%s%N)
	chmod -R u+rwX "$TESTDIR" 2>/dev/null
	rm -rf "$TESTDIR"
	[ -z "$stamp" ] || { cp "$work/$n.out" "$KEEPDIR/output"; [ $rc -ne 0 ] || echo "$stamp" >"$KEEPDIR/passed"; }
	echo "$rc $(((end - start) / 10000000))" >"$work/$n.rc"
}

kill_tree() {
	local child
	for child in $(pgrep -P "$1"); do kill_tree "$child"; done
	kill -9 "$1" 2>/dev/null
}

passed=0 failed=0 skipped=0
report() {	# report NUMBER ITEM
	local rc cs name why verdict
	read -r rc cs <"$work/$1.rc"
	name=$(name_of "$2")
	why=$(grep '^SKIP:' "$work/$1.out" | tail -1)
	case $rc in
	0) verdict=PASS; passed=$((passed + 1)) ;;
	77)
		verdict=SKIP
		local word=${why#SKIP:}
		read -r word _ <<<"$word"
		if [ -n "${CI:-}" ] && [[ $SKIP_OK != *" ${word%:} "* ]]; then
			verdict=FAIL
			why="skipped under CI: ${why:-no reason given}"
			failed=$((failed + 1))
		else
			skipped=$((skipped + 1))
		fi
		;;
	*) verdict=FAIL; failed=$((failed + 1)) ;;
	esac
	printf '%s %4d.%02d s  %s%s\n' $verdict $((cs / 100)) $((cs % 100)) "$name" "${why:+  ($why)}"
	if [ $verdict = FAIL ]; then
		echo "--- exit $rc, output (last 60 lines) of $name:"
		tail -n 60 "$work/$1.out" | sed 's/^/    /'
	fi
}

items=()
for item; do
	[[ -z $ONLY || $(name_of "$item") == *"$ONLY"* ]] && items+=("$item")
done

began=$(date +%s)
next=0 reported=0
declare -A running=()
while [ $reported -lt ${#items[@]} ]; do
	while [ $next -lt ${#items[@]} ] && [ ${#running[@]} -lt "$JOBS" ]; do
		run_one $next "${items[next]}" &
		running[$next]=$!
		next=$((next + 1))
	done
	wait -n "${running[@]}" 2>/dev/null
	for n in "${!running[@]}"; do
		[ -f "$work/$n.rc" ] || kill -0 "${running[$n]}" 2>/dev/null || echo "1 0" >"$work/$n.rc"
		if [ -f "$work/$n.rc" ]; then
			wait "${running[$n]}" 2>/dev/null
			report "$n" "${items[n]}"
			unset "running[$n]"
			reported=$((reported + 1))
		fi
	done
done
echo "time: $(($(date +%s) - began)) s"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
