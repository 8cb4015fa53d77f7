# lib.sh - what scenarios share; sourced first: . "$TOP/tests/lib.sh".  They run in a fresh folder, with KEDGE the program.
set -eu -o pipefail
unset KEDGE_REPOSITORY KEDGE_PASSWORD_FILE KEDGE_PASSWORD_COMMAND
export LC_ALL=C.UTF-8 TZ=UTC XDG_CACHE_HOME=$PWD/.cache XDG_STATE_HOME=$PWD/.state

fail() {
	echo "FAILED at ${BASH_SOURCE[1]##*/}:${BASH_LINENO[0]}: $*"
	exit 1
}

skip() {	# skip PACKAGE-OR-REASON WORDS...: "SKIP: qemu-utils is not installed"
	echo "SKIP: $*"
	exit 77
}

need() {	# need TOOL PACKAGE
	command -v "$1" >/dev/null || skip "$2 (Debian package) is not installed, which has $1"
}

# exits CODE COMMAND...: stdout in the file out, stderr in err; anything but CODE is a failure.
exits() {
	local want=$1 got=0
	shift
	"$@" >out 2>err || got=$?
	[ "$got" = "$want" ] || fail "exit $got, wanted $want: $*
--- stdout: $(head -c 2000 out)
--- stderr: $(head -c 2000 err)"
}

# has FILE TEXT...: each text occurs in the file.
has() {
	local file=$1 text
	shift
	for text; do
		grep -qF -- "$text" "$file" || fail "\"$text\" is not in $file: $(head -c 2000 "$file")"
	done
}

lacks() {
	local file=$1 text
	shift
	for text; do
		! grep -qF -- "$text" "$file" || fail "\"$text\" is in $file: $(head -c 2000 "$file")"
	done
}

same() {	# same WANTED GOT WHAT
	[ "$1" = "$2" ] || fail "$3: \"$2\", wanted \"$1\""
}

digest() { sha256sum | cut -d' ' -f1; }

# The guest bytes of an image by another program: qemu_digest [-l SNAPSHOT] [-f FORMAT] IMAGE
qemu_digest() {
	rm -f .qemu.raw
	qemu-img convert -O raw "$@" .qemu.raw
	digest <.qemu.raw
	rm -f .qemu.raw
}
