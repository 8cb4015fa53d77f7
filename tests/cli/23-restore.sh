# restore and cat: every option does what it says; targets are refused before the first byte; failures leave nothing behind.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo
truncate -s 4M a.raw
random_at a.raw 0 500000 1
random_at a.raw 3000000 100000 2
qemu-img convert -f raw -O qcow2 a.raw a.qcow2
qemu-img snapshot -c one a.qcow2
cp a.raw one.raw
random_at a.raw 1000000 70000 3
qemu-io -f qcow2 -c 'write -P 1 1M 64k' a.qcow2 >/dev/null
qemu-img convert -f qcow2 -O raw a.qcow2 a.raw
qemu-img bitmap --add a.qcow2 dirty
truncate -s $((1048576 + 512)) b.raw
random_at b.raw 4096 5000 4
echo "<domain type='kvm'><name>v</name><uuid>11111111-2222-3333-4444-555555555555</uuid><memory>65536</memory><os><type>hvm</type></os><on_crash>restart</on_crash></domain>" >vm.xml
head -c 100000 /dev/urandom >nvram
expect 0 k -q backup --vm v vda=a.qcow2 vdb=raw:b.raw --attach vm.xml --attach nvram
expect 0 k -q backup --vm plain raw:b.raw
format() { qemu-img info --output json "$1" | jq -r .format; }
cluster() { qemu-img info --output json "$1" | jq '."cluster-size"'; }
space() { echo $(($(stat -c %b "$1") * 512)); }

# --- the format: by -O, else by the name, else as the disk was ------------------------------------------------------------
expect 0 k restore v:vda -o d1
says "disk vda: d1, qcow2, 4.0 MiB" "every chunk verified"
equal "$(format d1)" qcow2 "as it was"
expect 0 k restore v:vda -o d1.raw
cmp d1.raw a.raw
expect 0 k restore v:vda -o d1.img
cmp d1.img a.raw
expect 0 k restore v:vdb -o d2
cmp d2 b.raw
expect 0 k restore v:vdb -o d2.qcow2
equal "$(format d2.qcow2)" qcow2 "by the name"
equal "$(qemu-img info --output json d2.qcow2 | jq '."virtual-size"')" $((1048576 + 512)) "size, not a whole cluster"
qemu-img compare -q -f qcow2 -F raw d2.qcow2 b.raw
expect 0 k restore v:vda -o d3.raw -O qcow2
equal "$(format d3.raw)" qcow2 "by -O"
expect 0 k restore v:vda -o d3.qcow2 --format raw
cmp d3.qcow2 a.raw
expect 2 k restore v:vda -o d4 -O qed
says "raw|qcow2"
[ "$(space d1.raw)" -lt 1000000 ] || die "a raw file of 600 KB of data takes $(space d1.raw)"
equal "$(stat -c %a d1.raw)" 600 "mode of a restored file"

# --- options of qcow2 -----------------------------------------------------------------------------------------------------
equal "$(cluster d1)" 65536 "default cluster size"
for c in 512 4K 2M; do
	expect 0 k restore v:vda -o c$c.qcow2 --cluster-size $c
	equal "$(cluster c$c.qcow2)" "$(numfmt --from=iec $c)" "--cluster-size $c"
	qemu-img check -q c$c.qcow2
	qemu-img compare -q -f qcow2 -F raw c$c.qcow2 a.raw
done
for c in 256 4M 3000 x; do expect 2 k restore v:vda -o c.qcow2 --cluster-size $c; done
expect 0 k -q backup --vm text raw:"$TOP/docs/kedge.1.scd"
expect 0 k restore text -o t1.qcow2
expect 0 k restore text -o t2.qcow2 --compress
qemu-img check --output json t2.qcow2 | jq -e '."compressed-clusters" > 0' >/dev/null || die "--compress: no compressed clusters"
qemu-img check --output json t1.qcow2 | jq -e '."compressed-clusters" // 0 == 0' >/dev/null || die "compressed unasked"
equal "$(k cat text | digest)" "$(digest <"$TOP/docs/kedge.1.scd")" text
qemu-img compare -q t1.qcow2 t2.qcow2
for m in off metadata falloc full; do
	expect 0 k restore v:vda -o p$m.qcow2 --preallocation $m
	qemu-img check -q p$m.qcow2
	qemu-img compare -q -f qcow2 -F raw p$m.qcow2 a.raw
