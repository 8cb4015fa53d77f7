# Appliances: an OVA, and its files in a folder; the manifest; what tar and qemu-img make of the same.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img jq gzip python3
quick_repo

seed=0
for d in a b; do
	truncate -s 8M $d.raw
	random_at $d.raw 1000000 700000 $((++seed))
	qemu-img convert -f raw -O vmdk -o subformat=streamOptimized $d.raw $d.vmdk
done
gzip -kf b.vmdk
# descriptor B-FILE B-COMPRESSION
descriptor() {
	cat <<-X
	<?xml version="1.0"?>
	<Envelope ovf:version="1.0" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
	<References><File ovf:id="file1" ovf:href="a.vmdk"/><File ovf:id="file2" ovf:href="$1" $2/></References>
	<DiskSection><Info/><Disk ovf:diskId="d1" ovf:fileRef="file1" ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^20" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/>
	<Disk ovf:diskId="d2" ovf:fileRef="file2" ovf:capacity="8388608" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
	<VirtualSystem ovf:id="vs"><Info/><Name>web</Name><VirtualHardwareSection><Info/>
	<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
	<Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
	<Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d1</rasd:HostResource><rasd:InstanceID>5</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
	<Item><rasd:AddressOnParent>1</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d2</rasd:HostResource><rasd:InstanceID>6</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
	</VirtualHardwareSection></VirtualSystem></Envelope>
	X
}
descriptor b.vmdk.gz 'ovf:compression="gzip"' >web.ovf
manifest() { for f in web.ovf a.vmdk b.vmdk.gz; do echo "SHA256($f)= $(sha256sum <$f | cut -c1-64)"; done; }
manifest >web.mf
tar --format=ustar -cf web.ova web.ovf web.mf a.vmdk b.vmdk.gz

good() {
	equal "$(point_digest $1:scsi-0-0)" "$(digest <a.raw)" "$1: disk a"
	equal "$(point_digest $1:scsi-0-1)" "$(digest <b.raw)" "$1: disk b"
}
expect 0 k backup --vm ova web.ova
says "2 disks" "have the sums"
good ova
mkdir tmp
TMPDIR=$PWD/tmp expect 0 k backup web.ovf	# its name is in it
good web
[ -z "$(ls -A tmp)" ] || die "left behind: $(ls -A tmp)"
expect 0 k restore ova --to back
cmp back/web.ovf.orig web.ovf
cmp back/web.mf.orig web.mf
qemu-img compare -q -f vmdk -F raw back/scsi-0-0.vmdk a.raw || die "restored disk a"
expect 0 "$KEDGE" info web.ova
prints "web" "scsi-0-0" "a.vmdk" "gzip" "manifest"
expect 0 "$KEDGE" info --json web.ova
equal "$(jq -r '.disks[] | "\(.image) \(.capacity) \(.gzip)"' out | tr '\n' ',')" "a.vmdk 8388608 false,b.vmdk.gz 8388608 true," "info --json"
equal "$("$KEDGE" dump --no-progress web.ova//a.vmdk | digest)" "$(digest <a.raw)" "a disk alone"

# --- one byte changed in a disk, and in the descriptor; a member that is missing -----------------------------------------------
mkdir bad && cp web.ovf web.mf b.vmdk.gz bad && cp a.vmdk bad/a.vmdk
printf X | dd of=bad/a.vmdk bs=1 seek=9000 conv=notrunc status=none	# in the descriptor's padding: the disk reads the same
(cd bad && tar -cf bad.ova web.ovf web.mf a.vmdk b.vmdk.gz)
tar -cf bad/short.ova web.ovf web.mf a.vmdk
for f in bad/web.ovf bad/bad.ova; do
	expect 1 k backup --vm bad $f
	says "a.vmdk was changed" "--force"
	expect 0 k backup --vm bad --adopt --force $f
	says "a.vmdk was changed"
	good bad
done
expect 1 k backup --vm short bad/short.ova
says "b.vmdk.gz" "doesn't have it"
expect 1 k backup --vm short --force bad/short.ova
says "no member b.vmdk.gz"
expect 0 k backup --vm short --force --skip-disk scsi-0-1 bad/short.ova

# --- names that lead away are names: nothing is opened outside, nothing is unpacked ------------------------------------------------
mkdir evil && echo secret >secret.txt && (cd evil && descriptor ../secret.txt "" >web.ovf && cp ../a.vmdk . && tar -cf evil.ova web.ovf a.vmdk)
expect 1 k backup --vm evil evil/evil.ova
says "no member ../secret.txt"
expect 1 k backup --vm evil evil/web.ovf
says "outside"
descriptor b.vmdk.gz 'ovf:chunkSize="1000"' >evil/web.ovf
expect 1 k backup --vm evil evil/web.ovf
says "pieces" "--skip-disk scsi-0-1"
# what is no archive, or has no descriptor
cp a.raw fake.ova
expect 1 k backup fake.ova
says "no known image format"
tar -cf plain.ova a.vmdk
expect 0 k backup --vm plain plain.ova
equal "$(point_digest plain)" "$(digest <a.raw)" "an archive of one image"
