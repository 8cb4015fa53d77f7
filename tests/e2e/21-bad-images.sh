# Hostile and broken images: each is refused or stored as incomplete, says what, where and what to do, and nothing is lost.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo
truncate -s 8M good.raw
random_at good.raw 0 1000000 1
qemu-img convert -f raw -O qcow2 good.raw good.qcow2
qemu-img snapshot -c one good.qcow2
qemu-io -f qcow2 -c 'write -P 2 5M 1M' good.qcow2 >/dev/null
qemu-img convert -f qcow2 -O raw good.qcow2 now.raw
expect 0 k -q backup --vm vm good.qcow2

# refused TEXT... : the last command failed with 1, naming these, and left the backups as they were
refused() {
	expect 1 k backup --vm vm --adopt bad.qcow2
	says kedge: "$@"
}

# --- truncated inside every structure: the places are read from the header -------------------------------------------------
be() { od -An -tu$2 --endian=big -j$1 -N$2 good.qcow2 | tr -d ' '; }
l1=$(be 40 8) refcounts=$(be 48 8) snapshots=$(be 64 8) size=$(stat -c %s good.qcow2)
block=$(be "$refcounts" 8) snap_l1=$(be "$snapshots" 8)
l2=$(($(be "$l1" 8) & 0xfffffffffffe00))
for cut in 3 70 100 107 $refcounts $block $l1 $((l1 + 7)) $l2 $snapshots $((snapshots + 20)) $snap_l1; do
	cp good.qcow2 bad.qcow2
	truncate -s $cut bad.qcow2
	case $cut in
	3) refused bad.qcow2 "no known image format" "raw:bad.qcow2" ;;
	70 | 100) refused bad.qcow2 "file ends inside the header, after $cut bytes" "qemu-img check" ;;
	*) refused bad.qcow2 "outside the file of $cut bytes" "qemu-img check" ;;
	esac
done
# in the data of the current state alone: what can be read is kept, as incomplete; latest stays the good one
cp good.qcow2 bad.qcow2
last=$(qemu-img map --output json good.qcow2 | jq '[.[] | select(.data)] | max_by(.offset) | .offset')
if [ "$last" -gt "$snapshots" ]; then
	truncate -s $((last + 65536)) bad.qcow2
	expect 3 k backup --vm vm --adopt bad.qcow2
	says "bad.qcow2: L2 entry at" "outside the file" INCOMPLETE
	expect 0 k list vm
	prints incomplete
	equal "$(point_digest vm)" "$(digest <now.raw)" "latest after an incomplete backup"
	id=$(k list --json vm | jq -r '.[-1].id')
	equal "$(point_digest "vm@$id/snap:one")" "$(digest <good.raw)" "the state that could be read"
	expect 1 k cat "vm@$id"
else
	die "the test's image is laid out otherwise: data ends at $last, snapshots at $snapshots"
fi

# --- tables that lie: outside, overlapping, used twice, too large, misaligned ----------------------------------------------
poke() {	# poke OFFSET BYTES VALUE: a big-endian number
	cp good.qcow2 bad.qcow2
	printf "$(printf "%0$(($2 * 2))x" $(($3)) | sed 's/../\\x&/g')" | dd of=bad.qcow2 bs=1 seek=$(($1)) conv=notrunc status=none
}
poke 40 8 "1 << 50";	refused "L1 table" "outside the file"
poke 40 8 "l1 + 8";	refused "L1 table"
poke 40 8 refcounts;	refused overlap
poke 48 8 l1;		refused overlap
poke 64 8 l1;		refused
poke 36 4 0x7fffffff;	refused "L1"
poke 60 4 70000;	refused snapshot
poke 20 4 31;		refused "cluster"
poke 24 8 "1 << 62";	refused
poke "l1" 8 "l1 | 1 << 63";	refused
poke "l1" 8 "(1 << 50) | 1 << 63";	refused "L1 entry at $l1" "outside the file"
poke "snapshots" 8 0;	refused
poke "snapshots" 8 "l1";	refused
poke 72 8 "1 << 40";	refused "feature"
poke 72 8 2;		refused corrupt "--force"
poke 32 4 1;		refused encrypted
poke 32 4 2;		refused encrypted
poke 4 4 9;		refused "a newer qcow image"
expect 1 k backup --vm vm --adopt qcow2:bad.qcow2
says "version 9"
poke 0 8 0;		refused "no known image format"
poke "l2" 8 "(1 << 50) | 1 << 63"
expect 3 k backup --vm vm --adopt bad.qcow2
says "bad.qcow2: L2 entry at $l2" "guest offset 0"

