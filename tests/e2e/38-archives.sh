# Compressed images, and images in tar archives: read as they lie there, and the same as what tar and the compressors give.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img jq bsdtar gzip xz zstd bzip2 lz4 python3
quick_repo
d() { "$KEDGE" dump --no-progress "$@"; }

truncate -s 9000000 a.raw
random_at a.raw 0 1000000 1
random_at a.raw 5000000 300000 2
random_at a.raw 8999000 1000 3
qemu-img convert -f raw -O qcow2 a.raw a.qcow2
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized a.raw a.vmdk
qemu-img convert -f raw -O vpc -o subformat=fixed,force_size=on a.raw a.vhd 2>/dev/null
raw=$(digest <a.raw) rounded=$("$KEDGE" dump --no-progress a.qcow2 | digest)
pack() { gzip -k "$1"; xz -0k "$1"; zstd -qk "$1"; bzip2 -k "$1"; lz4 -q "$1" "$1.lz4"; }
for f in a.raw a.qcow2 a.vmdk a.vhd; do pack $f; done

# --- compressed: the content decides, and raw must be said, as of plain files --------------------------------------------
for z in gz xz zst bz2 lz4; do
	equal "$(d raw:a.raw.$z | digest)" $raw "raw.$z"
	equal "$(d a.qcow2.$z | digest)" $rounded "qcow2.$z"
	equal "$(d vhd:a.vhd.$z | digest)" "$(d a.vhd | digest)" "vhd.$z"
	expect 1 "$KEDGE" dump --sink null a.raw.$z
	says "no known image format" "write raw:a.raw.$z"
	cut=$(stat -c %s a.raw.$z)
	head -c $((cut / 2)) a.raw.$z > cut.raw.$z
	expect 1 "$KEDGE" dump --sink null raw:cut.raw.$z
	head -c $(($(stat -c %s a.qcow2.$z) / 2)) a.qcow2.$z > cut.qcow2.$z
	expect 1 "$KEDGE" dump --sink null cut.qcow2.$z
	says "cut.qcow2.$z"
done
equal "$(d a.vmdk.xz | digest)" "$(d a.vmdk | digest)" "vmdk.xz"
# several members make one stream, and a wrong checksum is noticed: gzip's, that libarchive doesn't look at, too
(head -c 1000000 a.raw | gzip; tail -c +1000001 a.raw | gzip) > two.raw.gz
equal "$(d raw:two.raw.gz | digest)" $raw "two members"
for z in gz xz zst bz2 lz4; do
	python3 - a.raw.$z bad.raw.$z <<-'PY'
	import sys
	b = bytearray(open(sys.argv[1], 'rb').read())
	z = sys.argv[1][-2:]
	at = len(b) - 6 if z == 'gz' else len(b) // 20	# gzip: its CRC; others: the data
	b[at] ^= 1
	open(sys.argv[2], 'wb').write(b)
	PY
	expect 1 "$KEDGE" dump --sink null raw:bad.raw.$z
done
# ... nor does a later stream that is damaged or cut, or anything else behind one, end it early; zeros may
head -c 1000000 a.raw > part1 && tail -c +1000001 a.raw > part2
for p in "gzip -c" "xz -0c" "zstd -qc" "bzip2 -c" "lz4 -qc" "lz4 -qc --no-frame-crc -BX --content-size"; do
	case $p in gzip*) z=gz ;; xz*) z=xz ;; zstd*) z=zst ;; bz*) z=bz2 ;; *) z=lz4 ;; esac
	$p part1 > one.raw.$z && $p part2 > later
	cat one.raw.$z later > two.raw.$z
	equal "$(d raw:two.raw.$z | digest)" $raw "$p: two streams"
	[ $z = zst ] || {
		(cat two.raw.$z; head -c 8192 /dev/zero) > padded.raw.$z
		equal "$(d raw:padded.raw.$z | digest)" $raw "$p: zeros behind"
	}
	for n in 3 4 30; do
		(cat one.raw.$z; head -c $n later) > bad.raw.$z
		expect 1 "$KEDGE" dump --sink null raw:bad.raw.$z
	done
	(cat one.raw.$z; printf x; tail -c +2 later) > bad.raw.$z
	expect 1 "$KEDGE" dump --sink null raw:bad.raw.$z
	(cat one.raw.$z; echo abc) > bad.raw.$z
	expect 1 "$KEDGE" dump --sink null raw:bad.raw.$z
