# Raw disks in pieces: read as split(1) and others name them, refused where one is missing or short.
. "$TOP/tests/e2e/lib.sh"
needs split jq qemu-img
quick_repo
d() { "$KEDGE" dump --no-progress "$@"; }

truncate -s 7000001 a.raw
random_at a.raw 0 1000000 1
random_at a.raw 4000000 100000 2
random_at a.raw 6999000 1001 3
raw=$(digest <a.raw)
mkdir one zero letters wide
split -b 1M -d -a 3 --numeric-suffixes=1 a.raw one/disk.raw.
split -b 1M -d -a 3 a.raw zero/disk.
split -b 1M a.raw letters/disk.img.
split -b 64K -d a.raw wide/disk.raw.	# .89 is followed by .9000
[ -e wide/disk.raw.9000 ] || die "split didn't widen its suffixes"
for f in one/disk.raw.001 zero/disk.000 letters/disk.img.aa wide/disk.raw.00; do
	equal "$(d $f | digest)" $raw "$f"
	equal "$(d split:$f | digest)" $raw "split:$f"
	equal "$(cat ${f%.*}.* | digest)" $raw "cat of $f"
done
expect 0 k backup --vm v one/disk.raw.001
says "v: 1 state of 1 disk"
equal "$(point_digest v)" $raw "backup"
expect 0 k restore v -o back.raw
cmp back.raw a.raw
expect 0 "$KEDGE" info --chain --json split:one/disk.raw.001
equal "$(jq -r '.[0] | "\(.format) \(.virtual_size)"' out)" "split 7000001" "info --chain"
expect 0 "$KEDGE" info split:one/disk.raw.001
prints "only the first piece"
# raw: is that file alone
equal "$(d raw:one/disk.raw.001 | digest)" "$(head -c 1M a.raw | digest)" "raw: one piece"

# --- what isn't whole is refused, by the file's name ---------------------------------------------------------------------------
mkdir bad && cp one/* bad && mv bad/disk.raw.003 away
expect 1 "$KEDGE" dump --sink null bad/disk.raw.001
says "disk.raw.003 is missing" "disk.raw.004 is there"
head -c 1048575 away > bad/disk.raw.003
expect 1 "$KEDGE" dump --sink null bad/disk.raw.001
says "disk.raw.003 has 1048575 bytes"
(cat away; echo) > bad/disk.raw.003
expect 1 "$KEDGE" dump --sink null bad/disk.raw.001
says "disk.raw.003 has 1048577 bytes"
: > bad/disk.raw.003
expect 1 "$KEDGE" dump --sink null bad/disk.raw.001
says "disk.raw.003 has 0 bytes"
rm bad/disk.raw.003 && mkfifo bad/disk.raw.003
expect 1 "$KEDGE" dump --sink null bad/disk.raw.001
says "disk.raw.003" "not a regular file"
rm bad/disk.raw.003 && ln -s "$PWD/away" bad/disk.raw.003
expect 1 "$KEDGE" dump --sink null bad/disk.raw.001
says "outside the image's folder" "--allow-path"
expect 0 "$KEDGE" dump --sink null --allow-path "$PWD" bad/disk.raw.001
rm bad/disk.raw.003 && cp away bad/disk.raw.003
expect 1 "$KEDGE" dump --sink null split:bad/disk.raw.002
says "not the name of a first piece"
expect 1 "$KEDGE" dump --sink null bad/disk.raw.002
says "no known image format"

# --- nor is a part of the disk the disk: without the first piece, in an archive, behind a gap where the width changes ------------
for f in zero/disk.001 split:zero/disk.001; do
	expect 1 "$KEDGE" dump --sink null $f
	says "disk.001" ".000" "name that one"
done
tar -C one -cf x.tar disk.raw.001 disk.raw.002 disk.raw.003
gzip -k x.tar
for f in x.tar x.tar.gz; do
	expect 1 k backup --vm t split:$f//disk.raw.001
	says "pieces in an archive" "unpack"
done
expect 0 "$KEDGE" info split:x.tar//disk.raw.001
rm wide/disk.raw.9000
expect 1 "$KEDGE" dump --sink null wide/disk.raw.00
says "disk.raw.90 is missing" "disk.raw.9001 is there"
mkdir long && split -b 7001 -d -a 4 --numeric-suffixes=1 a.raw long/disk.	# as 7-Zip names them: .999, .1000
for i in long/disk.0*; do mv $i ${i/.0/.}; done
[ -e long/disk.001 ] && [ -e long/disk.1000 ] && [ ! -e long/disk.1001 ] || die "not 1001 pieces: $(ls long | tail -1)"
equal "$(d long/disk.001 | digest)" $raw ".999, .1000"
cp long/disk.1000 long/disk.1001 && mv long/disk.1000 away2
expect 1 "$KEDGE" dump --sink null long/disk.001
says "disk.1000 is missing" "disk.1001 is there"
mkdir far && cp long/disk.00? far && cp long/disk.900 far/disk.900
expect 1 "$KEDGE" dump --sink null far/disk.001
says "disk.010 is missing" "disk.900 is there"

# --- a lone .001 is what it contains; the first of several that begins like an image is nobody's guess ----------------------------
mkdir lone && qemu-img convert -f raw -O qcow2 a.raw lone/x.001
equal "$(d lone/x.001 | digest)" "$(d qcow2:lone/x.001 | digest)" "a lone .001"
cp lone/x.001 lone/x.002
expect 1 "$KEDGE" dump --sink null lone/x.001
says "ambiguous" "split:" "qcow2:"
equal "$(d split:lone/x.001 | digest)" "$(cat lone/x.00? | digest)" "split: says it"
cp one/disk.raw.001 lone/y.001
expect 1 "$KEDGE" dump --sink null lone/y.001
says "no known image format"

# --- a piece that is written to, changes the disk; what nobody touched is not read -----------------------------------------------------
sleep 2.1
expect 0 k backup --json --vm n one/disk.raw.001
random_at one/disk.raw.004 1000 5000 9
expect 0 k backup --vm n one/disk.raw.001
equal "$(point_digest n)" "$(cat one/disk.raw.* | digest)" "after a change of a middle piece"
