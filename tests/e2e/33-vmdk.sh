# VMDK: every kind backed up, restored to every kind and other formats; a delta whose second night reads only what changed.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo

truncate -s 20972032 a.raw	# not a whole number of grains
random_at a.raw 0 100000 1
random_at a.raw 9000000 700000 2
random_at a.raw 20900000 72032 3
head -c 3000000 /dev/zero | tr '\0' x | dd of=a.raw bs=1M seek=4 conv=notrunc status=none
want=$(digest <a.raw)

# --- there: what QEMU writes ----------------------------------------------------------------------------------------
for kind in monolithicSparse monolithicFlat twoGbMaxExtentSparse twoGbMaxExtentFlat streamOptimized; do
	mkdir in-$kind
	qemu-img convert -f raw -O vmdk -o subformat=$kind a.raw in-$kind/d.vmdk
	expect 0 k backup --vm $kind in-$kind/d.vmdk
	equal "$(point_digest $kind)" "$want" "$kind, backed up"
	equal "$("$KEDGE" info --json in-$kind/d.vmdk | jq -r '"\(.format) \(.variant) \(.virtual_size)"')" "vmdk $kind 20972032" info
	[ $kind != twoGbMaxExtentSparse ] || equal "$("$KEDGE" info --json in-$kind/d.vmdk |
		jq -r '"\(.adapter) \(.extents | map("\(.kind) \(.file) \(.size)") | join(","))"')" "ide SPARSE d-s001.vmdk 20972032" "its extents"
done

# --- and back ---------------------------------------------------------------------------------------------------------
expect 0 k restore monolithicSparse -o r.raw
cmp r.raw a.raw
expect 0 k restore streamOptimized -o r.qcow2
qemu-img compare -q -f qcow2 -F raw r.qcow2 a.raw
expect 0 k -q backup --vm q r.qcow2
for kind in monolithicSparse monolithicFlat twoGbMaxExtentSparse streamOptimized vmfs; do
	expect 0 k restore q -o out-$kind.vmdk --subformat $kind
	[ $kind = vmfs ] || qemu-img check -q -f vmdk out-$kind.vmdk
	qemu-img compare -q -f vmdk -F raw out-$kind.vmdk a.raw || die "$kind: not what was backed up"
	equal "$("$KEDGE" dump --no-progress out-$kind.vmdk | digest)" "$want" "$kind, read again"
	equal "$("$KEDGE" info --json out-$kind.vmdk | jq -r .variant)" $kind "kind"
done
equal "$(ls out-*)" "out-monolithicFlat-flat.vmdk
out-monolithicFlat.vmdk
out-monolithicSparse.vmdk
out-streamOptimized.vmdk
out-twoGbMaxExtentSparse-s001.vmdk
out-twoGbMaxExtentSparse.vmdk
out-vmfs-flat.vmdk
out-vmfs.vmdk" files
grep -q 'RW 40961 VMFS "out-vmfs-flat.vmdk"' out-vmfs.vmdk && grep -q 'createType="vmfs"' out-vmfs.vmdk
cmp out-vmfs-flat.vmdk a.raw
expect 0 k restore q -o c.vmdk --compress
cmp -n 20 c.vmdk out-streamOptimized.vmdk
expect 0 k restore q -o f.vmdk --preallocation full
[ $(($(stat -c %b f-flat.vmdk) * 512)) -ge 20972032 ] || die "--preallocation full reserves no space"
mkdir folder threads
expect 0 k restore monolithicFlat --to folder/x
qemu-img compare -q -f vmdk -F raw folder/x/disk0.vmdk a.raw
expect 0 "$KEDGE" dump --no-progress -O vmdk --subformat streamOptimized --threads 1 -o one.vmdk --seed-ids x r.qcow2
expect 0 "$KEDGE" dump --no-progress -O vmdk --subformat streamOptimized --threads 4 -o threads/one.vmdk --seed-ids x r.qcow2
cmp one.vmdk threads/one.vmdk

