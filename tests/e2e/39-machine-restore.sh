# Machines restored as machines: libvirt's, VirtualBox's and VMware's out of each other's descriptions, read back by kedge
# and by programs of others.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img jq python3 xmllint virt-xml-validate virsh
quick_repo
export HOME=$PWD XDG_RUNTIME_DIR=$PWD XDG_CONFIG_HOME=$PWD
M=22222222-0000-0000-0000-00000000000
for d in a b; do
	truncate -s 4M $d.raw
	random_at $d.raw 65536 400000 $(printf %d "'$d")
done

# --- three machines with the same disks ---------------------------------------------------------------------------------
mkdir lv vb vm
qemu-img convert -f raw -O qcow2 a.raw lv/a.qcow2
cp b.raw lv/b.raw
echo vars >lv/web_VARS.fd
cat >lv/web.xml <<E
<domain type='kvm' id='3'><name>web</name><uuid>${M}1</uuid><memory unit='MiB'>512</memory><vcpu>2</vcpu>
<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type><nvram>$PWD/lv/web_VARS.fd</nvram></os><features><acpi/><hyperv><relaxed state='on'/></hyperv></features>
<cputune><shares>77</shares></cputune><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='$PWD/lv/a.qcow2'/><target dev='vda' bus='virtio'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='$PWD/lv/b.raw'/><target dev='sda' bus='sata'/></disk>
<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/><readonly/></disk>
<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/><model type='virtio'/></interface>
<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices></domain>
E
for d in a b; do
	qemu-img convert -f raw -O vdi $d.raw vb/$d.vdi
	qemu-img convert -f raw -O vmdk $d.raw vm/$d.vmdk
done
id() { "$KEDGE" info --json vb/$1.vdi | jq -r .ids.uuid; }
device() { echo "<AttachedDevice type=\"HardDisk\" hotpluggable=\"false\" port=\"$1\" device=\"0\"><Image uuid=\"{$(id $2)}\"/></AttachedDevice>"; }
cat >vb/web.vbox <<E
<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.19-linux"><Machine uuid="{${M}2}" name="web" OSType="Debian_64" snapshotFolder="Snapshots">
<MediaRegistry><HardDisks><HardDisk uuid="{$(id a)}" location="a.vdi" format="VDI" type="Normal"/><HardDisk uuid="{$(id b)}" location="b.vdi" format="VDI" type="Normal"/></HardDisks></MediaRegistry>
<Hardware><CPU count="2"/><Memory RAMSize="512"/><Firmware type="EFI"/><BIOS><NVRAM path="web.nvram"/></BIOS><AudioAdapter enabled="true" driver="Pulse"/>
<Network><Adapter slot="0" enabled="true" MACAddress="080027000001" type="82540EM"><NAT/></Adapter></Network>
<StorageControllers><StorageController name="SATA" type="AHCI" PortCount="2">$(device 0 a)</StorageController>
<StorageController name="SAS" type="LsiLogicSas" PortCount="8">$(device 2 b)</StorageController></StorageControllers></Hardware></Machine></VirtualBox>
E
echo nvram >vb/web.nvram
cat >vm/web.vmx <<'E'
.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "16"
displayName = "web"
guestOS = "debian10-64"
memSize = "512"
numvcpus = "2"
firmware = "efi"
uuid.bios = "22 22 22 22 00 00 00 00-00 00 00 00 00 00 00 03"
nvram = "web.nvram"
scsi0.present = "TRUE"
scsi0.virtualDev = "lsisas1068"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "a.vmdk"
sata0.present = "TRUE"
sata0:1.present = "TRUE"
sata0:1.fileName = "b.vmdk"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "vmxnet3"
ethernet0.connectionType = "bridged"
ethernet0.generatedAddress = "00:0c:29:00:00:01"
tools.syncTime = "TRUE"
E
cp vb/web.nvram vm/
expect 0 k backup --vm libvirt --allow-path "$PWD/lv" lv/web.xml
expect 0 k backup --vm virtualbox vb/web.vbox
expect 0 k backup --vm vmware vm/web.vmx

