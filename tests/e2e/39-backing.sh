# restore --backing: an overlay over a file that holds a stored state, whatever its format, reads as the point by QEMU and by kedge, and
# takes the space of what differs; a file that holds no stored state, that changes, or that would be overwritten is refused.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo

# the base; the point: chunks changed, made zero, made of zeros in part, and a larger disk
truncate -s 8M base.raw
random_at base.raw 0 1500000 1
random_at base.raw 4000000 3000000 2
cp base.raw new.raw
truncate -s 10M new.raw
random_at new.raw 100000 70000 3
head -c 300000 /dev/zero | dd of=new.raw bs=64K seek=4194304 oflag=seek_bytes conv=notrunc status=none
head -c 6000 /dev/zero | dd of=new.raw bs=64K seek=5242880 oflag=seek_bytes conv=notrunc status=none
random_at new.raw 9000000 5000 4
head -c 7M new.raw >small.raw
cp base.raw disk.raw
expect 0 k -q backup --vm v raw:disk.raw
cp new.raw disk.raw
expect 0 k -q backup --vm v raw:disk.raw
expect 0 k -q backup --vm s disk0=raw:small.raw
reads() {	# reads OVERLAY RAW: by QEMU and by kedge, with its backing file
	qemu-img check -q "$1" || die "$1: check"
	qemu-img compare -q -f qcow2 -F raw "$1" "$2" || die "$1: not what was restored"
	equal "$("$KEDGE" dump --no-progress ${3:-} "$1" | digest)" "$(digest <"$2")" "$1 by kedge"
}
named() { qemu-img info --output json "$1" | jq -r '."backing-filename" + " " + ."backing-filename-format"'; }

# --- over each format --------------------------------------------------------------------------------------------------------
for f in raw qcow2 qcow vdi vmdk vhdx vpc; do
	qemu-img convert -f raw -O $f $([ $f != vpc ] || echo -o force_size) base.raw b.$f
	expect 0 k restore v -o o.qcow2 --force --backing $([ $f != raw ] || echo raw:)b.$f
	says "b.$f ($f) holds v:disk0@"
	equal "$(named o.qcow2)" "b.$f $f" "the name in the header"
	reads o.qcow2 new.raw
done
[ "$(stat -c %s o.qcow2)" -lt 1500000 ] || die "an overlay of $(stat -c %s o.qcow2) bytes"
# without the backing file the zeros are explicit: what was made zero doesn't show through
qemu-img map --output json o.qcow2 >map
jq -e '[.[] | select(.start <= 4200000 and .start + .length > 4200000)] | .[0] | .zero and .depth == 0' <map >/dev/null || die "no zero cluster: $(cat map)"

# --- cluster sizes, compressed, encrypted, another size --------------------------------------------------------------------------
for o in "--cluster-size 512" "--cluster-size 4K" "--cluster-size 2M" "--compress" "--compress --cluster-size 2M" "--threads 1 --memory 64M" "--seed-ids x" \
	"--extended-l2" "--extended-l2 --cluster-size 16K" "--extended-l2 --cluster-size 2M --threads 1" "--extended-l2 --compression-type zstd --cluster-size 256K"; do
	expect 0 k restore v -o o.qcow2 --force --backing b.qcow2 $o
	reads o.qcow2 new.raw
done
cp new.raw large.raw
truncate -s 30M large.raw
expect 0 k restore v -o o.qcow2 --force --backing b.qcow2 --size 30M
reads o.qcow2 large.raw
# over a larger file: nothing of it shows up behind the old end
qemu-img convert -f raw -O qcow2 new.raw n.qcow2
for c in 512 64K 2M "16K --extended-l2" "2M --extended-l2"; do
	cp small.raw large.raw
	truncate -s 12M large.raw
	expect 0 k restore s -o o.qcow2 --force --backing n.qcow2 --cluster-size $c
	says "holds v:disk0@"
	reads o.qcow2 small.raw
	expect 0 k restore s -o o.qcow2 --force --backing n.qcow2 --size 12M --cluster-size $c
	reads o.qcow2 large.raw
done
umask 077
printf 'new pass' >pw
for c in 64K 2M "2M --extended-l2"; do
	expect 0 k restore v -o e.qcow2 --force --backing b.qcow2 --encrypt luks --image-secret pw --iter-time 100 --cluster-size $c
	qemu-img compare --object secret,id=s,file=pw --image-opts driver=qcow2,encrypt.key-secret=s,file.filename=e.qcow2 \
		driver=raw,file.filename=new.raw >cmp 2>&1 || die "encrypted overlay: $(cat cmp)"
