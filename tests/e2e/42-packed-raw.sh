# Restored raw disks, compressed and in pieces: what the compressors' own tools and cat make of them.
. "$TOP/tests/e2e/lib.sh"
needs gzip xz zstd qemu-img jq
quick_repo

truncate -s 7000001 a.raw
random_at a.raw 100000 1000000 1
random_at a.raw 4000000 100000 2
random_at a.raw 6999000 1000 3
expect 0 k backup --vm v raw:a.raw
raw=$(digest <a.raw)

# --- compressed: by the name's ending, by --compress, by --subformat ------------------------------------------------------
declare -A tool=([gz]=gzip [xz]=xz [zst]=zstd)
for z in gz xz zst; do
	expect 0 k restore v -o by-name.raw.$z
	expect 0 k restore v -O raw --subformat $z -o by-kind-$z --threads 4
	for f in by-name.raw.$z by-kind-$z; do
		${tool[$z]} -tq <$f || die "$f: the tool's own test"
		equal "$(${tool[$z]} -dc <$f | digest)" $raw $f
		[ "$(stat -c %s $f)" -lt 1300000 ] || die "$f isn't compressed: $(stat -c %s $f) bytes"
		equal "$(stat -c %a $f)" 600 "mode of $f"
	done
	equal "$("$KEDGE" dump --no-progress raw:by-name.raw.$z | digest)" $raw "read again, $z"
	expect 0 "$KEDGE" dump raw:a.raw -O raw -o dumped.img.$z
	equal "$(${tool[$z]} -dc <dumped.img.$z | digest)" $raw "dump, $z"
done
expect 2 k restore v -O raw --compress -o by-flag
says "name it .raw.zst"
expect 0 k restore v -O raw --compress -o by-flag.raw.xz
equal "$(xz -dc <by-flag.raw.xz | digest)" $raw "--compress"
expect 0 k restore v --to dir -O raw --compress
equal "$(zstd -dc dir/disk0.raw.zst | digest)" $raw "--to"
expect 0 k restore v -O raw --subformat plain -o odd.gz
cmp odd.gz a.raw
for i in 1 2; do expect 0 k restore v -o same$i.raw.zst --seed-ids x; done
cmp same1.raw.zst same2.raw.zst
expect 1 k restore v -o by-name.raw.gz
says "exists"
expect 2 k restore v -O raw --compress --preallocation full -o x
expect 1 k restore v -O raw --subformat xz --preallocation full -o x
says "cannot be preallocated"
expect 2 k restore v -O raw --subformat lz4 -o x
[ ! -e x ] || die "a refused restore made a file"
# little memory is enough
expect 0 k restore v -o small.raw.xz --memory 32M
equal "$(xz -dc <small.raw.xz | digest)" $raw "with little memory"

# --- in pieces ----------------------------------------------------------------------------------------------------------------
mkdir p
expect 0 k restore v -O split --piece-size 1M -o p/disk.raw
equal "$(ls p | tr '\n' ' ')" "disk.raw.001 disk.raw.002 disk.raw.003 disk.raw.004 disk.raw.005 disk.raw.006 disk.raw.007 " "pieces"
equal "$(cat p/disk.raw.* | digest)" $raw "cat of the pieces"
equal "$(stat -c %s p/disk.raw.001) $(stat -c %s p/disk.raw.007)" "1048576 708545" "their sizes"
[ "$(du -sk p | cut -f1)" -lt 1600 ] || die "not sparse: $(du -sk p)"
equal "$("$KEDGE" dump --no-progress p/disk.raw.001 | digest)" $raw "read again"
expect 1 k restore v -O split --piece-size 1M -o p/disk.raw
says "disk.raw.001 exists"
expect 0 k restore v -O split --piece-size 1M -o p/disk.raw.001 --force
equal "$(cat p/disk.raw.* | digest)" $raw "replaced"
expect 1 k restore v -O split --piece-size 2M -o p/disk.raw --force	# the old fifth piece would follow the new fourth
says "disk.raw.005 is there already"
equal "$(cat p/disk.raw.* | digest)" $raw "left as it was"
expect 0 k restore v -o p/one.001
equal "$(cat p/one.* | digest)" $raw "by the name, one piece"
expect 0 k restore v -O split --piece-size 64K --preallocation full -o p/many
equal "$(cat p/many.* | digest)" $raw "many pieces"
expect 2 k restore v -O raw --piece-size 1M -o x
says "split"
expect 0 "$KEDGE" dump raw:a.raw -O split --piece-size 3M -o p/d
equal "$(cat p/d.* | digest)" $raw "dump -O split"
# as it was, if nothing else is said
expect 0 k backup --vm s p/disk.raw.001
expect 0 k restore s --to asis
equal "$(cat asis/disk0.raw.* | digest)" $raw "as it was"
# a full disk, or a stop: nothing is left
( ulimit -f 2000; trap '' XFSZ; ! k restore v -O split --piece-size 4M -o p/full >/dev/null 2>&1 ) || true
[ -z "$(ls p | grep full || true)" ] || die "left behind: $(ls p)"