done
mapped() { qemu-img check --output json $1 | jq '."allocated-clusters"'; }
[ "$(mapped poff.qcow2)" -lt 30 ] || die "off maps $(mapped poff.qcow2) clusters"
for m in metadata falloc full; do equal "$(mapped p$m.qcow2)" 64 "clusters mapped with --preallocation $m"; done
[ "$(space poff.qcow2)" -lt 1200000 ] && [ "$(space pmetadata.qcow2)" -lt 1200000 ] || die "off or metadata reserve space"
[ "$(space pfalloc.qcow2)" -ge 4194304 ] && [ "$(space pfull.qcow2)" -ge 4194304 ] || die "falloc or full reserve none"
for m in falloc full; do
	expect 0 k restore v:vda -o p$m.raw --preallocation $m
	cmp p$m.raw a.raw
	[ "$(space p$m.raw)" -ge 4194304 ] || die "--preallocation $m reserves nothing in a raw file"
done
expect 2 k restore v:vda -o p.raw --preallocation metadata
says "needs -O qcow2"
expect 2 k restore v:vda -o p.qcow2 --preallocation some
for o in --compress --with-snapshots "--cluster-size 64K"; do
	expect 2 k restore v:vda -o p.raw $o
	says "-O qcow2"
done
for c in 64K 4M; do expect 2 k restore v:vda -o p.vhd --cluster-size $c; done
expect 2 k restore v:vda -o p.vhdx --cluster-size 64K
says "vhdx takes 1048576 to 268435456"
ls p.vhd p.vhdx p.raw p.qcow2 c.qcow2 d4 2>/dev/null && die "a refused restore made a file"

# --- with all snapshots, and without ---------------------------------------------------------------------------------------
expect 0 k restore v:vda -o s.qcow2 --with-snapshots
says "not carried over" dirty
qemu-img check -q s.qcow2
qemu-img convert -f qcow2 -l snapshot.name=one -O raw s.qcow2 s.raw
cmp s.raw one.raw
qemu-img compare -q -f qcow2 -F raw s.qcow2 a.raw
equal "$(qemu-img snapshot -l d1 | wc -l)" 0 "snapshots without --with-snapshots"
expect 0 k restore v:vda/snap:one -o o.raw
cmp o.raw one.raw

