# backup and dump leave the host's page cache as found: what was cached stays, what it brought in goes.
. "$TOP/tests/lib.sh"
need fincore util-linux
need python3 python3
need qemu-img qemu-utils
need openssl openssl
export KEDGE_REPOSITORY=$PWD/repo
( umask 077; head -c 64 /dev/urandom > key )
"$KEDGE" -q --key-file key init >recovery
k() { "$KEDGE" --key-file "$PWD/key" backup --audit off --full-read --json "$@"; }
cached() { fincore -n -b -o RES "$1" | tr -d ' '; }
drop() { sync "$1"; dd of="$1" oflag=nocache conv=notrunc,fdatasync count=0 status=none; }

truncate -s 80M a.raw
openssl enc -aes-128-ctr -nosalt -K 0a -iv 0 -in /dev/zero 2>/dev/null | head -c 70000000 | dd of=a.raw conv=notrunc status=none || true
qemu-img convert -f raw -O qcow2 a.raw b.qcow2
sync a.raw b.qcow2
drop a.raw
python3 - <<'EOF' || skip "page-cache: a file system that knows RWF_NOWAIT"
import errno, os, sys
try:
    os.preadv(os.open("a.raw", os.O_RDONLY), [bytearray(1)], 0, os.RWF_NOWAIT)
except OSError as e:
    sys.exit(e.errno != errno.EAGAIN)
EOF
dump() { "$KEDGE" dump --sink null "$@"; }
for image in raw:a.raw qcow2:b.qcow2; do
	f=${image#*:}
	for reader in k dump; do
		drop "$f"
		[ "$(cached "$f")" -lt 1000000 ] || skip "a file system that gives pages back"
		exits 0 $reader "$image"
		left=$(cached "$f")
		[ "$left" -lt 10000000 ] || fail "$reader: $f: $left bytes were left in the page cache"
		cat "$f" >/dev/null
		all=$(cached "$f")
		exits 0 $reader "$image"
		left=$(cached "$f")
		[ "$left" -ge $((all - 1000000)) ] || fail "$reader: $f: of $all cached bytes $left were left"
	done
done

# What is stored does not stay either; the packs are most of it.
packs=0
for f in $(find repo/data -type f -size +2M); do
	packs=$((packs + $(stat -c %s "$f")))
	left=$(cached "$f")
	[ "$left" -lt 1000000 ] || fail "$f: $left bytes were left in the page cache"
done
[ "$packs" -ge 60000000 ] || fail "only $packs bytes in packs"