done

# --- a chain below; the name where it isn't the same folder; JSON ---------------------------------------------------------------------
qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 mid.qcow2 10M
random_at pattern 0 5000 4
qemu-io -f qcow2 -c 'write -z 4096K 320K' -c 'write -s pattern 9000000 5000' mid.qcow2 >/dev/null
qemu-img convert -f qcow2 -O raw mid.qcow2 mid.raw
expect 0 k -q backup --vm m raw:mid.raw
mkdir sub
expect 0 k restore --json v -o sub/o.qcow2 --backing mid.qcow2
equal "$(field out '.disks[0].backing | "\(.name) \(.format)"')" "$PWD/mid.qcow2 qcow2" json
field out .disks[0].backing.point | grep -q '^m:disk0@.*/current$' || die "point: $(cat out)"
qemu-img compare -q -f qcow2 -F raw sub/o.qcow2 new.raw
equal "$("$KEDGE" dump --no-progress --allow-path . sub/o.qcow2 | digest)" "$(digest <new.raw)" "another folder"
cp b.qcow2 sub/a:b.qcow2
expect 0 k restore v -o sub/c.qcow2 --backing ./sub/a:b.qcow2
equal "$(named sub/c.qcow2)" "./a:b.qcow2 qcow2" "a name with a colon"
reads sub/c.qcow2 new.raw
# the same state: nothing to write
expect 0 k restore v -o same.qcow2 --backing n.qcow2
[ "$(stat -c %s same.qcow2)" -le 327680 ] || die "an overlay with nothing in it has $(stat -c %s same.qcow2) bytes"
reads same.qcow2 new.raw
# a disk that isn't whole sectors, in a format that makes it so
head -c 1000100 base.raw >odd.raw
expect 0 k -q backup --vm odd raw:odd.raw
expect 0 k restore odd -o odd.qcow2
expect 0 k restore odd -o odd2.qcow2 --backing odd.qcow2
qemu-img compare -q -f qcow2 -F qcow2 odd.qcow2 odd2.qcow2

# --- refused ------------------------------------------------------------------------------------------------------------------------------
none() { [ ! -e no.qcow2 ] || die "a refused restore made a file"; }
cp b.qcow2 bad.qcow2
qemu-io -f qcow2 -c 'write -P 1 8388607 1' bad.qcow2 >/dev/null
expect 13 k restore v -o no.qcow2 --backing bad.qcow2
says "bad.qcow2" "equals no stored state" "without --backing"
truncate -s 3M three.raw
expect 13 k restore v -o no.qcow2 --backing raw:three.raw
says "has its size" 3145728
none
expect 1 k restore v -o b.qcow2 --force --backing b.qcow2
says "would be overwritten"
ln b.qcow2 link.qcow2
expect 1 k restore v -o link.qcow2 --force --backing mid.qcow2
says "would be overwritten"
reads o.qcow2 large.raw
expect 1 k restore v -o no.qcow2 --backing e.qcow2
says encrypted
gzip -k mid.qcow2
expect 1 k restore v -o no.qcow2 --backing mid.qcow2.gz
says packed
expect 1 k restore v -o no.qcow2 --backing missing
expect 2 k restore v -o no.qcow2 --allow-path .
says "--backing"
expect 2 k restore v -o no.qcow2 --backing b.qcow2 --backing-format raw
for o in "-O raw" "-O vdi" --with-snapshots --salvage "--preallocation full" "--subformat v2"; do
	expect 2 k restore v -o no.qcow2 --backing b.qcow2 $o
done
expect 0 k -q backup --vm two a=raw:base.raw b=raw:new.raw
expect 2 k restore two --to no --backing b.qcow2 -O qcow2
says "--to"
# what QEMU reads otherwise than kedge: an overlay over it would hold another disk, with no error anywhere
differs() {	# differs MESSAGE FILE OPTION...
	expect 1 k restore v -o no.qcow2 --backing "$2" "${@:3}"
	says "$1" "without --backing the whole disk is restored"
	none
}
# by the geometry, which is smaller than the disk, unless it knows the creator
qemu-img convert -f raw -O vpc -o force_size,subformat=fixed base.raw fixed.vhd
expect 0 k restore v -o o.qcow2 --force --backing vpc:fixed.vhd
reads o.qcow2 new.raw
sum=$(od -An -tu4 --endian=big -j $((8388608 + 64)) -N 4 fixed.vhd)
printf vbox | dd of=fixed.vhd bs=1 seek=$((8388608 + 28)) conv=notrunc status=none
printf "$(printf '\\x%02x' $((sum - 74 >> 24)) $((sum - 74 >> 16 & 255)) $((sum - 74 >> 8 & 255)) $((sum - 74 & 255)))" |
	dd of=fixed.vhd bs=1 seek=$((8388608 + 64)) conv=notrunc status=none
