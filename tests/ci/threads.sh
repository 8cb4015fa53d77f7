# Every command that works in parallel, at 4 and 16 threads, on disks large enough that all of them have work; the same bytes come out.
# Under TSan (make check-ci) this and concurrent.sh are what finds a race.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io
quick_repo
truncate -s 64M d.raw
random_at d.raw 0 12000000 1
seq 4000000 | dd of=d.raw bs=1M seek=20 conv=notrunc status=none
want=$(digest <d.raw)
qemu-img convert -c -O qcow2 d.raw packed.qcow2
qemu-img convert -O qcow2 d.raw plain.qcow2
qemu-img snapshot -c before plain.qcow2
for n in 4 16; do
	expect 0 k -q backup --vm packed-$n packed.qcow2 --threads $n
	qemu-io -c "write -P $n 30M 3M" plain.qcow2 >/dev/null
	expect 0 k -q backup --vm plain plain.qcow2 --threads $n --audit 20%
	expect 0 k -q check --read-data --threads $n
	expect 0 k -q restore packed-$n -o out.raw -f --threads $n
	equal "$(digest <out.raw)" "$want" "restored by $n threads"
	expect 0 k -q restore plain -o out.qcow2 -f --threads $n --compress
	equal "$(image_digest out.qcow2)" "$(image_digest plain.qcow2)" "restored and compressed by $n threads"
	expect 0 k -q restore plain -o out.qcow2 -f --threads $n --with-snapshots
	equal "$(qemu_digest -l before -f qcow2 out.qcow2)" "$want" "the snapshot restored by $n threads"
	equal "$(k cat plain/snap:before --threads $n | digest)" "$want" "cat by $n threads"
	equal "$("$KEDGE" dump packed.qcow2 -q --threads $n | digest)" "$want" "dump by $n threads"
done
