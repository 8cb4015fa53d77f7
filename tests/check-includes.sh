#!/bin/bash
# Who may include whom: the module table of docs/design.md as a check on every #include "...".
# Interfaces live low, policy above, wiring only in cli/.  A header named *_internal.h is used only inside its folder.
set -u
cd "$(dirname "$0")/.." || exit 1
bad=0

allowed() {	# allowed FROM-FOLDER HEADER
	case $2 in
	*_internal.h) [ "$(dirname "$2")" = "$1" ] ; return ;;
	base/*) return 0 ;;
	esac
	case $1 in
	base) return 1 ;;
	formats | formats/*) [[ $2 == formats/* ]] ;;
	transport | transport/*) [[ $2 == transport/* ]] ;;
	repo/ingest) [[ $2 == repo/* || $2 == formats/image.h || $2 == formats/chain.h ]] ;;
	repo) [[ ($2 == repo/* && $2 != repo/ingest/*) || $2 == transport/store.h ]] ;;
	restore) [[ $2 == restore/* || ($2 == repo/* && $2 != repo/ingest/*) || $2 == formats/image.h || $2 == formats/writer.h ]] ;;
	cli) return 0 ;;
	*) return 1 ;;
	esac
}

while IFS=: read -r file line text; do
	header=$(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' <<<"$text")
	dir=$(dirname "$file")
	case $header in
	*..* | "") echo "$file:$line: include by path from the top: $text"; bad=1 ;;
	*/*) allowed "$dir" "$header" || { echo "$file:$line: $dir/ may not include $header"; bad=1; } ;;
	*) echo "$file:$line: include by path from the top: $text"; bad=1 ;;
	esac
done < <(grep -rn --include='*.[ch]' -E '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' base formats transport repo restore cli 2>/dev/null)
exit $bad