# --- what is there stays, what is refused makes nothing -------------------------------------------------------------------
cp a.raw keep-flat.vmdk
expect 1 k restore q -o keep.vmdk --subformat monolithicFlat
says "keep-flat.vmdk exists"
cmp keep-flat.vmdk a.raw
[ ! -e keep.vmdk ] || die "a descriptor beside another disk's extent"
expect 0 k restore q -o keep.vmdk --subformat vmfs --force
qemu-img compare -q -f vmdk -F raw keep.vmdk a.raw
for bad in "--subformat thick" "--cluster-size 64K"; do expect 2 k restore q -o x.vmdk $bad; done
for bad in "--subformat vmfs --compress" "--subformat streamOptimized --preallocation full"; do expect 1 k restore q -o x.vmdk $bad; done
expect 2 k restore q -o x.vmdk --preallocation metadata
expect 1 k restore q -o 'x".vmdk'
says "cannot hold that name"
[ -z "$(ls x* .kedge-* 2>/dev/null)" ] || die "a refused restore made a file"

# --- a damaged directory: the copy is read, and that is told ------------------------------------------------------------------
cp in-monolithicSparse/d.vmdk hurt.vmdk
gd=$(($(od -An -tu8 -j56 -N8 hurt.vmdk) * 512))
printf '\377\377\377\177' | dd of=hurt.vmdk bs=1 seek=$gd conv=notrunc status=none
expect 0 "$KEDGE" info hurt.vmdk
prints "note" "the redundant grain directory is used" "at $gd "
expect 0 "$KEDGE" info --json hurt.vmdk
jq -e '.note | test("redundant")' out >/dev/null || die "no note: $(cat out)"
expect 0 k backup --vm hurt hurt.vmdk
says "the redundant grain directory is used"
equal "$(point_digest hurt)" "$want" "by the copy"
rgd=$(($(od -An -tu8 -j48 -N8 hurt.vmdk) * 512))
printf '\377\377\377\177' | dd of=hurt.vmdk bs=1 seek=$rgd conv=notrunc status=none
expect 1 k backup --vm hurt hurt.vmdk
says "grain directory entry at $gd"

# --- ids --------------------------------------------------------------------------------------------------------------------
ids() { "$KEDGE" info --json "$1" | jq -r '"\(.ids.uuid) \(.ids.content)"'; }
for i in 1 2; do expect 0 k restore monolithicFlat -o i$i.vmdk; done
[ "$(ids i1.vmdk)" != "$(ids i2.vmdk)" ] || die "two restores have the same ids"
expect 0 k restore monolithicFlat -o i3.vmdk --keep-ids
equal "$(ids i3.vmdk | cut -d' ' -f2)" "$(ids in-monolithicFlat/d.vmdk | cut -d' ' -f2)" "CID kept"
mkdir s1 s2
for kind in monolithicSparse twoGbMaxExtentSparse streamOptimized monolithicFlat; do
	for i in 1 2; do expect 0 k restore q -o s$i/$kind.vmdk --subformat $kind --seed-ids one; done
done
diff -r s1 s2

# --- a delta: by its hint and CID, the layer below not read again --------------------------------------------------------------
mkdir chain && cp in-monolithicSparse/d.vmdk chain/base.vmdk && cd chain
touch -d '1 hour ago' base.vmdk
qemu-img create -q -f vmdk -b base.vmdk -F vmdk c1.vmdk
qemu-io -f vmdk -c 'write -P 77 5M 1M' c1.vmdk >/dev/null
sleep 2.1	# a change of the same moment would not show
expect 0 k backup --json --vm chain c1.vmdk
equal "$(field out '[.states[].state] | sort | join(" ")')" "current layer:base.vmdk" "states"
qemu-img create -q -f vmdk -b c1.vmdk -F vmdk c2.vmdk
qemu-io -f vmdk -c 'write -P 88 12M 1M' c2.vmdk >/dev/null
expect 0 k backup --json --audit off --vm chain c2.vmdk
read=$(field out .bytes_read)
[ "$read" -le 1200000 ] || die "the second night read $read bytes"
qemu-img convert -f vmdk -O raw c2.vmdk ../want.raw
equal "$(point_digest chain)" "$(digest <../want.raw)" "the second night's state"
expect 0 k restore chain -o ../flat.vmdk --subformat twoGbMaxExtentSparse
qemu-img compare -q -f vmdk -F raw ../flat.vmdk ../want.raw
cd ..

