# info: what an image is, for people and programs; metadata only, no other file without --chain.
. "$TOP/tests/lib.sh"
need qemu-img qemu-utils
need jq jq

qemu-img create -q -f qcow2 -o cluster_size=128k base.qcow2 12345856
qemu-io -f qcow2 -c 'write -P 1 0 1M' base.qcow2 >/dev/null
qemu-img snapshot -c night-1 base.qcow2
qemu-img snapshot -c $'evil\033[2J' base.qcow2
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 -o lazy_refcounts=on top.qcow2 20M

exits 0 "$KEDGE" info base.qcow2
has out "qcow2, version 3" "(12345856 bytes)" "128.0 KiB" "snapshots" "night-1" 'evil\x1b[2J' "deflate"
lacks out "backing" $'\033'
exits 0 "$KEDGE" info --bytes base.qcow2
has out "virtual size   12345856" "cluster size   131072"
lacks out "KiB"

exits 0 "$KEDGE" info --json base.qcow2
same "qcow2 3 12345856 131072 3" "$(jq -r '"\(.format) \(.version) \(.virtual_size) \(.cluster_size) \(.states | length)"' out)" json
same "$(stat -c %s base.qcow2)" "$(jq .file_size out)" file_size
same current "$(jq -r '.states[0].name' out)" "first state"
same "night-1 1" "$(jq -r '.states[1] | "\(.name) \(.id)"' out)" "second state"
same 'evil%1B[2J' "$(jq -r '.states[2].name' out)" "escaped name"
jq -e '.states[1].date | test("^20[0-9-]{8}T[0-9:]{8}Z$")' out >/dev/null || fail "date"
jq -e '.states[0].date == null and .backing == null' out >/dev/null || fail "nulls"

# What can't be probed or read is said by name.
printf 'QFI\373\0\0\0\4' >newer.img
head -c 5000 /dev/zero >nothing.img
exits 1 "$KEDGE" info newer.img
has err "newer.img: this is a newer qcow image"
exits 1 "$KEDGE" info nothing.img
has err "nothing.img: no known image format" "raw:nothing.img"

# The reference is shown, not followed: the base may be gone.
mkdir here away && mv top.qcow2 here/ && mv base.qcow2 away/ && cd here
exits 0 "$KEDGE" info top.qcow2
has out "base.qcow2 (format qcow2)" "lazy-refcounts"
exits 0 "$KEDGE" info --json top.qcow2
same "base.qcow2 qcow2" "$(jq -r '"\(.backing) \(.backing_format)"' out)" backing
exits 1 "$KEDGE" info --chain top.qcow2
has err "base.qcow2"
ln -s ../away/base.qcow2 base.qcow2
exits 1 "$KEDGE" info --chain top.qcow2
has err "--allow-path"
exits 0 "$KEDGE" info --chain --allow-path ../away --json top.qcow2
same "2 top.qcow2" "$(jq -r '"\(length) \(.[0].image)"' out)" chain
rm base.qcow2 && mv ../away/base.qcow2 .
exits 0 "$KEDGE" info --chain top.qcow2
has out "layer 0" "layer 1" "night-1"
lacks err layer
exits 0 "$KEDGE" info -v --chain top.qcow2
has err "base.qcow2, qcow2, 12345856 bytes"
exits 2 "$KEDGE" info --allow-path . top.qcow2
has err "need --chain"
# An image that stores no format of its base: written by hand, as no qemu-img does it any more.
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 plain.qcow2
/usr/bin/python3 - <<'PY'
import struct
data = bytearray(open("plain.qcow2", "rb").read())
at = struct.unpack_from(">I", data, 100)[0]
while struct.unpack_from(">I", data, at)[0] != 0xe2792aca:
    at += 8 + (struct.unpack_from(">I", data, at + 4)[0] + 7) // 8 * 8
struct.pack_into(">I", data, at, 0x12345678)    # an extension that nobody knows
open("plain.qcow2", "wb").write(data)
PY
exits 0 "$KEDGE" info plain.qcow2
has out "base.qcow2 (format not stored)"
exits 1 "$KEDGE" info --chain plain.qcow2
has err "--backing-format"
exits 0 "$KEDGE" info --chain --backing-format qcow2 plain.qcow2
has out "layer 1" "night-1"
exits 2 "$KEDGE" info --chain --backing-format qcow9 plain.qcow2

# Bitmaps, dirty and corrupt marks, an external data file that is not there.
qemu-img create -q -f qcow2 bm.qcow2 1M
qemu-img bitmap --add -g 32k bm.qcow2 night
exits 0 "$KEDGE" info bm.qcow2
has out "bitmaps" "night" "32.0 KiB" "auto"
exits 0 "$KEDGE" info --json bm.qcow2
same "night 32768 false true" "$(jq -r '.bitmaps[0] | "\(.name) \(.granularity) \(.in_use) \(.auto)"' out)" bitmap
cp bm.qcow2 marked.qcow2
printf '\003' | dd of=marked.qcow2 bs=1 seek=79 conv=notrunc status=none	# incompatible features: dirty, corrupt
exits 0 "$KEDGE" info --json marked.qcow2
same "dirty,corrupt" "$(jq -r '.features[:2] | join(",")' out)" marks
qemu-img create -q -f qcow2 -o data_file=ext.raw,data_file_raw=on ext.qcow2 1M
rm ext.raw
exits 0 "$KEDGE" info ext.qcow2
has out "data file      ext.raw" "external-data" "raw-external"

# Formats: chosen, found out, never guessed.
head -c 1M /dev/zero >disk.raw
exits 1 "$KEDGE" info disk.raw
has err "raw:disk.raw"
exits 0 "$KEDGE" info raw:disk.raw
has out "format         raw" "(1048576 bytes)"
exits 0 "$KEDGE" info --format raw disk.raw
exits 0 "$KEDGE" info --format raw base.qcow2
has out "format         raw"
exits 2 "$KEDGE" info --format qcow2 raw:disk.raw
has err "contradicts"
exits 2 "$KEDGE" info --format nonsense disk.raw
has err 'no format "nonsense" (there are: qcow2, qcow, raw'
exits 2 "$KEDGE" info vda=disk.raw
has err "no disk name" "./vda=disk.raw"
exits 1 "$KEDGE" info --format qcow2 disk.raw
exits 1 "$KEDGE" info .
exits 1 "$KEDGE" info /dev/null
