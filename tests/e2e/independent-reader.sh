# A reader that was written from docs/format.md alone reads every point that kedge stored, by each kind of key, with and
# without the index runs (promise 7).
. "$TOP/tests/e2e/lib.sh"
PYTHON=${PYTHON:-/usr/bin/python3}
needs qemu-img qemu-io jq
"$PYTHON" -c 'import nacl, zstandard' 2>/dev/null || skip "python3-nacl and python3-zstandard (make deps-test) are needed"
export PYTHONDONTWRITEBYTECODE=1
umask 077
reader() { "$PYTHON" "$TOP/tests/reader/kedge_reader.py" "$1" repo "${@:2}"; }

# What each backup must hold, as `digests` of the reader prints it: id, VM, state, kind, name, size, digest.
: >wanted
want() {	# want VM STATE KIND NAME FILE
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$id" "$1" "$2" "$3" "$4" "$(stat -c %s "$5")" "$(digest <"$5")" >>wanted
}
want_image() {	# want_image VM STATE DISK [QEMU-IMG OPTION...] IMAGE
	qemu-img convert -O raw "${@:4}" want.raw
	want "$1" "$2" disk "$3" want.raw
}
backup() { expect 0 k backup "$@" --json; id=$(field out .id); }
agree() {	# agree OPTION...: the reader finds what is wanted, and nothing else
	reader digests "$@" >got 2>got.err || die "the reader: $(head -c 2000 got.err)"
	diff <(sort wanted) <(sort got) || die "the reader finds other points, with $*"
	[ ! -s got.err ] || die "the reader complains: $(head -c 2000 got.err)"
}
verify() {
	reader verify "$@" >got 2>got.err || die "verify: $(head -c 2000 got.err) $(cat got)"
	[ "$(field got .points)" = "$(wc -l <wanted)" ] || die "verify saw $(cat got), wanted $(wc -l <wanted) points"
}

fresh_repo
head -c 100 /dev/urandom >keyfile
expect 0 k key add --label file --new-key-file keyfile

# db: a qcow2 with snapshots of odd names, a raw disk of no whole sector, an attachment; three nights.
truncate -s 24M root.raw
random_at root.raw 131072 1500000 1
head -c 900000 root.raw | base64 -w 76 | dd of=root.raw bs=1M seek=12 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 root.raw root.qcow2
truncate -s 5000001 data.img
random_at data.img 4000000 1000001 2
echo '<domain><uuid>11111111-2222-3333-4444-555555555555</uuid></domain>' >'dom 1%.xml'
for night in 1 2 3; do
	qemu-io -f qcow2 -c "write -P $((96 + night)) ${night}M 70k" -c "write -z 13M 100k" root.qcow2 >/dev/null
	qemu-img snapshot -c "n$night é 5%/x" root.qcow2
	qemu-io -f qcow2 -c "write -P $((112 + night)) $((20 + night))M 512" root.qcow2 >/dev/null
	random_at data.img $((night * 70000)) 1000 $((10 + night))
	[ $night != 3 ] || truncate -s 2000000 data.img
	backup --vm db vda=root.qcow2 vdb=raw:data.img --attach 'dom 1%.xml'
	for n in $(seq $night); do
		want_image db "snap:n$n é 5%25/x" vda -l "snapshot.name=n$n é 5%/x" root.qcow2
	done
	want_image db current vda root.qcow2
	want db current disk vdb data.img
	want db - attachment "dom 1%25.xml" 'dom 1%.xml'
done

# chain: layers of different sizes; its bottom is the disk above, so that most of it is stored already.
cp root.qcow2 base.qcow2
qemu-img snapshot -d "n3 é 5%/x" base.qcow2
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2
qemu-io -f qcow2 -c "write -P 7 0 200k" -c "write -z 1M 64k" mid.qcow2 >/dev/null
qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2 30M
qemu-io -f qcow2 -c "write -P 8 29M 10k" -c "discard 0 64k" top.qcow2 >/dev/null
for night in 1 2; do
	backup --vm chain top.qcow2
	want_image chain current disk0 top.qcow2
	want_image chain layer:mid.qcow2 disk0 mid.qcow2
	want_image chain layer:base.qcow2 disk0 base.qcow2
	qemu-io -f qcow2 -c "write -P 9 5M 3k" top.qcow2 >/dev/null
done

# odd: sizes around those of sectors and chunks; disks that are all zero.
args=()
for size in 1 511 512 65535 65536 65537 16777216 16777217; do
	truncate -s $size odd.$size
	[ $size -gt 16777216 ] || printf x | dd of=odd.$size bs=1 seek=$((size - 1)) conv=notrunc status=none
	args+=("d$size=raw:odd.$size")
done
qemu-img create -q -f qcow2 empty.qcow2 3M
backup --vm odd "${args[@]}" empty=empty.qcow2
for size in 1 511 512 65535 65536 65537 16777216 16777217; do want odd current disk d$size odd.$size; done
want_image odd current empty empty.qcow2

agree --password-file password
agree --key-file keyfile --rebuild
verify --password-file password
verify --recovery-key-file recovery --rebuild
# The recovery key reads a disk as a file, too; by the disk's number, out of the newest backup.
reader cat db current 1 --recovery-key-file recovery -o out.raw
cmp out.raw data.img
# A key that has gone opens no more; what it wrote stays.
expect 0 k key remove file
! reader list --key-file keyfile >/dev/null 2>&1 || die "a removed key still opens the repository"
# Without any index run both still find everything.
mv repo/index index
agree --password-file password --rebuild
equal "$(point_digest db:vda 2>/dev/null)" "$(grep "$(printf 'db\tcurrent\tdisk\tvda')" wanted | tail -1 | cut -f7)" "kedge without index runs"
mv index repo/index

# Small chunks make higher trees; segments and packs of other sizes; a name that needs an alias.
rm -rf repo state cache
expect 0 k init --chunk-size 4K --pack-size 1M
mv out recovery
: >wanted
truncate -s 257M high.raw
random_at high.raw 0 2500000 5
random_at high.raw 269000000 10000 6
random_at high.raw $((150 << 20)) 5000 7
backup --vm "höhe 50%" raw:high.raw --no-shared-compression
vm=$(field out .vm)
want "$vm" current disk disk0 high.raw
for level in fast max off; do
	head -c 15000 /dev/zero | tr '\0' "${level:0:1}" | dd of=high.raw bs=1M seek=200 conv=notrunc status=none
	backup --vm "höhe 50%" raw:high.raw --compression $level
	want "$vm" current disk disk0 high.raw
done
agree --password-file password
verify --password-file password
equal "$(reader list --password-file password | jq -r .vm_name | sort -u)" "höhe 50%25" "the VM's name"
[ "$(ls repo/data/*/*/* | wc -l)" -ge 3 ] || die "packs of 1 MiB were not made"