# --- each as each --------------------------------------------------------------------------------------------------------
disk_of() { case $1:$2 in libvirt:a) echo vda ;; libvirt:b) echo sda ;; virtualbox:a) echo SATA-0-0 ;; virtualbox:b) echo SAS-2-0 ;; vmware:a) echo scsi0-0 ;; vmware:b) echo sata0-1 ;; esac; }
# content FOLDER DISK RAW: by qemu-img, whatever format
content() {
	local f
	f=$(ls "$1/$2".* | head -1)
	qemu-img compare -q -f "${f##*.}" -F raw "$f" "$3" || die "$f is not $3"
	case $f in *.qcow2 | *.vdi) qemu-img check -q "$f" ;; esac
}
libvirt_ok() {
	virt-xml-validate "$1" domain >/dev/null 2>val || die "$1: $(cat val; cat "$1")"
	# libvirt's test driver takes its own type alone, and keeps what it was given
	sed 's/<domain type="kvm"/<domain type="test"/' "$1" >test.xml
	virsh -q -c test:///default "define test.xml; dumpxml $2" >dump.xml 2>val || die "virsh define $1: $(cat val)"
}
ending() { case $1 in libvirt) echo xml ;; virtualbox) echo vbox ;; vmware) echo vmx ;; ovf) echo ovf ;; esac; }
# back DESCRIPTION: our own readers find the same disks
back() {
	expect 0 k backup --vm back --adopt --allow-path "$PWD/$(dirname "$1")" "$1"
	k show --json back >show.json
	equal "$(jq '.states[0].disks | length' show.json)" 2 "disks of $1"
	jq -r '.disks[].name' show.json | while read -r d; do point_digest "back:$d"; done | sort >digests
	equal "$(cat digests)" "$( (digest <a.raw; digest <b.raw) | sort)" "disks of $1"
}
check() {	# FROM TO FOLDER DESCRIPTION
	case $2 in
	libvirt) libvirt_ok "$4" "'web & $1'"; has dump.xml "<vcpu placement='static'>2</vcpu>" "524288</memory>" "firmware='efi'" ;;
	virtualbox)
		xmllint --noout "$4"
		has "$4" 'type="EFI"' 'RAMSize="512"' '<CPU count="2"'
		for d in a b; do
			u=$("$KEDGE" info --json "$3/$(disk_of $1 $d).vdi" | jq -r .ids.uuid)
			equal "$(grep -c "{$u}" "$4")" 2 "places of an image's UUID: the registry, the controller"
		done ;;
	vmware) has "$4" 'memSize = "512"' 'numvcpus = "2"' 'firmware = "efi"' ;;
	ovf)
		xmllint --noout "$4"
		(cd "$3" && sed -n 's/^SHA256(\(.*\))= \(.*\)/\2  \1/p' $1.mf | sha256sum --quiet -c) || die "the manifest of $3"
		equal "$(wc -l <"$3/$1.mf")" 3 "lines of the manifest" ;;
	esac
}
for from in libvirt virtualbox vmware; do
	for to in libvirt virtualbox vmware ovf; do
		case $to in libvirt) f=qcow2 ;; virtualbox) f=vdi ;; *) f=vmdk ;; esac
		dir=$from-$to
		expect 0 k restore $from --to $dir -O $f $([ $to != ovf ] || echo --machine ovf) --vm-name "web & $from"
		cp err $dir.err
		says "next: " "$dir/$from.$(ending $to)"
		content $dir "$(disk_of $from a)" a.raw
		content $dir "$(disk_of $from b)" b.raw
		desc=$dir/$from.$(ending $to)
		equal "$(stat -c %a "$desc" $dir/*.$f | sort -u)" 600 "modes"
		lacks "$desc" "${M}" "22 22 22 22" "52:54:00:00:00:01" "080027000001" "00:0c:29:00:00:01"
		check $from $to $dir "$desc"
		[ $to = ovf ] || back "$desc"
		[ $to = $from ] || has $dir.err "not carried over"
	done
done
# what stays, what is told
has libvirt-libvirt/libvirt.xml "<shares>77</shares>" "<relaxed" "$PWD/libvirt-libvirt/web_VARS.fd"
cmp libvirt-libvirt/web_VARS.fd lv/web_VARS.fd
cmp libvirt-libvirt/web.xml.orig lv/web.xml
has virtualbox-virtualbox/virtualbox.vbox "AudioAdapter" 'path="web.nvram"'
cmp virtualbox-virtualbox/web.nvram vb/web.nvram
has vmware-vmware/vmware.vmx 'tools.syncTime = "TRUE"' 'virtualHW.version = "16"' 'nvram = "web.nvram"'
[ ! -e vmware-libvirt/web.nvram ] && [ -e vmware-libvirt/web.nvram.orig ] || die "a file that the new machine doesn't use looks as if it did"
has libvirt-vmware.err "virtio" "TPM" "UEFI's variables"
has virtualbox-libvirt.err "sound card"
has vmware-virtualbox.err "bridged" "vmxnet3"
! grep "not carried over" virtualbox-virtualbox.err vmware-vmware.err || die "of the same kind something was lost"
has libvirt-libvirt.err "the TPM's state"	# which libvirt keeps elsewhere

# --- ids, options, --json ---------------------------------------------------------------------------------------------------
expect 0 k restore --json libvirt --to j -O vdi --keep-ids
[ ! -s err ] || die "restore --json says $(cat err)"
equal "$(field out '"\(.machine.kind) \(.machine.uuid) \(.machine.name) \(.machine.file)"')" "virtualbox ${M}1 web libvirt.vbox" json
field out '.machine.not_carried_over | length > 2' | grep -qx true || die "what was lost: $(cat out)"
has j/libvirt.vbox "${M}1" 525400000001
expect 0 k restore vmware --to s1 --seed-ids x
expect 0 k restore vmware --to s2 --seed-ids x
cmp s1/vmware.vmx s2/vmware.vmx
cmp s1/scsi0-0.vmdk s2/scsi0-0.vmdk
expect 0 k restore vmware --to esx -O vmdk --subformat vmfs
says "next: vim-cmd solo/registervm"
expect 0 k restore libvirt --to bios --machine libvirt --firmware bios --vm-memory 300M
libvirt_ok bios/libvirt.xml web
lacks dump.xml efi "<nvram"
has dump.xml 307200

# --- at once, or not at all -----------------------------------------------------------------------------------------------------
expect 1 k restore vmware --to vmware-vmware
says exists --force
expect 0 k restore vmware --to vmware-vmware --force
equal "$(ls -Ad .kedge-* ./*/.kedge-* 2>/dev/null)" "" "what is left of staging folders"
for after in 0.02 0.05 0.1; do
	"$KEDGE" --key-file "$KEY" -q restore vmware --to new -O raw --machine none &
	pid=$!
	sleep $after
	kill -9 $pid 2>/dev/null || true
	wait $pid 2>/dev/null || true
	if [ -e new ]; then
		content new scsi0-0 a.raw
		content new sata0-1 b.raw
		[ -e new/web.nvram ] && [ -e new/web.vmx ] || die "a killed restore left a part: $(ls new)"
		rm -r new
	fi
done