# --- all into a folder -------------------------------------------------------------------------------------------------------
expect 0 k restore v --to new/folder
says "attachment vm.xml.orig" "next: virsh define $PWD/new/folder/v.xml"
equal "$(ls -A new/folder | tr '\n' ' ')" "nvram v.xml vda.qcow2 vdb.raw vm.xml.orig " "files"
equal "$(ls -A new)" folder "what is beside the folder"
cmp new/folder/vm.xml.orig vm.xml
has new/folder/v.xml "<on_crash>restart</on_crash>" "file=\"$PWD/new/folder/vda.qcow2\"" "file=\"$PWD/new/folder/vdb.raw\""
lacks new/folder/v.xml 11111111-2222
cmp new/folder/nvram nvram
cmp new/folder/vdb.raw b.raw
equal "$(stat -c %a new/folder)" $([ $(id -u) = 0 ] && echo 711 || echo 700) "mode of the folder: libvirt's QEMU has another user than root"
expect 0 k restore plain --to plain.out
says "next: qemu-system-x86_64" "-drive file=plain.out/disk0.raw,format=raw"
# what is printed to be typed is one word for the shell, and a comma is doubled for QEMU, whatever the name
expect 0 k restore plain --to 'a, $(touch pwned)' -O raw
says "next: qemu-system-x86_64 -m 1024 -drive 'file=a,, \$(touch pwned)/disk0.raw,format=raw,if=virtio'"
expect 0 k restore v:vdb --to only
equal "$(ls only | tr '\n' ' ')" "nvram vdb.raw vm.xml " "with :DISK only that disk"
rm new/folder/vda.qcow2
echo precious >new/folder/vdb.raw
expect 1 k restore v --to new/folder
says "new/folder/vdb.raw exists" "--force"
[ ! -e new/folder/vda.qcow2 ] || die "a disk was written although the other's target exists"
rm new/folder/vdb.raw new/folder/v*.xml*
echo precious >new/folder/nvram
expect 1 k restore v --to new/folder
says "new/folder/nvram exists" "--force"
equal "$(ls new/folder) $(cat new/folder/nvram)" "nvram precious" "an existing attachment"
cp vm.xml disk0.raw
expect 0 k -q backup --vm clash raw:b.raw --attach disk0.raw
expect 1 k restore clash --to clash --force
says "an attachment has the name that disk disk0 gets"
mkdir one
echo precious >one/v.xml
expect 1 k restore v --to one
says "one/v.xml exists"
equal "$(ls -A one)" v.xml "what a refused restore left"
expect 0 k restore v --to new/folder --force
cmp new/folder/nvram nvram
equal "$(ls -A new/folder | tr '\n' ' ')" "nvram v.xml vda.qcow2 vdb.raw vm.xml.orig " "files, again"
# a machine that is told or made up, or none
expect 0 k restore v --to none --machine none
cmp none/vm.xml vm.xml
says "next: qemu-system-x86_64"
expect 0 k restore plain --to told --vm-memory 256M --vm-cpus 2 --vm-name "a&b" --firmware uefi
has told/plain.xml "<name>a&amp;b</name>" ">262144</memory>" ">2</vcpu>" 'firmware="efi"'
for k in vmware virtualbox ovf; do expect 2 k restore plain --to no --machine $k; says "it can't have raw disks"; done
expect 2 k restore plain --to no --machine none --vm-cpus 2
expect 2 k restore v:vda --to no --machine libvirt
expect 2 k restore plain --to no -O vhdx --vm-cpus 2
says "--machine KIND"
expect 2 k restore plain --to no -O vmdk --machine vmware --subformat streamOptimized
expect 2 k restore plain --to no -O vmdk --machine ovf --subformat vmfs
[ ! -e no ] || die "a refused restore made a folder"
expect 0 k restore v --to kept --keep-ids
has kept/v.xml "<uuid>11111111-2222-3333-4444-555555555555</uuid>"
expect 0 k restore v --to seed1 --seed-ids x -q
expect 0 k restore v --to seed2 --seed-ids x -q
same "$(grep uuid seed1/v.xml)" "$(grep uuid seed2/v.xml)" "UUIDs of one seed"
expect 0 k restore --json v --to j -O raw
[ ! -s err ] || die "restore --json says $(cat err)"
equal "$(field out '"\(.vm) \(.disks | length) \(.disks[0].disk) \(.disks[0].path) \(.disks[0].format) \(.disks[0].size) \(.chunks_missing)"')" \
	"v 2 vda j/vda.raw raw 4194304 0" json
field out '.bytes_written > 600000 and .bytes_fetched > 600000' | grep -x true >/dev/null || die "bytes: $(cat out)"
cmp j/vda.raw a.raw
expect 0 k restore -q v --to q
[ ! -s err ] && [ ! -s out ] || die "restore -q says $(cat out err)"
expect 0 k restore --bytes v:vdb -o by
says "$((1048576 + 512)) in"

