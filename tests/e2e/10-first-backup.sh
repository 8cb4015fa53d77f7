# A raw and a qcow2 disk go in as one VM and come out bit for bit, as raw and as qcow2, with an attachment (promise 1).
. "$TOP/tests/e2e/lib.sh"
needs qemu-img jq
truncate -s $((20 * 1048576 + 1536)) data.img	# no whole cluster, no whole chunk
random_at data.img 0 3000000 1
random_at data.img $((18 * 1048576)) 70000 2
truncate -s 64M root.raw
random_at root.raw 1048576 5000000 3
qemu-img convert -f raw -O qcow2 root.raw root.qcow2
echo '<domain><name>db</name><uuid>11111111-2222-3333-4444-555555555555</uuid></domain>' > db.xml
fresh_repo
expect 0 k backup --vm db vda=root.qcow2 vdb=raw:data.img --attach db.xml --json
equal "$(field out .vm)" db vm
equal "$(field out .complete)" true complete
for f in id bytes_read bytes_hashed bytes_new bytes_stored seconds disks states; do
	[ "$(field out "has(\"$f\")")" = true ] || die "the JSON lacks $f"
done
expect 0 k list
prints db current
expect 0 k list --json
equal "$(field out 'length')" 1 backups
equal "$(field out '.[0].states | length')" 1 states
expect 0 k show db
prints vda vdb db.xml root.qcow2
equal "$(point_digest db:vda)" "$(digest < root.raw)" "cat of vda"
equal "$(point_digest db:vdb@latest/current)" "$(digest < data.img)" "cat of vdb"
expect 0 k restore db@latest --to out1 -O raw
cmp out1/vda.raw root.raw
cmp out1/vdb.raw data.img
cmp out1/db.xml.orig db.xml
says "virsh define"
expect 0 k restore db --to out2
cmp out2/vdb.raw data.img
qemu-img check -q out2/vda.qcow2
qemu-img compare -q -f qcow2 -F raw out2/vda.qcow2 root.raw
expect 0 k restore db:vdb -o data.qcow2
qemu-img check -q data.qcow2
equal "$(image_digest data.qcow2)" "$(digest < data.img)" "a raw disk as qcow2" 2>/dev/null || {
	qemu-img convert -f qcow2 -O raw data.qcow2 d.raw; cmp -n "$(stat -c %s data.img)" d.raw data.img; }
# sparse: holes stay holes
[ "$(du -k out1/vda.raw | cut -f1)" -lt 8000 ] || die "the restored raw file is not sparse"
# a part only
equal "$(k cat db:vda --offset 1M --length 1000 | digest)" "$(tail -c +1048577 root.raw | head -c 1000 | digest)" "cat of a part"
expect 0 k check --read-data
