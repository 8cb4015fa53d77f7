#!/bin/bash
# run.sh [ci|check|long] [NAME...]: explores the model of docs/design.md 7 exhaustively, configuration by configuration,
# and then with one rule dropped at a time, which must show an error.  Prints a table and fails when a configuration has an
# error or isn't explored to its end, or when a mutation survives.
#
# ci: seconds; check: minutes, contains ci; long: what needs more memory or time, alone.  NAMEs of configurations and of
# mutations limit it to those.  JOBS=2; MEMLIM=2000 (megabytes each); BUILD=folder for what spin and gcc make; TRACE=1 prints the shortest trace found
# of each error.
#
# The verifier keeps every state (no -DBITSTATE, no hash compaction; -DCOLLAPSE, where it is used, loses nothing) and explores every order of steps: every step
# touches the store, so partial order reduction would have nothing to reduce and is off (-DNOREDUCE).
set -u
shopt -s extglob
here=$(cd "$(dirname "$0")" && pwd)
tier=${1:-check}
shift || true
case $tier in ci | check | long | one) ;; *) echo "usage: run.sh [ci|check|long] [NAME...]" >&2; exit 2 ;; esac
only=" $* "
build=${BUILD:-$here/../../build}/model
JOBS=${JOBS:-2}
mkdir -p "$build" && build=$(cd "$build" && pwd) || exit 1
command -v spin >/dev/null || { echo "spin is missing: make deps-model" >&2; exit 1; }

# name | tier | options | what it is
configurations() {
	sed 's/[[:space:]]*|[[:space:]]*/|/g; /^#/d; /^$/d' "$here/configurations"
}

# rules dropped together | tier | configuration that must break | what is dropped
mutations() {
	sed 's/[[:space:]]*|[[:space:]]*/|/g; /^#/d; /^$/d' "$here/mutations"
}

in_tier() {
	case $tier in
	ci) [ "$1" = ci ] ;;
	long) [ "$1" = long ] ;;
	*) [ "$1" != long ] ;;
	esac
}

wanted() { [ "$only" = "  " ] || [[ $only == *" $1 "* ]]; }

compile() {	# compile FOLDER OPTION...
	local dir=$1
	shift
	rm -rf "$dir"
	mkdir -p "$dir" && cd "$dir" || return 1
	local level=-O2 options=() cflags=(-DSAFETY)
	for o; do case $o in
		cycles) cflags=(-DNP) ;;
		collapse) cflags=(-DSAFETY -DCOLLAPSE) ;;
		*) options+=("$o") ;;
	esac; done
	[ "$dir" = "${dir/mutation/}" ] || level=-O0
	spin -a "${options[@]}" "$here/protocol.pml" >spin.out 2>&1 || { cat spin.out; return 1; }
	gcc $level -w -std=gnu17 -I"$here" "${options[@]}" "${cflags[@]}" -DNOREDUCE -DNOFAIR -DMEMLIM=${MEMLIM:-2000} -o pan pan.c
}

figure() { sed -nE "s/$1/\\1/p" out | tail -1; }

# explore KIND NAME OPTIONS WHAT: one line of the table, in the folder of its own
explore() {
	local kind=$1 name=$2 options=$3 what=$4 result start depth flags=(-n -m20000 -w22)
	local dir=$build/$kind.${name// /+}
	start=$(date +%s%N)
	# shellcheck disable=SC2086
	compile "$dir" $options >"$dir.log" 2>&1 || { cat "$dir.log"; echo "$name: can't be compiled"; echo "bad" >"$dir.bad"; return; }
	cd "$dir" || return
	[[ $options == *cycles* ]] && flags+=(-l)
	./pan "${flags[@]}" >out 2>&1
	depth=$(figure '.*depth reached ([0-9]+).*')
	if grep -q 'errors: 0' out && ! grep -Eq 'not completed|too small|out of memory|memory exhausted' out; then
		result=holds
	elif grep -q 'precondition false: sound' out; then
		result=BROKEN
	elif grep -q 'pan:1: invalid end state' out; then
		result=STUCK
	elif grep -q 'pan:1: non-progress' out; then
		result="ROUND AND ROUND"
	else
		result="NOT EXHAUSTED"
	fi
	rm -f "$dir.bad"
	case $kind,$result in
	config,holds | mutation,BROKEN | mutation,STUCK) ;;
	mutation,holds) result="SURVIVES"; echo bad >"$dir.bad" ;;
	*) echo bad >"$dir.bad" ;;
	esac
	[ "$kind" = config ] || name="- $name"
	printf '%-22s %10s %6s %7.1f %6.0f  %-10s %s\n' "$name" "$(figure ' *([0-9.e+]+) states, stored.*')" "$depth" \
		"$(($(date +%s%N) - start))e-9" "$(figure ' *([0-9.]+).*total actual memory usage')" "$result" "$what"
	if [ "${TRACE:-}" ] && [ -f protocol.pml.trail ]; then
		./pan -r -n 2>/dev/null | sed -nE 's/^ *((C?[0-9]|F|R|late|the) ?.*)/        \1/p'
	fi
	rm -f pan pan.[bchmpt] pan.pre ./*.trail
}

job() {	# job LINE: kind|name|options|what
	local kind name options what
	IFS='|' read -r kind name options what <<<"$1"
	explore "$kind" "$name" "$options" "$what"
}

jobs_of() {	# one line for each configuration, then for each mutation
	local name t options what rules config flags r
	while IFS='|' read -r name t options what; do
		in_tier "$t" && wanted "$name" && printf 'config|%s|%s|%s\n' "$name" "$options" "$what"
	done < <(configurations)
	while IFS='|' read -r rules t config what; do
		in_tier "$t" && wanted "$rules" || continue
		flags=$(configurations | awk -F'|' -v c="$config" '$1 == c { print $3 }')
		[ "$flags" ] || { echo "mutations: no configuration $config" >&2; echo bad >"$build/table.bad"; continue; }
		for r in $rules; do flags+=" -DNO_RULE_$r"; done
		printf 'mutation|%s|%s|%s: %s\n' "$rules" "${flags//@(cycles|collapse)/}" "$config" "$what"
	done < <(mutations)
}

if [ "$tier" = one ]; then	# run.sh one LINE: of the workers below
	job "$1"
	exit
fi
rm -f "$build"/*.bad
jobs_of >"$build/jobs"
[ -s "$build/jobs" ] || { echo "nothing to do"; exit 1; }
grep -oh '\<RULE(\w*)\|NO_RULE_\w*' "$here/protocol.pml" "$here/evaluate.h" | grep -v 'RULE(x)\|NO_RULE_x' | sed 's/NO_RULE_//; s/RULE(\(.*\))/\1/' | sort -u >"$build/rules"
mutations | cut -d'|' -f1 | tr ' ' '\n' | sort -u | comm -23 "$build/rules" - >"$build/untried"
[ ! -s "$build/untried" ] || { echo "rules without a mutation: $(tr '\n' ' ' <"$build/untried")"; echo bad >"$build/rules.bad"; }
printf '%-22s %10s %6s %7s %6s  %-10s\n' "configuration / rules" states depth seconds MB result
BUILD=$(dirname "$build") xargs -d '\n' -P "$JOBS" -n 1 "$0" one <"$build/jobs"
bad=$(find "$build" -name '*.bad' | wc -l)
echo "$(wc -l <"$build/jobs") explored, $bad wrong"
[ "$bad" = 0 ]