# --- targets ------------------------------------------------------------------------------------------------------------------
expect 2 k restore v:vda -o only
says "only is a folder" "--to only"
expect 2 k restore v:vda -o only --force
expect 2 k restore v:vda
says "either -o FILE for one disk or --to DIR for all"
expect 2 k restore v:vda -o x --to y
expect 2 k restore v -o x
says "several disks: vda, vdb"
expect 1 k restore v:vda -o no/folder/x
says "no/folder"
expect 1 k restore v --to vm.xml
[ "$(digest <vm.xml)" = "$(digest <only/vm.xml)" ] || die "a file was taken for a folder"
mkfifo pipe
expect 1 k restore v:vda -o pipe --force
[ -p pipe ] || die "a pipe was replaced"
ln -s nowhere dangling
expect 1 k restore v:vda -o dangling
says "dangling exists"
[ ! -e nowhere ] || die "a dangling link was followed"
echo old >old.qcow2
expect 1 k restore v:vda -o old.qcow2
equal "$(cat old.qcow2)" old "an existing target"
expect 0 k restore v:vda -o old.qcow2 --force
qemu-img compare -q -f qcow2 -F raw old.qcow2 a.raw
# a target that a machine uses (qemu-io takes the same locks)
mkfifo commands
qemu-io -f qcow2 old.qcow2 <commands >answers 2>&1 &
vm=$!
exec 9>commands
echo 'write -P 7 0 64k' >&9
for _ in $(seq 100); do grep -q wrote answers && break; sleep 0.1; done
expect 11 k restore v:vda -o old.qcow2 --force
says "old.qcow2"
exec 9>&-
wait $vm
# a point that is damaged: the old target stays, nothing is left; --salvage gives the rest
cp old.qcow2 before.qcow2
mkdir lost
mv repo/data/* lost/
mkdir repo/data 2>/dev/null || true
expect 4 k restore v:vda -o old.qcow2 --force
says "guest bytes"
cmp old.qcow2 before.qcow2
expect 4 k restore v:vda -o fresh.qcow2
[ -z "$(ls -A | grep fresh)" ] || die "a failed restore left $(ls -A | grep fresh)"
expect 4 k restore v:vda -o salvaged.raw --salvage
says "guest bytes" "but those that are missing"
equal "$(digest <salvaged.raw)" "$(head -c 4M /dev/zero | digest)" "nothing but zeros could be had"
expect 4 k --json restore v:vda -o salvaged2.raw --salvage
[ "$(field out .chunks_missing)" -gt 5 ] || die "chunks_missing: $(cat out)"
expect 4 k cat v:vda
expect 4 k cat v:vda --salvage
equal "$(digest <out)" "$(head -c 4M /dev/zero | digest)" "cat --salvage"
mv lost/* repo/data/

# --- cat -----------------------------------------------------------------------------------------------------------------------
part() { tail -c +$(($2 + 1)) "$1" | head -c "$3" | digest; }
equal "$(k cat v:vda --offset 65530 --length 100000 | digest)" "$(part a.raw 65530 100000)" "a part"
equal "$(k cat v:vda --offset 3M | digest)" "$(part a.raw 3145728 4194304)" "from an offset to the end"
equal "$(k cat v:vda --length 1 | digest)" "$(part a.raw 0 1)" "one byte"
equal "$(k cat v:vdb --offset 1M --length 1G | digest)" "$(part b.raw 1048576 512)" "a length beyond the end"
equal "$(k cat v:vdb --offset $((1048576 + 512)) | wc -c)" 0 "at the end"
expect 2 k cat v:vdb --offset $((1048576 + 513))
says "behind the end" 1049088
expect 2 k cat v:vdb --length 0
expect 2 script -qec "'$KEDGE' --key-file key cat v:vdb" /dev/null
prints terminal
expect 1 sh -c '"$1" --key-file key cat v:vda >/dev/full' sh "$KEDGE"
says "No space left"
k cat v:vda 2>pipe-err | head -c 1 >/dev/null || true
[ ! -s pipe-err ] || die "a closed pipe is reported: $(cat pipe-err)"
expect 2 k cat --json v:vdb
