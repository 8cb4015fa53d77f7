# restore --size: every format gets larger, its tail reads as zeros by another program, snapshots stay as they were; what would cut
# a disk off, or doesn't fit, is refused; what to do with the partition table is said.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq sgdisk
quick_repo
truncate -s 5M a.raw
random_at a.raw 1100000 200000 1
random_at a.raw 5177344 65536 2	# up to the last byte
sgdisk -n 1:4096:6000 a.raw >/dev/null
truncate -s $((1048576 + 700)) odd.raw
random_at odd.raw 1048000 1276 3
printf '\125\252' | dd of=odd.raw bs=1 seek=510 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 a.raw a.qcow2
qemu-img snapshot -c one a.qcow2
qemu-io -f qcow2 -c 'write -P 7 3M 64k' a.qcow2 >/dev/null
cp a.raw one.raw
qemu-img convert -f qcow2 -O raw a.qcow2 a.raw
expect 0 k -q backup --vm v vda=a.qcow2 vdb=raw:odd.raw
expect 0 k -q backup --vm plain raw:odd.raw

# grown SIZE FILE: the file by another program is FILE and zeros up to SIZE.
grown() {
	cp "$2" want.raw
	truncate -s "$1" want.raw
}
size_of() { qemu-img info --output json "$@" | jq '."virtual-size"'; }

# --- every format ---------------------------------------------------------------------------------------------------------
grown 9M a.raw
for f in raw qcow2 qcow vdi vmdk vhdx vhd; do
	q=$f
	[ $f != vhd ] || q=vpc
	expect 0 k restore v:vda -o g.$f -O $f --size 9M --force
	says "9.0 MiB" "grown from 5.0 MiB to 9.0 MiB" "GPT's backup header" "growpart"
	equal "$(size_of -f $q g.$f)" 9437184 "size of $f"
	qemu-img compare -f $q -F raw g.$f want.raw >cmp 2>&1 || die "$f: $(cat cmp)"
	case $f in qcow2 | vdi | vhdx) qemu-img check -q -f $f g.$f ;; esac
done
for o in "-O qcow2 --compress" "-O vmdk --subformat streamOptimized" "-O vmdk --subformat twoGbMaxExtentSparse" \
	"-O vdi --subformat fixed" "-O qcow2 --preallocation metadata" "-O qcow2 --cluster-size 2M" "-O qcow2 --cluster-size 512"; do
	expect 0 k restore v:vda -o o.img $o --size 9M --force
	f=${o#-O }
	qemu-img compare -f ${f%% *} -F raw o.img want.raw >cmp 2>&1 || die "$o: $(cat cmp)"
done
# the command that is named does it
sgdisk -e g.raw >/dev/null
sgdisk -v g.raw >verify
has verify "No problems found"

# --- rounding: whole sectors; a disk that ends inside of one -------------------------------------------------------------------
grown $((1048576 + 1024)) odd.raw
for f in raw vhd vhdx; do
	q=$f
	[ $f != vhd ] || q=vpc
	expect 0 k restore v:vdb -o r.$f -O $f --size $((1048576 + 701)) --force
	equal "$(size_of -f $q r.$f)" $((1048576 + 1024)) "whole sectors"
	qemu-img compare -f $q -F raw r.$f want.raw >cmp 2>&1 || die "$f: $(cat cmp)"
done
truncate -s 1M none.raw
expect 0 k -q backup --vm none raw:none.raw
expect 0 k restore none -o none2.raw --size 2M
says "no partition table was found"
expect 0 k restore --json plain -o j.raw --size 2M
equal "$(field out '"\(.disks[0].size) \(.disks[0].grown_from) \(.disks[0].partition_table)"')" \
	"2097152 $((1048576 + 700)) mbr" json
grown 2M odd.raw
cmp j.raw want.raw
expect 0 k restore --json plain -o same.raw --size $((1048576 + 700)) --force
equal "$(field out .disks[0].size)" $((1048576 + 1024)) "one more sector"
expect 0 k restore v:vda -o same --size 5M
lacks err grown
qemu-img compare -q -f qcow2 -F raw same a.raw

# --- snapshots keep their size -----------------------------------------------------------------------------------------------
grown 300M a.raw
expect 0 k restore v:vda -o s.qcow2 --with-snapshots --size 300M
qemu-img check -q s.qcow2
qemu-img compare -q -f qcow2 -F raw s.qcow2 want.raw
qemu-img convert -f qcow2 -l snapshot.name=one -O raw s.qcow2 s.raw
head -c 5M s.raw | cmp - one.raw
equal "$(qemu-img info --output json s.qcow2 | jq '.snapshots | length')" 1 snapshots
qemu-img snapshot -a one s.qcow2
equal "$(size_of s.qcow2)" 5242880 "the snapshot's own size"

# --- several disks -------------------------------------------------------------------------------------------------------------
expect 0 k restore v --to dir --size vda=6M --size vdb=3M -O raw
grown 6M a.raw; cmp dir/vda.raw want.raw
grown 3M odd.raw; cmp dir/vdb.raw want.raw
expect 2 k restore v --to dir2 --size 6M
says "DISK=SIZE"
expect 2 k restore v --to dir2 --size vdc=6M
says "no disk of that name"
[ ! -e dir2 ] || die "a refused restore made a folder"

# --- refused -------------------------------------------------------------------------------------------------------------------
expect 2 k restore v:vda -o x.raw --size 4M
says "never cuts" "5242880 bytes" "qemu-img resize --shrink"
for s in 0 x -1 9E 99999999P vda=; do expect 2 k restore v:vda -o x.raw --size=$s; done
expect 2 k restore v:vda -o x.raw --size 8M --size vda=9M
says "already"
expect 1 k restore v:vda -o x.vhd --size 3T
says "2040 GiB"
[ ! -e x.raw ] && [ ! -e x.vhd ] || die "a refused restore made a file"

# --- a block device: it fits, its tail is zero, what is behind stays --------------------------------------------------------------
[ "$(id -u)" = 0 ] || exit 0
head -c 8M /dev/zero | tr '\0' '\377' >dev.img
loop=$(losetup --find --show dev.img 2>/dev/null) || exit 0
trap 'losetup -d "$loop"' EXIT
expect 1 k restore v:vda -o "$loop" --force --size 9M
says 8388608 9437184
expect 0 k restore v:vda -o "$loop" --force --size 7M
says "sgdisk -e $loop"
grown 7M a.raw
equal "$(dd if="$loop" bs=1M count=7 iflag=direct status=none | digest)" "$(digest <want.raw)" "the device"
equal "$(dd if="$loop" bs=1M skip=7 iflag=direct status=none | tr -d '\377' | wc -c)" 0 "what lies behind"
