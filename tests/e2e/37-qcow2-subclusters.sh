# qcow2 as newer QEMUs write it: clusters compressed by zstd, extended L2 entries.  QEMU's check and compare, its map of what is
# there, and our reader; with snapshots, over a backing file, encrypted.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo

truncate -s 20000256 a.raw
random_at a.raw 0 1000000 1
for i in $(seq 20); do random_at a.raw $((3000000 + i * 262144)) 1000 $i; done	# a little in each of many clusters
head -c 3000000 /dev/zero | tr '\0' x | dd of=a.raw bs=1M seek=10 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 a.raw a.img
qemu-img snapshot -c one a.img
cp a.raw one.raw
qemu-io -f qcow2 -c 'write -P 7 5M 300k' -c 'write -z 10M 100k' a.img >/dev/null
qemu-img convert -f qcow2 -O raw a.img a.raw
expect 0 k -q backup --vm v a.img

kind() { qemu-img info --output=json "$1" | jq -r '."format-specific".data | "\(."compression-type") \(."extended-l2")"'; }
good() {	# good IMAGE RAW KIND
	qemu-img check -f qcow2 "$1" >check || die "$1: $(cat check)"
	has check "No errors were found"
	qemu-img compare -q -f qcow2 -F raw "$1" "$2" || die "$1: not what was backed up"
	equal "$("$KEDGE" dump --no-progress "$1" | digest)" "$(qemu-img convert -f qcow2 -O raw "$1" got && digest <got)" "$1 by kedge"
	equal "$(kind "$1")" "$3" "$1"
}

# --- the options, alone and together -----------------------------------------------------------------------------------------
while read -r want how; do
	expect 0 k restore v -o d.qcow2 --force $how
	good d.qcow2 a.raw "${want/+/ }"
done <<'END'
zlib+false --compression-type zlib
zstd+false --compression-type zstd
zstd+false --compression-type zstd --compress --cluster-size 512 --threads 1
zstd+false --compression-type zstd --cluster-size 2M --seed-ids x
zlib+true --extended-l2
zlib+true --extended-l2 --cluster-size 16K
zlib+true --extended-l2 --cluster-size 2M
zlib+true --extended-l2 --compress
zstd+true --extended-l2 --compression-type zstd
zlib+true --extended-l2 --preallocation metadata
zlib+true --extended-l2 --preallocation full
zlib+true --extended-l2 --size 100M
END
"$KEDGE" info d.qcow2 >info
has info extended-l2
expect 0 k restore v -o z.qcow2 --compression-type zstd
qemu-img check --output json z.qcow2 | jq -e '."compressed-clusters" > 20' >/dev/null || die "--compression-type compresses nothing"
"$KEDGE" info z.qcow2 >info
has info zstd
for i in 1 2; do expect 0 k restore v -o same$i.qcow2 --extended-l2 --compression-type zstd --seed-ids x --threads $i; done
cmp same1.qcow2 same2.qcow2
expect 0 "$KEDGE" dump raw:a.raw -O qcow2 -o dumped.qcow2 --extended-l2 --compression-type zstd
good dumped.qcow2 a.raw "zstd true"

# --- a subcluster takes the space of one -----------------------------------------------------------------------------------------
expect 0 k restore v -o s.qcow2 --extended-l2 --cluster-size 2M
expect 0 k restore v -o l.qcow2 --cluster-size 2M
mapped() { qemu-img map --output json "$1" | jq '[.[] | select(.data) | .length] | add'; }
[ $(mapped s.qcow2) -lt 6500000 ] && [ $(mapped l.qcow2) -gt 9000000 ] || die "mapped: $(mapped s.qcow2) with subclusters, $(mapped l.qcow2) without"

