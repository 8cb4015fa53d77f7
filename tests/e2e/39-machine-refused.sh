# Machines that can't be: no description of disks that would not run, and what is wrong is said before a disk is written.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img
quick_repo
truncate -s 4M a.raw
random_at a.raw 65536 400000 1
cat >web.xml <<E
<domain type='kvm'><name>web</name><memory unit='MiB'>512</memory><vcpu>2</vcpu><os><type arch='x86_64'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='$PWD/a.raw'/><target dev='vda' bus='virtio'/></disk></devices></domain>
E
expect 0 k backup --vm web --allow-path "$PWD" web.xml

# --- compressed raw, pieces, VHDX: a guest would destroy them, or nothing reads them ------------------------------------------
for o in "raw --compress" "raw --subformat xz" split vhdx; do
	rm -rf d
	expect 0 k restore web --to d -O $o
	says "no description of a machine"
	lacks err "virsh"
	cmp d/web.xml web.xml	# the attachment, not a machine of these disks
	[ "$o" = vhdx ] || lacks err "qemu-system"
	expect 2 k restore web --to e -O $o --machine libvirt
	says "can't have" "-O qcow2"
done
expect 2 k restore web --to e -O vmdk --compress --machine libvirt
says "streamOptimized" "--machine ovf"
expect 0 k restore web --to stream -O vmdk --compress
says "VBoxManage import"
[ -e stream/web.ovf ] || die "streamOptimized disks are for OVF: $(ls stream)"
expect 0 k restore web --to vpc -O vhd --machine none
says "format=vpc"

# --- a description that can't be made: known before the first disk -----------------------------------------------------------
sed "s|</devices>|<x:disk xmlns:x='u:x'/></devices>|" web.xml >odd.xml
expect 0 k backup --vm odd --adopt --allow-path "$PWD" odd.xml
expect 1 k restore odd --to odd
says "the machine's description" "--machine none"
lacks err "vda.raw" internal
[ ! -e odd ] || die "a refused restore made $(ls odd)"
expect 0 k restore odd --to odd --machine none
cmp odd/vda.raw a.raw
equal "$(ls -d .kedge-* 2>/dev/null)" "" "what is left"

# --- a folder where a name is taken: all of it or nothing --------------------------------------------------------------------
taken() {	# NAME OPTION...: it is in DIR, which stays as it is
	rm -rf in
	mkdir in
	echo old >"in/$1"
	expect 1 k restore web --to in "${@:2}"
	says "$1 exists" --force
	equal "$(ls -A in)" "$1" "what a refused restore left"
	equal "$(cat in/*)" old "the file"
}
taken web.mf -O vmdk --machine ovf
lacks err "vda.vmdk"	# known before the disk
taken vda-flat.vmdk -O vmdk --subformat monolithicFlat
lacks err "vda.vmdk"
taken vda.raw.001 -O split --piece-size 1M
taken vda.raw.003 -O split --piece-size 1M
rm -rf in
mkdir -p in/vda.raw.003
expect 1 k restore web --to in -O split --piece-size 1M --force
says "is a folder"
equal "$(ls -A in)" vda.raw.003 "what a refused restore left"
rmdir in/vda.raw.003
expect 0 k restore web --to in -O split --piece-size 1M
echo old >in/vda.raw.003
expect 0 k restore web --to in -O split --piece-size 1M --force
equal "$(cat in/vda.raw.00? | digest)" "$(digest <a.raw)" "pieces, replaced"

# --- one seed, two machines: their ids differ --------------------------------------------------------------------------------
for n in x y; do
	expect 0 k restore web --to seed-$n --seed-ids s --vm-name $n --json
	field out .machine.uuid >uuid-$n
done
expect 0 k restore web --to seed-z --seed-ids s --vm-name x --json
equal "$(field out .machine.uuid)" "$(cat uuid-x)" "UUID of the same seed"
[ "$(cat uuid-x)" != "$(cat uuid-y)" ] || die "two machines of one seed have one UUID"

# --- two attachments that would have one name ---------------------------------------------------------------------------------
echo notes >web.xml.orig
expect 0 k backup --vm two --adopt --allow-path "$PWD" web.xml --attach web.xml.orig
expect 1 k restore two --to two
says "two attachments would be called web.xml.orig" "--machine none"
lacks err "vda.raw"
expect 0 k restore two --to two --machine none
cmp two/web.xml.orig web.xml.orig
cmp two/web.xml web.xml

# --- another CPU, a kernel of the host: told where it is lost -----------------------------------------------------------------
sed "s|<type arch='x86_64'>hvm</type>|<type arch='aarch64'>hvm</type><kernel>/boot/vmlinuz</kernel>|" web.xml >arm.xml
expect 0 k backup --vm arm --adopt --allow-path "$PWD" arm.xml
expect 0 k restore arm --to arm-vmware -O vmdk
says "aarch64" "kernel"
expect 0 k restore arm --to arm
lacks err "not carried over"
has arm/arm.xml aarch64
