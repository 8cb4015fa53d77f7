# VDI: backed up, restored to every format and back; a differencing chain whose second night reads only what changed.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq python3
quick_repo

qemu-img create -q -f vdi a.vdi 20M
qemu-io -f vdi -c 'write -P 1 0 1M' -c 'write -P 2 5M 3M' -c 'write -P 3 19M 1M' a.vdi >/dev/null
qemu-img convert -f vdi -O raw a.vdi a.raw
random_at a.raw 9000000 700000 1
qemu-img convert -f raw -O vdi a.raw a.vdi

# --- there and back -------------------------------------------------------------------------------------------------
expect 0 k backup --vm v a.vdi
expect 0 k restore v -o r.raw
cmp r.raw a.raw
expect 0 k restore v -o r.qcow2
qemu-img compare -q -f qcow2 -F raw r.qcow2 a.raw
expect 0 k restore v -o same		# as it was
says "same, vdi, 20.0 MiB"
for how in "" "--subformat fixed" "--preallocation full"; do
	expect 0 k restore v -o r.vdi --force $how
	qemu-img check -q -f vdi r.vdi
	qemu-img compare -q -f vdi -F raw r.vdi a.raw || die "restored with $how: not what was backed up"
	equal "$("$KEDGE" dump --no-progress r.vdi | digest)" "$(digest <a.raw)" "read again, $how"
	kind=fixed
	case $how in "" | *dynamic) kind=dynamic ;; esac
	equal "$("$KEDGE" info --json r.vdi | jq -r .variant)" $kind "kind, $how"
done
qemu-img create -q -f vdi made.vdi 1M
equal "$("$KEDGE" info --json made.vdi | jq -r '"\(.creator) \(.stored)"')" "QEMU VM Virtual Disk Image $(($(stat -c %b made.vdi) * 512))" "who made it"
[ $(($(stat -c %b r.vdi) * 512)) -ge 20000000 ] || die "--preallocation full reserves no space"
expect 0 k -q backup --vm w r.qcow2
expect 0 k restore w --to folder -O vdi
qemu-img compare -q -f vdi -F raw folder/disk0.vdi a.raw
says "disk0.vdi,format=vdi"
expect 2 k restore v -o x.vdi --compress
says "--compress needs -O qcow2"
expect 2 k restore v -o x.vdi --subformat split
says "dynamic, fixed"
expect 1 k restore v -o x.vdi --subformat dynamic --preallocation full
says "a dynamic VDI cannot be preallocated" "--subformat fixed"
[ ! -e x.vdi ] || die "a refused restore made a file"

# --- ids: new ones each time, the old ones, or by a seed ----------------------------------------------------------------
uuid() { "$KEDGE" info --json "$1" | jq -r '"\(.ids.uuid) \(.ids.modify)"'; }
expect 0 k restore v -o i1.vdi
expect 0 k restore v -o i2.vdi
[ "$(uuid i1.vdi)" != "$(uuid i2.vdi)" ] && [ "$(uuid i1.vdi)" != "$(uuid a.vdi)" ] || die "two restores have the same UUIDs"
expect 0 k restore v -o i3.vdi --keep-ids
equal "$(uuid i3.vdi)" "$(uuid a.vdi)" "UUIDs kept"
expect 0 k restore v -o i4.vdi --seed-ids one
expect 0 k restore v -o i5.vdi --seed-ids one
cmp i4.vdi i5.vdi
expect 0 k restore v -o i6.vdi --seed-ids two
[ "$(uuid i4.vdi)" != "$(uuid i6.vdi)" ] || die "two seeds give the same UUIDs"
expect 2 k restore v -o i7.vdi --seed-ids one --keep-ids
expect 1 k restore w -o i7.vdi --keep-ids
says "has no ids"
expect 2 k restore v -o i7.raw --keep-ids
says "--keep-ids needs -O" vdi
for i in 1 2; do expect 0 k restore v -o q$i.qcow2 --seed-ids one --compress; done
cmp q1.qcow2 q2.qcow2
[ ! -e i7.vdi ] && [ ! -e i7.raw ] || die "a refused restore made a file"