done
# a raw disk that only begins like a compressed file is that disk: its guest may have written anything
cp a.raw.gz guest.img && truncate -s 4M guest.img
equal "$(d raw:guest.img | digest)" "$(digest <guest.img)" "a disk that begins like gzip"
for z in gz xz zst bz2 lz4; do	# nor is it unpacked twice, where it is packed itself
	cp a.raw.$z inner-$z.raw && truncate -s 4M inner-$z.raw
	pack inner-$z.raw
	for y in gz xz zst bz2 lz4; do
		equal "$(d raw:inner-$z.raw.$y | digest)" "$(digest <inner-$z.raw)" "a disk that begins like $z, in $y"
	done
done
truncate -s 1M plain.gz	# and a name alone compresses nothing
equal "$(d raw:plain.gz | digest)" "$(digest <plain.gz)" "a name that says gzip"

# --- a raw disk is read in a stream, without a copy; the others leave none behind ------------------------------------------
mkdir tmp
expect 0 k backup --vm v --temp-dir /nonexistent raw:a.raw.gz
says "decompressed while it is read"
equal "$(point_digest v)" $raw "backup of raw.gz"
expect 0 k restore v -o r.img
cmp r.img a.raw
expect 0 k backup --json --vm v --audit 100% raw:a.raw.gz
equal "$(point_digest v)" $raw "again"
expect 1 k backup --vm q --temp-dir /nonexistent a.qcow2.xz
says "/nonexistent"
TMPDIR=$PWD/tmp expect 0 k backup --vm q a.qcow2.xz
equal "$(point_digest q)" $rounded "backup of qcow2.xz"
[ -z "$(ls -A tmp)" ] || die "left behind: $(ls -A tmp)"
equal "$(k show --json q | jq -r '.. | .format? // empty' | head -1)" qcow2 "the format that is restored"

# --- bombs -----------------------------------------------------------------------------------------------------------
expect 1 "$KEDGE" dump --sink null --max-unpacked 1M a.qcow2.gz
says "more than 1048576 bytes" "--max-unpacked"
expect 1 "$KEDGE" dump --sink null --max-unpacked 8999999 raw:a.raw.zst
says "more than 8999999 bytes"
expect 0 "$KEDGE" dump --sink null --max-unpacked 9000000 raw:a.raw.zst

# --- tar: ustar, pax, GNU; members at their places --------------------------------------------------------------------------
long=$(printf 'n%.0s' {1..150})
cp a.vmdk $long.vmdk
for kind in ustar pax gnutar; do
	bsdtar --format $kind -cf x-$kind.tar a.raw a.qcow2 ./a.vmdk a.qcow2.zst a.raw.xz $( [ $kind = ustar ] || echo $long.vmdk )
	equal "$(d raw:x-$kind.tar//a.raw | digest)" $raw "$kind, raw"
	equal "$(d x-$kind.tar//a.qcow2 | digest)" $rounded "$kind, qcow2"
	equal "$(d x-$kind.tar//./a.vmdk | digest)" "$(d a.vmdk | digest)" "$kind, vmdk"
	equal "$(d x-$kind.tar//a.qcow2.zst | digest)" $rounded "$kind, qcow2.zst"
	equal "$(d raw:x-$kind.tar//a.raw.xz | digest)" $raw "$kind, raw.xz"
	[ $kind = ustar ] || equal "$(d x-$kind.tar//$long.vmdk | digest)" "$(d a.vmdk | digest)" "$kind, a long name"
