# Block devices: raw without being asked, and named by an image only where --allow-path says so.
. "$TOP/tests/lib.sh"
need losetup mount
need qemu-img qemu-utils
[ "$(id -u)" = 0 ] || skip root: loop devices need it

head -c $((3 * 1024 * 1024)) /dev/urandom >disk.img
loop=$(losetup --find --show disk.img 2>losetup.err) || skip root: no loop device: "$(cat losetup.err)"
trap 'losetup -d "$loop"' EXIT

exits 0 "$KEDGE" dump --no-progress "$loop"
same "$(digest <disk.img)" "$(digest <out)" "device as raw"
exits 0 "$KEDGE" map "$loop"
has out "3145728  data"
exits 0 "$KEDGE" info --json "$loop"
has out '"raw"' 3145728

# An image that names a device: a guest could have written that reference.
qemu-img create -q -f qcow2 -u -b "$loop" -F raw over.qcow2 3M
exits 1 "$KEDGE" dump --sink null over.qcow2
has err "outside the image's folder" "--allow-path /dev"
exits 0 "$KEDGE" dump --no-progress --allow-path /dev over.qcow2
same "$(digest <disk.img)" "$(digest <out)" "overlay over the device"
ln -s "$loop" here.img
qemu-img create -q -f qcow2 -u -b here.img -F raw over.qcow2 3M
exits 1 "$KEDGE" dump --sink null over.qcow2
has err "--allow-path /dev"

# An image on a device, as with LVM, is read when its format is given; without, a device is raw.
qemu-img create -q -f qcow2 small.qcow2 1M
qemu-io -f qcow2 -c 'write -P 3 0 64k' small.qcow2 >/dev/null
dd if=small.qcow2 of="$loop" conv=notrunc,fsync status=none
exits 0 "$KEDGE" dump --no-progress "qcow2:$loop"
same "$(qemu_digest small.qcow2)" "$(digest <out)" "qcow2 on the device"
exits 0 "$KEDGE" dump --no-progress "$loop"
same 3145728 "$(wc -c <out)" "device as raw"

# A device that is mounted can be written to without a trace: the backup warns.
export KEDGE_REPOSITORY=$PWD/repo
( umask 077; head -c 64 /dev/urandom >key )
"$KEDGE" -q --key-file key init >recovery
exits 0 "$KEDGE" --key-file key backup --vm dev "$loop"
lacks err mounted
mke2fs -q -F "$loop"
mkdir mnt
mount "$loop" mnt
exits 0 "$KEDGE" --key-file key backup --vm dev "$loop"
umount mnt
has err "mounted" "lvcreate -s"