# --- a chain: the layer below is not read again --------------------------------------------------------------------------
# child PARENT CHILD BLOCK BYTE: an image of differences that has one block, and one that is zero.
child() {
	python3 - "$@" <<-'PY'
	import struct, sys, uuid
	parent, child, block, byte = open(sys.argv[1], 'rb').read(472), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
	size, bs, extra, blocks = struct.unpack_from('<QIII', parent, 368)
	h = bytearray(parent[:392]) + uuid.uuid4().bytes + uuid.uuid4().bytes + parent[392:424] + bytes(16)
	struct.pack_into('<I', h, 76, 4)
	struct.pack_into('<II', h, 340, 512, 512 + 4 * blocks + 512)
	struct.pack_into('<I', h, 388, 1)
	entries = [0xffffffff] * blocks
	entries[block], entries[0] = 0, 0xfffffffe
	with open(child, 'wb') as f:
	    f.write(h.ljust(512, b'\0') + struct.pack('<%dI' % blocks, *entries) + bytes(512) + bytes([byte]) * bs)
	PY
}
# VirtualBox's chains may mix formats: a VDI over a VHD, which it names by the VHD's UUID
mkdir mixed && cd mixed
expect 0 "$KEDGE" dump -q ../a.vdi -O vhd -o base.vhd
cp ../a.vdi like.vdi
python3 - "$("$KEDGE" info --json base.vhd | jq -r .ids.uuid)" <<'PY'
import sys, uuid
with open('like.vdi', 'r+b') as f:
    f.seek(392)
    f.write(uuid.UUID(sys.argv[1]).bytes_le + bytes(16))
PY
child like.vdi c.vdi 5 77
rm like.vdi
cp ../a.raw want.raw
dd if=/dev/zero of=want.raw bs=1M count=1 conv=notrunc status=none
head -c 1M /dev/zero | tr '\0' '\115' | dd of=want.raw bs=1M seek=5 conv=notrunc status=none
equal "$("$KEDGE" dump --no-progress c.vdi | digest)" "$(digest <want.raw)" "a VDI over a VHD"
equal "$("$KEDGE" info --json --chain c.vdi | jq -r 'map(.format) | join(" ")')" "vdi vhd" "its layers"
cd ..

mkdir chain && cp a.vdi chain/base.vdi && cd chain
child base.vdi c1.vdi 5 77
cp ../a.raw want.raw
dd if=/dev/zero of=want.raw bs=1M count=1 conv=notrunc status=none
head -c 1M /dev/zero | tr '\0' '\115' | dd of=want.raw bs=1M seek=5 conv=notrunc status=none
touch -d '1 hour ago' base.vdi
equal "$("$KEDGE" dump --no-progress c1.vdi | digest)" "$(digest <want.raw)" "a differencing image"
sleep 2.1	# a change of the same moment would not show
expect 0 k backup --json --vm chain c1.vdi
equal "$(field out '[.states[].state] | sort | join(" ")')" "current layer:base.vdi" "states"
child c1.vdi c2.vdi 12 88
head -c 1M /dev/zero | tr '\0' '\130' | dd of=want.raw bs=1M seek=12 conv=notrunc status=none
expect 0 k backup --json --audit off --vm chain c2.vdi
read=$(field out .bytes_read)
[ "$read" -le 1100000 ] || die "the second night read $read bytes"
equal "$(point_digest chain)" "$(digest <want.raw)" "the second night's state"
expect 0 k restore chain -o ../flat.vdi
qemu-img compare -q -f vdi -F raw ../flat.vdi want.raw
# a parent that is missing, changed, or there twice
mv base.vdi ../elsewhere.vdi
expect 1 k backup --vm chain c2.vdi
says "no image with the id of its parent" "--allow-path"
expect 0 "$KEDGE" info c2.vdi
prints "parent uuid"
cp ../elsewhere.vdi base.vdi && cp base.vdi copy.vdi
expect 1 k backup --vm chain c2.vdi
says "2 images have the id of its parent" copy.vdi
rm copy.vdi
printf '\1' | dd of=base.vdi bs=1 seek=408 conv=notrunc status=none
expect 1 k backup --vm chain c2.vdi
says "was written to after"
expect 0 "$KEDGE" dump --force --sink null c2.vdi
truncate -s -1M base.vdi
expect 1 k backup --vm chain base.vdi
says "block map entry at" "past the end of the file"
expect 0 "$KEDGE" info base.vdi
prints "damaged" "block map entry at"
expect 0 "$KEDGE" info ../a.vdi
lacks out damaged