done
expect 1 "$KEDGE" dump --sink null x-pax.tar
says "say which" "x-pax.tar//MEMBER" "a.qcow2.zst"
expect 1 "$KEDGE" dump --sink null x-pax.tar//no.img
says "no member no.img" "a.vmdk"
expect 0 "$KEDGE" info x-pax.tar//a.vmdk
prints "tar member" "streamOptimized"
gzip -k x-pax.tar
tar -czf one.tgz a.qcow2
equal "$(d x-pax.tar.gz//a.qcow2 | digest)" $rounded "tar.gz"
equal "$(d one.tgz | digest)" $rounded "tgz of one file"
tar -cf one.tar a.qcow2
head -c 500000 one.tar > cut.tar
expect 1 "$KEDGE" dump --sink null cut.tar
says "cut.tar" "outside the file"
# sparse members, as clouds want them
for kind in gnu pax; do
	tar --format=$kind -Szcf sparse-$kind.tar.gz a.raw
	[ "$(zcat sparse-$kind.tar.gz | wc -c)" -lt 3000000 ] || die "tar -S made nothing sparse"
	equal "$(d raw:sparse-$kind.tar.gz | digest)" $raw "a sparse member, $kind"
done
expect 1 "$KEDGE" dump --sink null --max-unpacked 8999999 raw:sparse-gnu.tar.gz//a.raw
# a size that the headers only claim reaches into no other member, and a map goes nowhere beyond the size
python3 - <<'PY'
import io, tarfile
heads = [('realsize', {'GNU.sparse.realsize': '50000'}), ('size', {'GNU.sparse.size': '50000'}),
         ('schily', {'SCHILY.realsize': '50000'}),
         ('map', {'GNU.sparse.major': '0', 'GNU.sparse.minor': '1', 'GNU.sparse.size': '50000',
                  'GNU.sparse.numblocks': '1', 'GNU.sparse.map': '0,60000'}),
         ('beyond', {'GNU.sparse.major': '0', 'GNU.sparse.minor': '1', 'GNU.sparse.size': '50000',
                     'GNU.sparse.numblocks': '2', 'GNU.sparse.map': '0,500,49900,500'}),
         ('less', {'GNU.sparse.realsize': '500'})]
for name, head in heads:
    with tarfile.open(f'claim-{name}.tar', 'w', format=tarfile.PAX_FORMAT) as t:
        i = tarfile.TarInfo('disk.raw')
        i.size, i.pax_headers = 1000, head
        t.addfile(i, io.BytesIO(b'd' * 1000))
        i = tarfile.TarInfo('other')
        i.size = 100000
        t.addfile(i, io.BytesIO(b'o' * 100000))
PY
for n in realsize size schily map beyond less; do
	expect 1 "$KEDGE" dump --sink null raw:claim-$n.tar//disk.raw
	says "tar archive"
	equal "$(d raw:claim-$n.tar//other | digest)" "$(head -c 100000 /dev/zero | tr '\0' o | digest)" "$n: the other member"
done
# two raw members have one file's identity, and are two disks all the same
sleep 2.1
head -c 1M a.raw > m1 && tail -c 1M a.raw > m2 && tar -cf two.tar m1 m2
sleep 2.1
expect 0 k backup --vm two a=raw:two.tar//m1 b=raw:two.tar//m2
expect 0 k backup --vm two a=raw:two.tar//m2 b=raw:two.tar//m1
equal "$(point_digest two:a)" "$(digest <m2)" "disk a after they were exchanged"
equal "$(point_digest two:b)" "$(digest <m1)" "disk b"
# nothing is followed out of an archive
qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 over.qcow2
tar -cf chain.tar over.qcow2 a.qcow2
expect 1 "$KEDGE" dump --sink null chain.tar//over.qcow2
says "isn't looked for in an archive"
gzip -k over.qcow2	# a compressed file has a folder
equal "$(d over.qcow2.gz | digest)" $rounded "a compressed overlay"