equal "$("$KEDGE" dump --no-progress vpc:fixed.vhd | digest)" "$(digest <base.raw)" "the VHD by kedge"
differs "make another size" vpc:fixed.vhd
cp b.vmdk copy.vmdk	# the first grain directory damaged: QEMU doesn't look at the second
gd=$(od -An -tu8 -j 56 -N 8 copy.vmdk)
printf '\377\377\377\177' | dd of=copy.vmdk bs=1 seek=$((gd * 512)) conv=notrunc status=none
equal "$("$KEDGE" dump --no-progress copy.vmdk 2>/dev/null | digest)" "$(digest <base.raw)" "the VMDK by kedge"
differs "redundant grain directory is used" copy.vmdk
qemu-img convert -f raw -O vmdk -o subformat=twoGbMaxExtentFlat base.raw parts.vmdk
differs "several files" parts.vmdk
sed -e 's/^RW [0-9]* FLAT .*/RW 12800 FLAT "parts-f001.vmdk" 0\nRW 3584 ZERO/' parts.vmdk >zero.vmdk	# a line that QEMU skips
differs "several files" zero.vmdk
qemu-img create -q -f vmdk -b b.vmdk -F vmdk child.vmdk
differs "names a parent" child.vmdk
split -b 4M -d -a 3 --numeric-suffixes=1 base.raw vm.raw.
differs "format that it doesn't know" split:vm.raw.001
# a layer whose format isn't stored: QEMU looks at its bytes, which are the guest's
cp b.qcow2 guest.raw
truncate -s 8M guest.raw
qemu-img create -q -f qcow -b guest.raw -F raw probed.qcow
expect 0 k -q backup --vm g --backing-format raw qcow:probed.qcow
exits 1 k restore g -o no.qcow2 --backing qcow:probed.qcow
none
# a name that leads QEMU elsewhere: it takes what a link names from the folder that the file itself is in
mkdir here there
qemu-img convert -f raw -O qcow2 base.raw here/low.qcow2
qemu-img create -q -f qcow2 -b low.qcow2 -F qcow2 there/top.qcow2 8M 2>/dev/null ||
	qemu-img create -q -u -f qcow2 -b low.qcow2 -F qcow2 there/top.qcow2 8M
qemu-img create -q -f qcow2 there/low.qcow2 8M
ln -s ../there/top.qcow2 here/top.qcow2
k restore v -o link.out.qcow2 --backing here/top.qcow2 >/dev/null 2>&1 && die "a layer taken from another folder than QEMU's"
mkfifo commands
qemu-io -f qcow2 b.qcow2 <commands >answers 2>&1 &
vm=$!
exec 9>commands
echo 'read 0 512' >&9
for _ in $(seq 100); do grep -q read answers && break; sleep 0.1; done
expect 11 k restore v -o no.qcow2 --backing b.qcow2
exec 9>&-
wait $vm
none

case $BUILD in */release | */debug) ;; *) exit 0 ;; esac	# sanitizers want to be loaded first
# a lower layer changes after it has been proven: while the restore stands still before a write to its target
held=(env LD_PRELOAD="$BUILD/preload/fault.so" FAULT_REPORT=report FAULT_CLASS=write "$KEDGE" --key-file "$KEY" restore v -o no.qcow2
	--threads 1 --backing mid.qcow2)
FAULT_NTH=0 FAULT_DO=pass "${held[@]}" >out 2>err || die "$(cat err)"
rm no.qcow2
written=$(od -An -tu8 -N 8 report)
for n in $(seq $written) none; do	# the first write while it holds the layer
	[ $n != none ] || die "none of $written writes while it holds the layer"
	rm -f report no.qcow2
	FAULT_NTH=$n FAULT_DO=stop-before "${held[@]}" >out 2>err &
	job=$!
	for _ in $(seq 100); do grep -q '^State:.T' /proc/$job/status && break; sleep 0.1; done
	grep -q '^State:.T' /proc/$job/status || die "it doesn't stand still: $n, $(cat err)"
	[ -z "$(find /proc/$job/fd -lname "*/b.qcow2")" ] || break
	kill -CONT $job
	wait $job
done
touch b.qcow2
kill -CONT $job
code=0
wait $job || code=$?
equal $code 1 "exit code after a change: $(cat err)"
says "written to while it was read"
none