# --- a hint of another host: the name beside the child counts, and the CID ------------------------------------------------------
mkdir far && cd far
cp ../in-monolithicSparse/d.vmdk base.vmdk
qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentSparse -b base.vmdk -F vmdk c.vmdk
qemu-io -f vmdk -c 'write -P 5 0 64k' c.vmdk >/dev/null
qemu-img convert -f vmdk -O raw c.vmdk want.raw
cp c.vmdk good.vmdk
for hint in '/vmfs/volumes/4f/vm/base.vmdk' 'D:\\vms\\base.vmdk' '..\\vm\\base.vmdk'; do
	sed "s|base.vmdk|$hint|" good.vmdk >c.vmdk
	equal "$("$KEDGE" dump --no-progress c.vmdk | digest)" "$(digest <want.raw)" "hint $hint"
done
sed 's/^parentCID=.*/parentCID=0badcafe/' good.vmdk >c.vmdk
expect 1 k backup --vm far c.vmdk
says "was written to after" "0badcafe"
expect 0 "$KEDGE" dump --force --sink null c.vmdk
cp good.vmdk c.vmdk && mv c-s001.vmdk away
expect 1 k backup --vm far c.vmdk
says "c-s001.vmdk"
mkdir sub && mv away sub/ && sed -i "s|c-s001|../far/sub/away|;s|away.vmdk|away|" c.vmdk
equal "$("$KEDGE" dump --no-progress c.vmdk | digest)" "$(digest <want.raw)" "an extent in a folder below"
sed -i "s|../far/sub/away|$PWD/../key|" c.vmdk
expect 1 k backup --vm far c.vmdk
says "outside the image's folder" "--allow-path"
rm base.vmdk && cp good.vmdk c.vmdk && mv sub/away c-s001.vmdk
expect 1 k backup --vm far c.vmdk
says "base.vmdk"
cd ..

# --- more files than a process may have open by default ---------------------------------------------------------------------
mkdir many && cd many
{ printf '# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\ncreateType="twoGbMaxExtentFlat"\n'
	for ((n = 0; n < 100; n++)); do
		head -c 4096 /dev/zero | tr '\0' "\\$(printf %o $((n + 33)))" >f$n
		printf 'RW 8 FLAT "f%d" 0\n' $n
	done; } >many.vmdk
equal "$(ulimit -Sn 64; "$KEDGE" dump --no-progress many.vmdk | digest)" "$(for ((n = 0; n < 100; n++)); do cat f$n; done | digest)" "100 extents"
cd ..

# --- a disk that can't read a sector of the first directory or table: the second one is on another --------------------------
case $BUILD in */release | */debug) ;; *) exit 0 ;; esac	# sanitizers want to be loaded first
mkdir faults && cd faults
# fault CLASS N COMMAND...: its Nth call of the class fails; was_hit: there was one
fault() { rm -f report; env LD_PRELOAD="$BUILD/preload/fault.so" FAULT_REPORT=report FAULT_CLASS="$1" FAULT_NTH="$2" FAULT_DO=error FAULT_ERRNO=5 "${@:3}"; }
was_hit() { [ "$(od -An -t u8 -j 8 -N 8 report | tr -d ' ')" != 0 ]; }
"$KEDGE" dump --no-progress -q -O vmdk -o s.vmdk raw:../a.raw
directory= table=
for ((n = 1; n < 100; n++)); do
	fault read $n "$KEDGE" info --json s.vmdk >out 2>/dev/null || true	# says what is wrong, or which copy it takes
	was_hit || break
	case $(jq -r '.note // ""' out) in
	*"directory is used, the first is damaged: "*"Input/output error"*) directory=$n ;;
	*"tables are used, the first damage: "*"Input/output error"*) table=$n ;;
	esac
done
[ $n -lt 100 ] && [ -n "$directory" ] && [ -n "$table" ] || die "of $n reads that fail none has the copy used: '$directory' '$table'"

# --- what fails while the files of a disk get their names leaves none of them -----------------------------------------------------
truncate -s 5G big.raw
printf x | dd of=big.raw bs=1 seek=3G conv=notrunc status=none
for class in sync open name; do
	for ((n = 1; n < 60; n++)); do
		mkdir at && cd at
		code=0
		fault $class $n "$KEDGE" dump --no-progress -q -O vmdk --subformat twoGbMaxExtentSparse -o d.vmdk raw:../big.raw 2>../said || code=$?
		mv report ..
		[ $code = 0 ] || equal "$(ls -A)" "" "after call $n of $class failed: $(cat ../said)"
		cd .. && rm -r at
		was_hit || break
	done
	[ $n -gt 2 ] && [ $n -lt 60 ] || die "$n calls of $class failed"
done
