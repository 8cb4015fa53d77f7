# lib.sh - what end-to-end tests share beyond tests/lib.sh: a repository, points, images.  They run in a fresh folder.
. "$TOP/tests/lib.sh"
PATH=$PATH:/sbin:/usr/sbin

die() { fail "$@"; }
needs() { local t; for t in "$@"; do need "$t" "the one of make deps-test"; done; }
# expect CODE COMMAND...: its output goes to the files out and err.
expect() { exits "$@"; }
# says TEXT..., prints TEXT...: the last expect's stderr, stdout contains each.
says() { has err "$@"; }
prints() { has out "$@"; }
# equal GOT WANTED WHAT
equal() { same "$2" "$1" "$3"; }

KEY=
k() { "$KEDGE" ${KEY:+--key-file "$KEY"} "$@"; }

# A repository in ./repo, with its own state and cache; sets the environment.
fresh_repo() {
	export KEDGE_REPOSITORY=$PWD/repo KEDGE_PASSWORD_FILE=$PWD/password
	export KEDGE_STATE_DIR=$PWD/state KEDGE_CACHE_DIR=$PWD/cache
	( umask 077; echo "correct horse battery" > password )
	k -q init > recovery
}
# field FILE JQ-EXPRESSION
field() { jq -r "$2" "$1"; }

# random_at FILE OFFSET BYTES SEED: repeatable incompressible bytes.
random_at() {
	openssl enc -aes-128-ctr -nosalt -K "$(printf '%032x' "$4")" -iv 0 -in /dev/zero 2>/dev/null | head -c "$3" |
		dd of="$1" bs=64K seek="$2" oflag=seek_bytes conv=notrunc iflag=fullblock status=none || true
	[ "$(stat -c %s "$1")" -ge $(($2 + $3)) ] || die "random_at $1"
}
# image_bytes IMAGE [FORMAT]: digest of the guest content by qemu-img.
image_digest() { qemu-img convert -f "${2:-qcow2}" -O raw "$1" "$1.digest.raw" && digest < "$1.digest.raw" && rm -f "$1.digest.raw"; }
point_digest() { k cat --no-progress "$1" | digest; }
# peak_anon COMMAND...: runs it and prints the most anonymous memory it had, in KiB; its output goes to out and err.
peak_anon() {
	local pid peak=0 now code=0
	"$@" >out 2>err &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		now=$(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\).*/\1/p' /proc/$pid/status 2>/dev/null || true)
		[ "${now:-0}" -le "$peak" ] || peak=$now
		sleep 0.02
	done
	wait $pid || code=$?
	[ $code = 0 ] || { cat err >&2; die "exit $code: $*"; }
	echo "$peak"
}

# As fresh_repo, opened by a key file: no key derivation, so each command is quick.  OPTIONS go to init.
quick_repo() {
	export KEDGE_REPOSITORY=$PWD/repo KEDGE_STATE_DIR=$PWD/state KEDGE_CACHE_DIR=$PWD/cache
	( umask 077; head -c 64 /dev/urandom >key )
	KEY=$PWD/key
	k -q init "$@" >recovery
}
