# A disk that nobody has touched since its last backup is not read again, by whatever way it could have been touched
# (docs/design.md, 5).  KEDGE_TEST_TIME_OFFSET takes the place of waiting: kedge's clock runs ahead of the files' times.
. "$TOP/tests/e2e/lib.sh"
needs jq qemu-img qemu-io python3
export KEDGE_TEST_TIME_OFFSET=10
quick_repo
case $(stat -f -c %T .) in
ext2/ext3 | xfs | btrfs) ;;
*)	# elsewhere it is read each night
	random_at a.raw 0 3000000 1
	for n in 1 2; do
		export KEDGE_TEST_TIME_OFFSET=${n}0
		expect 0 k backup --vm a raw:a.raw --json --audit off
		[ "$(field out .bytes_read)" -ge 3000000 ] || die "$(stat -f -c %T .): times are not believed here, but night $n read nothing"
	done
	skip "file-system $(stat -f -c %T . | head -1): the times of files are believed on ext4, XFS and Btrfs only" ;;
esac

# night VM IMAGE OPTION...: one more night, ten seconds later; `how` and `read` of the current state.
night() {
	KEDGE_TEST_TIME_OFFSET=$((KEDGE_TEST_TIME_OFFSET + 10))
	expect 0 k backup --vm "$1" "${2:?}" --json --audit off "${@:3}"
	how=$(field out '.states[] | select(.kind == "current") | .disks[0].how')
	read=$(field out .bytes_read)
}
# unread VM IMAGE, read_again VM IMAGE WHY: the next night does (not) read the current state; it holds what the image does.
unread() {
	night "$@"
	equal "$how $read" "same 0" "$1: a night without a change"
	[ "$(field out '.disks[0].bytes_unchanged')" -gt 0 ] || die "$1: nothing is called unchanged"
	right "$@"
}
read_again() {
	night "$1" "$2"
	[ "$how" != same ] && [ "$read" -gt 0 ] || die "$1: $3: the night after did not read it ($how, $read bytes)"
	right "$1" "$2"
}
right() { equal "$(point_digest "$1")" "$(qemu_digest -U -f "${2%%:*}" "${2#*:}")" "$1: the point"; }

truncate -s 16M a.raw
random_at a.raw 0 3000000 1
night a raw:a.raw
equal "$how" full "the first night"
unread a raw:a.raw
unread a raw:a.raw
KEDGE_TEST_TIME_OFFSET=$((KEDGE_TEST_TIME_OFFSET + 10))
expect 0 k backup --vm a raw:a.raw
says "current: same as a@" "nothing to read" "same (nothing, it is stored already): 0 B read"
expect 0 k backup --vm a raw:a.raw --dry-run --json
equal "$(field out '"\(.states[0].how) \(.states[0].bytes_max)"')" "same 0" "a dry run"

# --- what is written, and how it may try to hide -----------------------------------------------------------------------
poke() { printf "$2" | dd of="$1" bs=1 seek="$3" conv=notrunc status=none; }
poke a.raw x 1000
read_again a raw:a.raw "one byte written in place"
unread a raw:a.raw
touch -r a.raw stamp
poke a.raw y 1000
touch -r stamp a.raw
equal "$(stat -c %y a.raw)" "$(stat -c %y stamp)" "the time that was put back"
read_again a raw:a.raw "written, and the time put back"
cp --preserve a.raw b.raw
poke b.raw z 2000
touch -r a.raw b.raw
cp --preserve b.raw a.raw
read_again a raw:a.raw "another file copied over it with its times"
unread a raw:a.raw
poke b.raw z 3000
touch -r a.raw b.raw
mv b.raw a.raw
read_again a raw:a.raw "another file renamed over it"
unread a raw:a.raw
fallocate -p -o 65536 -l 65536 a.raw
read_again a raw:a.raw "a hole punched"
unread a raw:a.raw
truncate -s 15M a.raw; truncate -s 16M a.raw
read_again a raw:a.raw "cut and grown again"

# --- somebody has it open for writing -----------------------------------------------------------------------------------
unread a raw:a.raw
exec 8<>a.raw
read_again a raw:a.raw "open for writing"
exec 8>&-
night a raw:a.raw		# that night could not vouch for it; the one before can
equal "$how $read" "same 0" "closed, without a write"
coproc mapped { python3 -c '
import mmap, sys
f = open("a.raw", "r+b")
m = mmap.mmap(f.fileno(), 0)
f.close()
m[5000:5001] = b"1"
for line in sys.stdin:
    m[5001:5002] = line[:1].encode()
    print("done", flush=True)
'; }
pid=$mapped_PID
for _ in $(seq 100); do grep -q a.raw /proc/$pid/maps && break; sleep 0.05; done
echo 2 >&"${mapped[1]}"; read -r done <&"${mapped[0]}"
for _ in $(seq 10); do		# after any writeback, which others may ask for, a write sets a time once more
	read_again a raw:a.raw "mapped, and written to"
	was=$(stat -c %z a.raw)
	echo 3 >&"${mapped[1]}"; read -r done <&"${mapped[0]}"
	[ "$(stat -c %z a.raw)" != "$was" ] || break
done
equal "$(stat -c %z a.raw)" "$was" "the change time, which a second write to a page does not set"
read_again a raw:a.raw "mapped, and written to without a new time"
echo 4 >&"${mapped[1]}"; read -r done <&"${mapped[0]}"
exec {mapped[1]}>&-
wait $pid
read_again a raw:a.raw "written through a mapping that is gone"
unread a raw:a.raw

# --- time -----------------------------------------------------------------------------------------------------------------
# Written less than 2 s before a night: neither that night nor the next one believes its times.
offset=$KEDGE_TEST_TIME_OFFSET
poke a.raw 4 7000
KEDGE_TEST_TIME_OFFSET=0
expect 0 k backup --vm t raw:a.raw --json --audit off
KEDGE_TEST_TIME_OFFSET=10
read_again t raw:a.raw "written just before the night"
unread t raw:a.raw
# kedge's clock is behind: the file changed in the future, as it seems
KEDGE_TEST_TIME_OFFSET=-100
read_again t raw:a.raw "a clock that was set back"
KEDGE_TEST_TIME_OFFSET=$offset
night a raw:a.raw
unread a raw:a.raw
# A host that started anew may have lost a change time in a crash, and kept the bytes.
KEDGE_TEST_BOOT_ID=00000000-0000-0000-0000-000000000001 read_again a raw:a.raw "another start of the host"
KEDGE_TEST_BOOT_ID=none read_again a raw:a.raw "a host that doesn't say when it started"

# --- images with snapshots, chains --------------------------------------------------------------------------------------
truncate -s 16M q.raw
random_at q.raw 0 3000000 3
qemu-img convert -f raw -O qcow2 q.raw q.qcow2
qemu-img snapshot -c one q.qcow2
qemu-io -f qcow2 -c 'write -q -P 7 8M 128k' q.qcow2
night q qcow2:q.qcow2
unread q qcow2:q.qcow2
qemu-img snapshot -c two q.qcow2
qemu-img snapshot -d two q.qcow2
night q qcow2:q.qcow2
equal "$how" snapshot "after a snapshot that came and went"
unread q qcow2:q.qcow2
qemu-io -r -f qcow2 -c 'read -q 0 64k' q.qcow2
unread q qcow2:q.qcow2
qemu-img create -q -f qcow2 -b q.qcow2 -F qcow2 mid.qcow2
qemu-io -f qcow2 -c 'write -q -P 8 4M 128k' mid.qcow2
qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2
qemu-io -f qcow2 -c 'write -q -P 9 5M 1M' top.qcow2
night c qcow2:top.qcow2
unread c qcow2:top.qcow2
touch mid.qcow2
read_again c qcow2:top.qcow2 "a layer in the middle touched"
unread c qcow2:top.qcow2
qemu-io -f qcow2 -c 'write -q -P 10 5M 64k' top.qcow2
night c qcow2:top.qcow2
equal "$how $((read <= 1048576 + 131072))" "layer 1" "the top written to: it alone is read"
right c qcow2:top.qcow2

# --- to be read all the same ----------------------------------------------------------------------------------------------
night c qcow2:top.qcow2 --full-read
equal "$(field out '[.states[].disks[0].how] | unique | join(" ")')" full "--full-read"
equal "$(field out .bytes_new)" 0 "what --full-read stored"
[ "$read" -ge $((3 * 3000000)) ] || die "--full-read read $read bytes"
unread c qcow2:top.qcow2
expect 0 k backup --vm c top.qcow2 --json
[ "$(field out '.disks[0].bytes_audited')" -ge 4000000 ] || die "of what was called unchanged $(field out '.disks[0].bytes_audited') bytes were audited"

# Storage that changes bytes and not times: the audit finds it, and the disk is read.
case $BUILD in */release | */debug)	# sanitizers want to be loaded first
	expect 0 env KEDGE_TEST_TIME_OFFSET=$((KEDGE_TEST_TIME_OFFSET + 10)) "$KEDGE" --key-file "$KEY" backup --vm c top.qcow2
	old=$(stat -c %i top.qcow2):$(stat -c %.9Y top.qcow2 | tr -d .):$(stat -c %.9Z top.qcow2 | tr -d .)
	at=$("$KEDGE" map --json top.qcow2 | jq '[.[] | select(.kind == "data" and .layer == 0)][0].host')
	poke top.qcow2 changed $((at + 1000))
	KEDGE_TEST_TIME_OFFSET=$((KEDGE_TEST_TIME_OFFSET + 20))
	late() { env LD_PRELOAD="$BUILD/preload/oldtimes.so" KEDGE_OLD_TIMES="$old" "$KEDGE" --key-file "$KEY" backup --vm c top.qcow2 --json "$@"; }
	expect 0 late --audit off
	equal "$(field out '.disks[0].how')" same "without an audit"
	expect 5 late --audit 100%
	equal "$(field out '"\(.complete) \(.claim_false) \(.disks[0].how)"')" "true true full" "after a false claim"
	says "is not" "the whole disk was read"
	right c qcow2:top.qcow2 ;;
esac
expect 0 k check --read-data
