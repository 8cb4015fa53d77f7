# Every allocation, open, read, write, fsync, rename... of every command fails once, and in other ways: a clear error with the right
# exit code or a right result, and nothing lost.  PART=N runs at most N cases of each command, class and fault.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img python3
device=
if [ "$(id -u)" = 0 ] && truncate -s 4M device.img && device=$(losetup --find --show device.img 2>/dev/null); then
	trap 'losetup -d "$device"' EXIT
fi
code=0
python3 "$TOP/tests/faults/fail.py" --part "${PART:-0}" ${device:+--device "$device"} || code=$?
[ -z "${KEEPDIR:-}" ] || cp messages "$KEEPDIR/"
exit $code