# --- snapshots, and what QEMU makes of them -----------------------------------------------------------------------------------------
for how in "--compression-type zstd" "--extended-l2" "--extended-l2 --compression-type zstd"; do
	expect 0 k restore v -o s.qcow2 --force --with-snapshots $how
	qemu-img check -q s.qcow2 || die "$how: check"
	equal "$("$KEDGE" dump --no-progress --state snap:one s.qcow2 | digest)" "$(digest <one.raw)" "the snapshot, $how"
	qemu-io -f qcow2 -c 'write -P 9 1M 70000' s.qcow2 >/dev/null
	qemu-img snapshot -a one s.qcow2
	qemu-img snapshot -d one s.qcow2
	qemu-img check -q s.qcow2 || die "$how: check after the snapshot"
	qemu-img compare -q -f qcow2 -F raw s.qcow2 one.raw || die "$how: not the snapshot"
done

# --- over a backing file: zeros by subclusters hide it, what is equal is its --------------------------------------------------------
expect 0 k -q backup --vm w raw:a.raw
cp a.raw base.raw
random_at a.raw 7000000 3000 5
head -c 300000 /dev/zero | dd of=a.raw bs=1K seek=200 conv=notrunc status=none
expect 0 k -q backup --vm w raw:a.raw
for how in "--cluster-size 16K" "--cluster-size 64K" "--cluster-size 2M" "--compression-type zstd" "--size 30M"; do
	cp a.raw want.raw
	[ "$how" != "--size 30M" ] || truncate -s 30M want.raw
	expect 0 k restore w -o o.qcow2 --force --extended-l2 --backing raw:base.raw $how
	qemu-img check -q o.qcow2 || die "$how: check"
	qemu-img compare -q -f qcow2 -F raw o.qcow2 want.raw || die "$how: not what was backed up"
	equal "$("$KEDGE" dump --no-progress o.qcow2 | digest)" "$(digest <want.raw)" "overlay by kedge, $how"
done
expect 0 k restore w -o o.qcow2 --force --extended-l2 --cluster-size 2M --backing raw:base.raw
qemu-img map --output json o.qcow2 >map
jq -e '[.[] | select(.start <= 300000 and .start + .length > 300000)] | .[0] | .zero and .depth == 0 and (.data | not)' <map >/dev/null ||
	die "no zeros: $(cat map)"
jq -e '[.[] | select(.start <= 1500000 and .start + .length > 1500000)] | .[0] | .depth == 1' <map >/dev/null ||
	die "nothing is the backing file's in a cluster that has data too: $(cat map)"

# --- encrypted ---------------------------------------------------------------------------------------------------------------------
umask 077
printf pass >pw
expect 0 k restore w -o e.qcow2 --extended-l2 --encrypt luks --image-secret pw --iter-time 100
opts="driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename=e.qcow2"
qemu-img check --object secret,id=s,file=pw --image-opts "$opts" >check || die "$(cat check)"
qemu-img compare -q --object secret,id=s,file=pw --image-opts "$opts" driver=raw,file.filename=a.raw || die "encrypted: not what was backed up"
equal "$("$KEDGE" dump --no-progress --image-secret pw e.qcow2 | digest)" "$(digest <a.raw)" "encrypted, by kedge"

# --- refused -------------------------------------------------------------------------------------------------------------------------
refused() {	# refused TEXT OPTIONS
	expect 2 k restore w "${@:2}"
	says "$1"
}
refused "zlib|zstd" -o no.qcow2 --compression-type lz4
refused "--compression-type needs -O qcow2" -o no.qcow --compression-type zstd
refused "--extended-l2 needs -O qcow2" -o no.vmdk --extended-l2
refused "16K or more" -o no.qcow2 --extended-l2 --cluster-size 8K
refused "that version can't be compressed by zstd" -o no.qcow2 --subformat v2 --compression-type zstd
refused "that version has no extended L2 entries" -o no.qcow2 --subformat v2 --extended-l2
refused "--compression-type and --preallocation" -o no.qcow2 --compression-type zstd --preallocation full
refused "both compressed and encrypted" -o no.qcow2 --compression-type zstd --encrypt luks --image-secret pw
expect 2 "$KEDGE" dump raw:a.raw --extended-l2 -o no.raw
says "-O FORMAT and -o FILE"
for f in no.*; do [ ! -e "$f" ] || die "a refused restore made $f"; done
