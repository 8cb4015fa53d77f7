# Machines by their descriptions: VirtualBox, VMware, libvirt.  Every state of every disk is what was there.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq python3
quick_repo
uuid() { "$KEDGE" info --json "$1" | jq -r .ids.uuid; }
# fill RAW MIB BYTE: one MiB of it; the first is zeros, as `child` makes it
fill() { head -c 1048576 /dev/zero | tr '\0' "\\$3" | dd of="$1" bs=1M seek="$2" conv=notrunc status=none; }
# child PARENT CHILD BLOCK OCTAL: a VDI of differences that has one block, and the first one zero
child() {
	python3 - "$@" <<-'PY'
	import struct, sys, uuid
	parent, child, block, byte = open(sys.argv[1], 'rb').read(472), sys.argv[2], int(sys.argv[3]), int(sys.argv[4], 8)
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

# --- VirtualBox: two disks, two snapshots, and a third on the first, in a branch of its own -----------------------------
mkdir -p vb/Snapshots
seed=0
for d in a b; do
	truncate -s 8M $d.1.raw
	random_at $d.1.raw 0 3000000 $((++seed))
	qemu-img convert -f raw -O vdi $d.1.raw vb/$d.vdi
	for s in 2 3 now; do cp $d.1.raw $d.$s.raw; fill $d.$s.raw 0 000; done
	child vb/$d.vdi vb/Snapshots/$d-1.vdi 2 101
	fill $d.2.raw 2 101
	child vb/Snapshots/$d-1.vdi vb/Snapshots/$d-now.vdi 3 102
	fill $d.now.raw 2 101; fill $d.now.raw 3 102
	child vb/$d.vdi vb/Snapshots/$d-side.vdi 5 103
	fill $d.3.raw 5 103
done
M=22222222-0000-0000-0000-000000000001
S=33333333-0000-0000-0000-00000000000
device() { echo "<AttachedDevice type=\"HardDisk\" port=\"$1\" device=\"0\"><Image uuid=\"{$(uuid vb/$2)}\"/></AttachedDevice>"; }
attached() { echo "<StorageControllers><StorageController name=\"SATA\" type=\"AHCI\">$(device 0 $1)$(device 1 $2)</StorageController></StorageControllers>"; }
image() { echo "<HardDisk uuid=\"{$(uuid vb/$1)}\" location=\"$1\" format=\"VDI\">${2-}</HardDisk>"; }
registry() { image $1.vdi "$(image Snapshots/$1-1.vdi "$(image Snapshots/$1-now.vdi)")$(image Snapshots/$1-side.vdi)"; }
cat > vb/web.vbox <<E
<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.19-linux">
<Machine uuid="{$M}" name="web" currentSnapshot="{${S}2}">
<MediaRegistry><HardDisks>$(registry a)$(registry b)</HardDisks></MediaRegistry>
<Snapshot uuid="{${S}1}" name="one" timeStamp="2024-01-01T10:00:00Z"><Description>first</Description><Hardware>$(attached a.vdi b.vdi)</Hardware><Snapshots>
<Snapshot uuid="{${S}2}" name="two" timeStamp="2024-01-02T10:00:00Z"><Hardware>$(attached Snapshots/a-1.vdi Snapshots/b-1.vdi)</Hardware></Snapshot>
<Snapshot uuid="{${S}3}" name="two" timeStamp="2024-01-03T10:00:00Z" stateFile="Snapshots/x.sav"><Hardware>$(attached Snapshots/a-side.vdi Snapshots/b-side.vdi)</Hardware></Snapshot>
</Snapshots></Snapshot>
<Hardware><BIOS><NVRAM path="web.nvram"/></BIOS>$(attached Snapshots/a-now.vdi Snapshots/b-now.vdi)</Hardware>
</Machine></VirtualBox>
E
echo firmware > vb/web.nvram
sleep 2.5	# until then a file's times prove nothing
expect 0 k backup vb/web.vbox
says "VM web: 8 states of 2 disks" "saved memory (Snapshots/x.sav) is not kept"
states() {
	local i=0 d
	for d in a b; do
		for s in current=now snap:one=1 snapid:${S}2=2 snapid:${S}3=3; do
			equal "$(point_digest web:SATA-$i-0/${s%=*})" "$(digest < $d.${s#*=}.raw)" "disk $d, ${s%=*}"
		done
		i=$((i + 1))
	done
}
states
expect 2 k restore web/snap:two -o x.raw
says "2 states fit" "snapid:${S}2" "snapid:${S}3"
k show --json web > show.json
jq -e '[.states[].disks | length] == [2, 2, 2, 2] and ([.attachments[].name] | sort) == ["web.nvram", "web.vbox"]' show.json >/dev/null || die "states or files are not those of the machine: $(cat show.json)"
# The chains of the current state hold the layers of snapshots one and two; all is read once.
read=$(jq -c '[.disks[].bytes_read]' show.json)
equal "$read" "[6291456,6291456]" "bytes read of each disk: three blocks, and one for each image above"
# The second night: what lies below and beside the current state is untouched.
expect 0 k backup --audit off vb/web.vbox
k show --json web | jq -e '[.states[] | select(.kind != "current") | .disks[].how] | unique == ["same"]' >/dev/null || die "a snapshot was read again"
states
# All snapshots in one image of another kind.
expect 0 k restore web:SATA-0-0 --with-snapshots -O qcow2 -o all.qcow2
[ "$(qemu-img info --output json all.qcow2 | jq '.snapshots | length')" = 3 ] || die "not all snapshots of the machine are in the image"
qemu-img compare -q -f qcow2 -F raw all.qcow2 a.now.raw
expect 0 k backup --vm some --states snap:one --skip-disk SATA-1-0 vb/web.vbox
k show --json some | jq -e '[.states[].state] == ["snap:one"] and (.disks | length) == 1' >/dev/null
expect 2 k backup --skip-disk sda vb/web.vbox
says "SATA-0-0, SATA-1-0"
expect 2 k backup vb/web.vbox a.1.raw
expect 2 k backup --skip-disk x raw:a.1.raw
# Another image in the place of one of its own, one that is missing, one outside, and one that somebody has open.
cp vb/Snapshots/a-side.vdi keep
cp vb/Snapshots/b-side.vdi vb/Snapshots/a-side.vdi
expect 1 k backup vb/web.vbox
says "it is another image"
rm vb/Snapshots/a-side.vdi
expect 1 k backup vb/web.vbox
says "SATA-0-0" "a-side.vdi"
mkdir away
mv keep away/a-side.vdi
sed -i "s|\"Snapshots/a-side.vdi\"|\"$PWD/away/a-side.vdi\"|" vb/web.vbox
expect 1 k backup vb/web.vbox
says "outside" "--allow-path"
expect 0 k backup --allow-path away vb/web.vbox
states
exec 9<> vb/Snapshots/b-now.vdi
expect 11 k backup --allow-path away vb/web.vbox
says "in use"
exec 9>&-

# A snapshot's raw image is what it is, though the guest made it look like a qcow2 image with a backing file.
mkdir look
qemu-img create -q -f qcow2 -b "$PWD/a.1.raw" -F raw look/then.img
truncate -s 8M look/then.img
cp vb/a.vdi look/now.vdi
cat > look/like.vbox <<E
<VirtualBox version="1.19-linux"><Machine uuid="{$M}" name="like">
<MediaRegistry><HardDisks><HardDisk uuid="{${S}8}" location="then.img" format="RAW"/><HardDisk uuid="{$(uuid look/now.vdi)}" location="now.vdi" format="VDI"/></HardDisks></MediaRegistry>
<Snapshot uuid="{${S}9}" name="then"><Hardware><StorageControllers><StorageController name="SATA"><AttachedDevice><Image uuid="{${S}8}"/></AttachedDevice></StorageController></StorageControllers></Hardware></Snapshot>
<Hardware><StorageControllers><StorageController name="SATA">$(device 0 a.vdi)</StorageController></StorageControllers></Hardware></Machine></VirtualBox>
E
expect 0 k backup --vm like look/like.vbox
equal "$(point_digest like:SATA-0-0/snap:then)" "$(digest < look/then.img)" "a snapshot's raw image"
equal "$(point_digest like:SATA-0-0)" "$(digest < a.1.raw)" "the disk it was replaced by"

# --- VMware -----------------------------------------------------------------------------------------------------------
mkdir vm
for d in sys data; do
	truncate -s 8M $d.1.raw
	random_at $d.1.raw 0 2000000 $((++seed))
	qemu-img convert -f raw -O vmdk $d.1.raw vm/$d.vmdk
	for i in 1 2; do
		prev=$d.vmdk
		[ $i = 1 ] || prev=$d-000001.vmdk
		( cd vm && qemu-img create -q -f vmdk -b $prev -F vmdk $d-00000$i.vmdk && qemu-io -f vmdk -c "write -P $i $((i + 3))M 64k" $d-00000$i.vmdk >/dev/null )
		qemu-img convert -f vmdk -O raw vm/$d-00000$i.vmdk $d.$((i + 1)).raw
	done
done
cat > vm/db.vmx <<'E'
.encoding = "UTF-8"
config.version = "8"
displayName = "db server"
uuid.bios = "56 4d 2e 4c 5b 1c 0a 3e-8f 11 5c 6d 7e 8f 90 a1"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "sys-000002.vmdk"
scsi0:1.present = "TRUE"
scsi0:1.fileName = "data-000002.vmdk"
ide1:0.present = "TRUE"
ide1:0.deviceType = "atapi-cdrom"
ide1:0.fileName = "auto detect"
nvram = "db.nvram"
E
cat > vm/db.vmsd <<'E'
snapshot.current = "2"
snapshot0.uid = "1"
snapshot0.displayName = "before"
snapshot0.createTimeHigh = "367298"
snapshot0.createTimeLow = "-1317273600"
snapshot0.disk0.fileName = "sys.vmdk"
snapshot0.disk0.node = "scsi0:0"
snapshot0.disk1.fileName = "data.vmdk"
snapshot0.disk1.node = "scsi0:1"
snapshot1.uid = "2"
snapshot1.parent = "1"
snapshot1.displayName = "after"
snapshot1.disk0.fileName = "sys-000001.vmdk"
snapshot1.disk0.node = "scsi0:0"
snapshot1.disk1.fileName = "data-000001.vmdk"
snapshot1.disk1.node = "scsi0:1"
snapshot2.uid = "3"
snapshot2.parent = "2"
snapshot2.displayName = "late"
snapshot2.disk0.fileName = "sys-000002.vmdk"
snapshot2.disk0.node = "scsi0:0"
snapshot2.disk1.fileName = "./data-000002.vmdk"
snapshot2.disk1.node = "scsi0:1"
E
expect 0 k backup vm/db.vmx
says "snapshot late has for disk scsi0-0 an image that is written to" "snapshot late has for disk scsi0-1 an image that is written to"
vm=$(k list --json | jq -r '.[].vm' | grep '^db_server')
i=0
for d in sys data; do
	for s in snap:before=1 snap:after=2 current=3; do
		equal "$(point_digest $vm:scsi0-$i/${s%=*})" "$(digest < $d.${s#*=}.raw)" "disk $d, ${s%=*}"
	done
	i=$((i + 1))
done
k show --json $vm | jq -e '[.states[].name] | index("late") == null' >/dev/null || die "what is there now counts as what was there at a snapshot"
mkdir vm/data-000002.vmdk.lck
touch vm/data-000002.vmdk.lck/M1.lck
expect 11 k backup vm/db.vmx
says "VMware's lock" "remove the folder"
rm -r vm/data-000002.vmdk.lck
echo 'encryption.keySafe = "x"' >> vm/db.vmx
expect 1 k backup vm/db.vmx
says "encrypted"

# --- libvirt ----------------------------------------------------------------------------------------------------------
mkdir lv nv
qemu-img convert -f raw -O qcow2 a.1.raw lv/a.qcow2
cp b.1.raw lv/b.raw
qemu-img snapshot -c night lv/a.qcow2
qemu-io -f qcow2 -c 'write -P 9 1M 64k' lv/a.qcow2 >/dev/null
echo vars > nv/web.fd
cat > lv/web.xml <<E
<domain type='kvm'><name>lv</name><uuid>$M</uuid>
<os><loader type='pflash'>/usr/share/OVMF.fd</loader><nvram>$PWD/nv/web.fd</nvram></os><devices>
<disk type='file' device='disk'><driver type='qcow2'/><source file='$PWD/lv/a.qcow2'/><target dev='vda'/></disk>
<disk type='file' device='disk'><driver type='raw'/><source file='$PWD/lv/b.raw'/><target dev='vdb'/></disk>
<disk type='network' device='disk'><source protocol='rbd' name='p/i'/><target dev='vdc'/></disk>
<disk type='file' device='cdrom'><target dev='sda'/></disk></devices></domain>
E
expect 1 k backup --allow-path nv lv/web.xml
says "vdc is of type network" "--skip-disk vdc"
expect 1 k backup --skip-disk vdc lv/web.xml
says "nvram" "--allow-path"
expect 0 k backup --skip-disk vdc --allow-path nv lv/web.xml
equal "$(point_digest lv:vda/snap:night)" "$(digest < a.1.raw)" "libvirt, snapshot"
equal "$(point_digest lv:vdb)" "$(digest < b.1.raw)" "libvirt, current"
k show --json lv | jq -e '[.attachments[].name] == ["web.xml", "web.fd"]' >/dev/null || die "libvirt's files are not there"

# --- encrypted disks: the secret of each by its name, or one that is tried for all ------------------------------------
( umask 077; printf one >pw1; printf two >pw2 )
for i in 1 2; do
	for _ in $(seq 30); do	# QEMU measures how fast it is, which can fail on a busy machine
		qemu-img create -q -f qcow2 --object secret,id=s,file=pw$i -o encrypt.format=luks,encrypt.iter-time=100,encrypt.key-secret=s lv/e$i.qcow2 8M && break
		sleep 0.2
	done
done
for i in 1:a 2:b; do
	qemu-img convert -n --object secret,id=s,file=pw${i%:*} -f raw --target-image-opts ${i#*:}.1.raw "driver=qcow2,encrypt.key-secret=s,file.filename=lv/e${i%:*}.qcow2"
done
cat > lv/enc.xml <<E
<domain type='kvm'><name>enc</name><devices>
<disk type='file' device='disk'><driver type='qcow2'/><source file='$PWD/lv/e1.qcow2'/><target dev='vda'/></disk>
<disk type='file' device='disk'><driver type='qcow2'/><source file='$PWD/lv/e2.qcow2'/><target dev='vdb'/></disk></devices></domain>
E
expect 1 k backup lv/enc.xml
says "disk vda" "no secret was given"
expect 12 k backup --image-secret vda=pw2 --image-secret vdb=pw1 lv/enc.xml
expect 0 k backup --image-secret vda=pw1 --image-secret vdb=pw2 lv/enc.xml
equal "$(point_digest enc:vda)" "$(digest < a.1.raw)" "an encrypted disk"
equal "$(point_digest enc:vdb)" "$(digest < b.1.raw)" "another, by another secret"
expect 0 k backup --vm enc-any --image-secret pw1 --image-secret pw2 lv/enc.xml
expect 0 k check --read-data
