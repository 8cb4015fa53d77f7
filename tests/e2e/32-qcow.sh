# qcow version 1: backed up, restored to other formats and back; an overlay whose second night reads only what changed.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo

truncate -s 20M a.raw
random_at a.raw 0 3000000 1
random_at a.raw 9000000 700000 2
random_at a.raw 20900000 71520 3
qemu-img convert -f raw -O qcow a.raw a.qcow

# --- there and back -------------------------------------------------------------------------------------------------
expect 0 k backup --vm v a.qcow
expect 0 k restore v -o r.raw
cmp r.raw a.raw
expect 0 k restore v -o same		# as it was
says "same, qcow, 20.0 MiB"
for how in "" "--compress" "--cluster-size 64K" "--cluster-size 512 --compress"; do
	expect 0 k restore v -o r.qcow --force $how
	qemu-img compare -q -f qcow -F raw r.qcow a.raw || die "restored with $how: not what was backed up"
	equal "$("$KEDGE" dump --no-progress r.qcow | digest)" "$(digest <a.raw)" "read again, $how"
done
expect 2 k restore v -o x.qcow --cluster-size 128K
says "512 to 65536"
expect 2 k restore v -o x.qcow --preallocation full
expect 2 k restore v -o x.qcow --keep-ids
[ ! -e x.qcow ] || die "a refused restore made a file"
for i in 1 2; do expect 0 k restore v -o s$i.qcow --seed-ids one --compress; done
cmp s1.qcow s2.qcow

# --- an overlay: it doesn't say which format is below it -----------------------------------------------------------------
mkdir chain && cp a.qcow chain/base.qcow && cd chain
qemu-img create -q -f qcow -b base.qcow -F qcow o1.qcow
qemu-io -f qcow -c 'write -P 7 5M 1M' o1.qcow >/dev/null
qemu-img convert -f qcow -O raw o1.qcow want.raw
expect 1 k backup --vm chain o1.qcow
says "doesn't say which format its backing file" "--backing-format qcow"
touch -d '1 hour ago' base.qcow
sleep 2.1	# a change of the same moment would not show
expect 0 k backup --json --vm chain --backing-format qcow o1.qcow
equal "$(field out '[.states[].state] | sort | join(" ")')" "current layer:base.qcow" "states"
equal "$(point_digest chain)" "$(digest <want.raw)" "the overlay"
qemu-img create -q -f qcow -b base.qcow -F qcow o2.qcow
qemu-io -f qcow -c 'write -P 8 15M 1M' o2.qcow >/dev/null
expect 0 k backup --json --audit off --adopt --vm chain --backing-format qcow o2.qcow
read=$(field out .bytes_read)
[ "$read" -le 1200000 ] || die "the second night read $read bytes"
qemu-img convert -f qcow -O raw o2.qcow want.raw
equal "$(point_digest chain)" "$(digest <want.raw)" "the second night's state"
# Three layers of two formats: what one word says is wrong for one of them, and said to be so.
qemu-img convert -f qcow -O raw base.qcow base.raw
qemu-img create -q -f qcow -b base.raw -F raw mid.qcow
qemu-img create -q -f qcow -b mid.qcow -F qcow top.qcow
qemu-io -f qcow -c 'write -P 9 2M 64k' mid.qcow >/dev/null
qemu-io -f qcow -c 'write -P 7 5M 1M' top.qcow >/dev/null
cp base.raw mixed.raw
for at in 2:64:011 5:1024:007; do	# MiB, KiB, byte
	IFS=: read -r mib kib byte <<<"$at"
	head -c $((kib << 10)) /dev/zero | tr '\0' "\\$byte" | dd of=mixed.raw bs=1M seek=$mib conv=notrunc status=none
done
expect 1 k backup --vm mixed --backing-format base.raw=raw top.qcow
says "--backing-format mid.qcow=FORMAT"
expect 1 k backup --vm mixed --backing-format qcow top.qcow
says "base.raw: qcow: no qcow header"
expect 0 "$KEDGE" dump --sink null --no-progress --backing-format raw top.qcow
says "mid.qcow: is read as raw" "begins as an image of another format"
expect 2 k backup --vm mixed --backing-format base.raw=nope top.qcow
expect 0 k backup --vm mixed --backing-format qcow --backing-format base.raw=raw top.qcow
equal "$(point_digest mixed)" "$(digest <mixed.raw)" "layers of two formats"
ln -s /etc/hostname out.qcow
qemu-img create -q -f qcow -u -b out.qcow o3.qcow 20M 2>/dev/null || qemu-img create -q -f qcow -u -b out.qcow -F raw o3.qcow 20M
expect 1 k backup --vm chain --backing-format raw o3.qcow
says "outside the image's folder"