# --- bombs: 512 MiB of one compressed cluster that itself would unpack to 64 MiB --------------------------------------------
/usr/bin/python3 - <<'PY'
import struct, zlib
C = 65536
z = zlib.compressobj(9, zlib.DEFLATED, -12)
packed = z.compress(b"\1" * (C * 1000)) + z.flush()
out = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, 1 << 29, 0, 1, 3 * C, C, 1, 0, 0, 0, 0, 0, 4, 104)
out += bytes(C - len(out)) + struct.pack(">Q", 2 * C) + bytes(C - 8) + b"\x00\x01" * (C // 2)
out += struct.pack(">Q", 4 * C | 1 << 63) + bytes(C - 8)
out += struct.pack(">Q", 1 << 62 | ((len(packed) + 511) // 512 - 1) << 54 | 5 * C) * (C // 8)
open("bomb.qcow2", "wb").write(out + packed + bytes(-len(packed) % C))
PY
anon=$(peak_anon timeout 60 "$KEDGE" --key-file key backup --vm bomb --json bomb.qcow2)
[ "$anon" -lt 300000 ] || die "a bomb made $anon KiB of memory"
[ "$(field out .bytes_stored)" -lt 1000000 ] || die "a bomb stored $(field out .bytes_stored) bytes"
equal "$(k cat bomb --offset 511M | digest)" "$(head -c 1M /dev/zero | tr '\0' '\1' | digest)" "what the guest sees of a bomb"

# --- references: loops, ways out, other protocols, what is missing ----------------------------------------------------------
mkdir jail outside
echo secret >outside/secret
over() { ( cd jail && rm -f top.qcow2 && qemu-img create -q -f qcow2 -u -b "$1" -F raw top.qcow2 1M ); }
tried() { expect 1 k backup --vm vm --adopt jail/top.qcow2; says "top.qcow2" "$@"; }
over ../outside/secret;			tried "outside the image's folder" "--allow-path"
over "$PWD/outside/secret";		tried "outside the image's folder" "--allow-path $PWD/outside"
ln -s ../outside/secret jail/link;	over link; tried "outside the image's folder"
ln -s ../outside jail/dir;		over dir/secret; tried "outside the image's folder"
over /dev/zero;				tried "outside the image's folder"
over nbd://localhost/x;			tried "nbd:" "never followed"
over 'json:{"driver":"file","filename":"/etc/passwd"}';	tried "json:" "never followed"
over gone.raw;				tried gone.raw "No such file"
( cd jail && qemu-img create -q -f qcow2 -u -b b.qcow2 -F qcow2 a.qcow2 1M && qemu-img create -q -f qcow2 -u -b a.qcow2 -F qcow2 b.qcow2 1M )
expect 1 k backup --vm vm --adopt jail/a.qcow2
says a.qcow2 b.qcow2 loop
( cd jail && qemu-img create -q -f qcow2 self.qcow2 1M && qemu-img rebase -q -u -f qcow2 -b self.qcow2 -F qcow2 self.qcow2 )
expect 1 k backup --vm vm --adopt jail/self.qcow2
says loop
( cd jail && qemu-img create -q -f qcow2 -o data_file=ext.raw,data_file_raw=on e.qcow2 1M && rm ext.raw && ln -s ../outside/secret ext.raw )
expect 1 k backup --vm vm --adopt jail/e.qcow2
says "outside the image's folder"
echo nothing >jail/not
( cd jail && qemu-img create -q -f qcow2 -u -b not -F qcow2 top.qcow2 1M )
expect 1 k backup --vm vm --adopt jail/top.qcow2
says "jail/not: qcow2"

# --- a guest makes its raw disk look like an image --------------------------------------------------------------------------
expect 0 k -q backup --vm guest raw:good.raw
cp good.raw keep.raw
qemu-img create -q -f qcow2 -u -b "$PWD/outside/secret" -F raw fake.qcow2 8M
dd if=fake.qcow2 of=good.raw conv=notrunc status=none
expect 1 k backup --vm guest good.raw		# the format forgotten: followed nowhere
lacks out secret
expect 0 k -q backup --vm guest raw:good.raw	# as it must be: bit for bit
equal "$(point_digest guest)" "$(digest <good.raw)" "a raw disk that looks like qcow2"
qemu-img create -q -f qcow2 fake.qcow2 8M
dd if=fake.qcow2 of=good.raw conv=notrunc status=none
expect 1 k backup --vm guest good.raw
says "is qcow2 now and was raw" "a guest can make its raw disk look like another format" "disk0=qcow2:good.raw"
printf '\125\252' | dd of=good.raw bs=1 seek=510 conv=notrunc status=none
expect 1 k backup --vm new good.raw
says ambiguous "raw:good.raw"
expect 0 k -q backup --vm guest raw:good.raw
cp keep.raw good.raw

# --- things that are no images ----------------------------------------------------------------------------------------------
mkfifo pipe
for f in . pipe /dev/null /dev/zero; do
	expect 1 timeout 10 "$KEDGE" --key-file key backup --vm vm raw:$f
	says "not an image file or block device"
done
expect 1 k backup --vm vm nowhere.qcow2
says "nowhere.qcow2: No such file"
expect 1 k backup --vm vm qed:good.qcow2
says "DISK=" "one of qcow2, qcow, raw"
expect 2 k backup --vm vm vda=
: >empty
expect 1 k backup --vm vm empty
expect 0 k -q backup --vm empty raw:empty
equal "$(k cat empty | wc -c)" 0 "an empty disk"
expect 0 k -q restore empty -o empty.out
equal "$(stat -c %s empty.out)" 0 "an empty disk restored"

# --- another machine under the same name ------------------------------------------------------------------------------------
id() { echo "<domain><uuid>$1$1$1$1$1$1$1$1-1111-2222-3333-444444444444</uuid></domain>" >machine.xml; }
cp good.qcow2 m1.qcow2; cp good.qcow2 m2.qcow2
id 1; expect 0 k -q backup --vm m --attach machine.xml m1.qcow2
id 2; expect 1 k backup --vm m --attach machine.xml m2.qcow2
says "11111111-1111" "22222222-1111" "--adopt" "--vm"
expect 0 k -q backup --vm m --attach machine.xml m2.qcow2 --adopt
id 1; expect 1 k backup --vm m --attach machine.xml m1.qcow2
expect 1 k backup --vm m m1.qcow2		# no UUID: by place
says "m1.qcow2"
qemu-img create -q -f qcow2 -b m2.qcow2 -F qcow2 m3.qcow2
expect 0 k -q backup --vm m m3.qcow2		# a chain that holds last night's disk goes on

# --- after all this -----------------------------------------------------------------------------------------------------------
equal "$(point_digest vm)" "$(digest <now.raw)" "the VM's newest backup"
equal "$(k list --json vm | jq '[.[] | select(.complete)] | length')" 1 "complete backups of the VM"
expect 0 k -q check --read-data
