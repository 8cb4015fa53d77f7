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
for o in "--cluster-size 512" "--cluster-size 4K" "--cluster-size 2M" "--compress" "--compress --cluster-size 2M" "--threads 1 --memory 64M" "--seed-ids x"; do
	expect 0 k restore v -o o.qcow2 --force --backing b.qcow2 $o
	reads o.qcow2 new.raw
done
cp new.raw large.raw
truncate -s 30M large.raw
expect 0 k restore v -o o.qcow2 --force --backing b.qcow2 --size 30M
reads o.qcow2 large.raw
# over a larger file: nothing of it shows up behind the old end
qemu-img convert -f raw -O qcow2 new.raw n.qcow2
for c in 512 64K 2M; do
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
for c in 64K 2M; do
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
for o in "-O raw" "-O vdi" --with-snapshots --salvage "--preallocation full" "--subformat v2"; do
	expect 2 k restore v -o no.qcow2 --backing b.qcow2 $o
done
expect 0 k -q backup --vm two a=raw:base.raw b=raw:new.raw
expect 2 k restore two --to no --backing b.qcow2 -O qcow2
says "--to"
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
