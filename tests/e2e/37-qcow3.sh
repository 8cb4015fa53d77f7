# qcow3 is a name of qcow2's version 3, to read and to write; version 2 is a kind of it, which old programs read.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo

truncate -s 20M a.raw
random_at a.raw 0 3000000 1
random_at a.raw 9000000 700000 2
qemu-img convert -f raw -O qcow2 a.raw a.img
expect 0 k backup --vm v qcow3:a.img
expect 0 "$KEDGE" dump --format qcow3 a.img -o r.raw
cmp r.raw a.raw

compat() { qemu-img info --output=json "$1" | jq -r '."format-specific".data.compat'; }
for how in "-o a.qcow2" "-o b.qcow3" "-O qcow3 -o c" "-O qcow2 --subformat v3 -o d"; do
	expect 0 k restore v $how
	f=${how##* }
	equal "$(compat "$f")" 1.1 "version by $how"
	qemu-img compare -q -f qcow2 -F raw "$f" a.raw || die "$how: not what was backed up"
done
for how in "" "--compress" "--cluster-size 512" "--preallocation metadata"; do
	expect 0 k restore v -O qcow2 --subformat v2 -o v2 --force $how
	equal "$(compat v2)" 0.10 "version with --subformat v2 $how"
	qemu-img check -q -f qcow2 v2 || die "v2 $how: qemu-img check"
	qemu-img compare -q -f qcow2 -F raw v2 a.raw || die "v2 $how: not what was backed up"
	equal "$("$KEDGE" dump --no-progress v2 | digest)" "$(digest <a.raw)" "read again, v2 $how"
done
# snapshots too
qemu-img snapshot -c one a.img
qemu-io -f qcow2 -c 'write -P 7 5M 1M' a.img >/dev/null
expect 0 k backup --vm s a.img
expect 0 k restore s -O qcow2 --subformat v2 --with-snapshots -o s2
equal "$(compat s2)" 0.10 "version with snapshots"
qemu-img check -q -f qcow2 s2 || die "snapshots: qemu-img check"
equal "$("$KEDGE" dump --no-progress --state snap:one s2 | digest)" "$(digest <a.raw)" "the snapshot"
expect 2 k restore v -O qcow3 --subformat v2 -o x
says "contradicts"
expect 2 k restore v -O qcow2 --subformat v4 -o x
says "v3, v2"
[ ! -e x ] || die "a refused restore made a file"
