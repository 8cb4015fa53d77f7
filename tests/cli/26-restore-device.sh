# Restoring onto a block device: refused before the first byte when it is mounted, too small or not forced; then every byte of the
# disk, zeros included, stands where the old content was, and nothing behind it changes.
. "$TOP/tests/e2e/lib.sh"
needs losetup mount mkfs.ext4 jq
[ "$(id -u)" = 0 ] || skip root: loop devices need it
quick_repo
truncate -s 4M disk.raw
random_at disk.raw 100000 200000 1
random_at disk.raw 3000000 65536 2
expect 0 k -q backup --vm v raw:disk.raw
truncate -s $((4 * 1048576 + 512)) odd.raw
random_at odd.raw 4194304 512 3
expect 0 k -q backup --vm odd raw:odd.raw

old() { head -c "$1" /dev/zero | tr '\0' '\377'; }
old 6M >dev.img
loop=$(losetup --find --show dev.img 2>losetup.err) || skip root: no loop device: "$(cat losetup.err)"
trap 'umount "$PWD/mnt" 2>/dev/null || true; losetup -d "$loop"' EXIT
content() { dd if="$loop" bs=1M iflag=direct status=none | digest; }
before=$(content)

expect 1 k restore v -o "$loop"
says "$loop exists" "--force overwrites the device"
expect 2 k restore v -o "$loop" --force -O qcow2
expect 2 k restore v -o "$loop" --force --compress
expect 2 k restore v -o "$loop" --force --with-snapshots
equal "$(content)" "$before" "a device that was refused"

# onto old content
expect 0 k restore v -o "$loop" --force
says "disk disk0: $loop, raw, 4.0 MiB"
equal "$(dd if="$loop" bs=1M count=4 iflag=direct status=none | digest)" "$(digest <disk.raw)" "the device"
equal "$(dd if="$loop" bs=1M skip=4 iflag=direct status=none | digest)" "$(old 2M | digest)" "what lies behind the disk"
[ "$(du -k dev.img | cut -f1)" -lt 4000 ] || die "zeros were not given back: $(du -k dev.img)"
expect 0 k restore odd -o "$loop" -f --threads 1 --memory 16M
equal "$(head -c 4194816 "$loop" | digest)" "$(digest <odd.raw)" "a disk that is no whole chunk"

expect 1 k restore v -o "$loop" -f --preallocation full
says "cannot be preallocated"

# volumes are known by links
ln -s "$loop" volume
old 6M >"$loop"
expect 1 k restore v -o volume
says "overwrites the device"
expect 0 k restore v -o volume -f
[ -L volume ] || die "the link to the device was replaced"
equal "$(dd if="$loop" bs=1M count=4 iflag=direct status=none | digest)" "$(digest <disk.raw)" "the device behind a link"

# a device is read as raw, and in full each night
old 6M >"$loop"
expect 0 k backup --vm dev "$loop"
says "block device: it is read in full each night"
equal "$(point_digest dev)" "$(old 6M | digest)" "a device backed up"

# too small
truncate -s 2M small.img
small=$(losetup --find --show small.img)
before=$(digest <small.img)
got=0
k restore v -o "$small" --force >out 2>err || got=$?
losetup -d "$small"
equal $got 1 "exit of a restore onto a device that is too small"
says "$small" 2097152 4194304
equal "$(digest <small.img)" "$before" "a device that is too small"

# mounted
mkfs.ext4 -q -F "$loop"
mkdir mnt
mount "$loop" mnt
echo precious >mnt/file
sync
before=$(content)
expect 11 k restore v -o "$loop" --force
says "$loop" mounted
equal "$(content)" "$before" "a mounted device"
equal "$(cat mnt/file)" precious "a file on a mounted device"
umount mnt
expect 0 k restore v -o "$loop" --force

# a damaged point leaves no doubt: exit 4, and says so
mv repo/data gone; mkdir repo/data
expect 4 k restore v -o "$loop" --force
says "guest bytes"
