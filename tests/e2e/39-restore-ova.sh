# A machine as one OVA: what is in it, in which order, read by tar, 7-Zip, qemu-img, sha256sum, xmllint.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img jq bsdtar 7zz xmllint
quick_repo
truncate -s 4000256 a.raw
random_at a.raw 65536 700000 1
truncate -s 9G b.raw	# might need a size that tar's first header can't hold
random_at b.raw 8589934592 300000 2
expect 0 k backup --vm web raw:a.raw raw:b.raw
expect 0 k restore web -o web.ova --vm-memory 2G --vm-cpus 3 --vm-name 'a <b>'
says "next: VBoxManage import web.ova"
equal "$(stat -c %a web.ova)" 600 mode
members="web.ovf web.mf web-disk1.vmdk web-disk2.vmdk "
equal "$(tar tf web.ova | tr '\n' ' ')" "$members" "members by tar"
equal "$(bsdtar tf web.ova | tr '\n' ' ')" "$members" "members by bsdtar"
equal "$(7zz l -ba -slt web.ova | sed -n 's/^Path = //p' | sort | tr '\n' ' ')" "$(echo $members | tr ' ' '\n' | sort | tr '\n' ' ')" "members by 7-Zip"
7zz t web.ova >/dev/null || die "7-Zip finds faults in it"
# each member is a plain file with one header: an importer need not know pax (VirtualBox doesn't)
at=0
types=
while [ "$(dd if=web.ova bs=1 skip=$((at + 257)) count=5 status=none | tr -d '\0')" = ustar ]; do
	types=$types$(dd if=web.ova bs=1 skip=$((at + 156)) count=1 status=none)
	size=$((8#$(dd if=web.ova bs=1 skip=$((at + 124)) count=11 status=none)))
	at=$((at + 512 + (size + 511) / 512 * 512))
done
equal "$types" 0000 "types of the members"
# unpacked by two programs: the digests, the description, the disks
for by in "tar xf" "bsdtar xf"; do
	rm -rf x
	mkdir x
	(cd x && $by ../web.ova && sed -n 's/^SHA256(\(.*\))= \(.*\)/\2  \1/p' web.mf | sha256sum --quiet -c) || die "digests, by $by"
	equal "$(wc -l <x/web.mf)" 3 "lines of the manifest"
done
xmllint --noout x/web.ovf
at() { xmllint --xpath "$1" x/web.ovf; }
equal "$(at 'string(//*[local-name()="VirtualSystem"]/*[local-name()="Name"])')" "a <b>" name
equal "$(at 'string(//*[local-name()="Item"][*[local-name()="ResourceType"]="4"]/*[local-name()="VirtualQuantity"])')" 2048 memory
equal "$(at 'string(//*[local-name()="Item"][*[local-name()="ResourceType"]="3"]/*[local-name()="VirtualQuantity"])')" 3 CPUs
for i in 1 2; do
	equal "$(at "string(//*[local-name()='File'][$i]/@*[local-name()='href'])")" web-disk$i.vmdk "reference $i"
	equal "$(at "string(//*[local-name()='File'][$i]/@*[local-name()='size'])")" "$(stat -c %s x/web-disk$i.vmdk)" "size of disk $i"
done
equal "$(at "string(//*[local-name()='Disk'][2]/@*[local-name()='capacity'])")" 9663676416 "capacity of disk 2"
qemu-img compare -q -f vmdk -F raw x/web-disk1.vmdk a.raw
for i in 1 2; do
	expect 0 k backup --vm back$i x/web-disk$i.vmdk
done
equal "$(point_digest back1)" "$(digest <a.raw)" "disk 1, backed up again"
k diff --summary back2 web:disk1 >out 2>err || die "diff: $(cat err)"
# the members' elements stand in the schema's order
equal "$(at '//*[local-name()="Item"][*[local-name()="ResourceType"]="17"][1]/*' | sed -n 's/.*<rasd:\([A-Za-z]*\)[ >].*/\1/p' | tr '\n' ' ')" "AddressOnParent Caption ElementName HostResource InstanceID Parent ResourceType " "elements of an Item"
# as a folder it is the same
expect 0 k restore web --to folder -O vmdk --machine ovf --vm-memory 2G --vm-cpus 3 --vm-name 'a <b>'
(cd folder && sed -n 's/^SHA256(\(.*\))= \(.*\)/\2  \1/p' web.mf | sha256sum --quiet -c) || die "digests of the folder"
equal "$(sed 's/ovf:size="[0-9]*"//; s/href="[^"]*"//' folder/web.ovf | grep -v '^$')" "$(sed 's/ovf:size="[0-9]*"//; s/href="[^"]*"//' x/web.ovf | grep -v '^$')" "the folder's description, but for names and sizes"
# its own reader takes it; the machine goes on to another kind, and comes back
expect 0 k backup --vm again web.ova
for k in libvirt:qcow2 virtualbox:vdi vmware:vmdk; do
	expect 0 k restore again --to "${k%:*}" -O "${k#*:}" --machine "${k%:*}" --json
	equal "$(field out .machine.name)" "a <b>" "name in ${k%:*}"
done
has libvirt/again.xml "2097152</memory>" "<vcpu>3</vcpu>" 'bus="sata"'
has virtualbox/again.vbox 'RAMSize="2048"' '<CPU count="3"' 'type="AHCI"'
has vmware/again.vmx 'memSize = "2048"' 'numvcpus = "3"' 'sata0:1.fileName'
qemu-img compare -q -f qcow2 -F raw "$(ls libvirt/*0-0.qcow2)" a.raw
# the same seed, the same bytes
expect 0 k restore web -O ova -o s1 --seed-ids x
expect 0 k restore web -O ova -o s2 --seed-ids x
cmp s1 s2
# --- refused ------------------------------------------------------------------------------------------------------------
expect 1 k restore web -o web.ova
says "web.ova exists" --force
expect 0 k restore web -o web.ova --force
expect 2 k restore web -O ova --to z
says "one file"
expect 2 k restore web:disk0 -O ova -o z.ova
expect 2 k restore web -O ova -o z.ova --machine vmware
expect 2 k restore web -O ova -o z.ova --subformat vmfs
expect 2 k restore web -O ova -o z.ova --with-snapshots
expect 2 k restore web:disk0 -o z.raw --vm-cpus 2
says "--to DIR"
[ ! -e z ] && [ ! -e z.ova ] && [ ! -e z.raw ] || die "a refused restore made something"
equal "$(ls -d .kedge-* 2>/dev/null)" "" "what is left"
