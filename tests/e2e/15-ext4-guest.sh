# A real ext4 file system with real files goes in as qcow2 and comes out clean, by e2fsck, with every file as it was.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img mke2fs debugfs e2fsck
mkdir tree
cp -rL /usr/share/doc/libc6 /etc/default tree/ 2>/dev/null || true
seq 100000 > tree/numbers
truncate -s 48M guest.raw
mke2fs -q -t ext4 -d tree guest.raw
qemu-img convert -f raw -O qcow2 -c guest.raw guest.qcow2
qemu-img snapshot -c clean guest.qcow2
fresh_repo
expect 0 k backup guest.qcow2
for point in guest guest/snap:clean; do
	expect 0 k restore "$point" -o r.raw --force
	e2fsck -fn r.raw >fsck.log 2>&1 || { cat fsck.log; fail "e2fsck: $point"; }
	debugfs -R "dump /numbers got" r.raw 2>/dev/null
	cmp got tree/numbers
	cmp r.raw guest.raw
done
expect 0 k restore guest -o r.qcow2 --compress --cluster-size 4K
qemu-img check -q r.qcow2
equal "$(qemu_digest -f qcow2 r.qcow2)" "$(digest < guest.raw)" "compressed, 4K clusters"
