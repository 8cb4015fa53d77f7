# map: extents of the whole chain; compared with qemu-img map.
. "$TOP/tests/lib.sh"
need qemu-img qemu-utils
need jq jq

qemu-img create -q -f qcow2 base.qcow2 8M
qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 3M 64k' base.qcow2 >/dev/null
qemu-img snapshot -c s1 base.qcow2
qemu-io -f qcow2 -c 'write -P 3 4M 64k' base.qcow2 >/dev/null
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 10M
qemu-io -f qcow2 -c 'write -z 0 64k' -c 'write -P 9 5M 64k' top.qcow2 >/dev/null

exits 0 "$KEDGE" map --json top.qcow2
jq -e '.[0] == {start: 0, length: 65536, kind: "zero"}' out >/dev/null || fail "first extent: $(jq -c '.[0]' out)"
jq -e 'map(.length) | add == 10485760' out >/dev/null || fail "the extents do not cover the disk"
jq -e '[range(1; length) as $i | .[$i].start == .[$i-1].start + .[$i-1].length] | all' out >/dev/null || fail "gaps"
qemu-img map --output=json top.qcow2 | jq -c '[.[] | select(.data) | {s: .start, l: .length, d: .depth, o: .offset}]' >want
jq -c '[.[] | select(.kind == "data") | {s: .start, l: .length, d: .layer, o: .host}]' out >got
cmp -s want got || fail "data extents: $(cat got), qemu-img: $(cat want)"

exits 0 "$KEDGE" map top.qcow2
has out START HOST zero data
has err "layer 1: " base.qcow2
same "$(jq length <<<"$("$KEDGE" map --json top.qcow2)")" "$(($(wc -l <out) - 1))" "lines of the table"
exits 0 "$KEDGE" map -q top.qcow2
[ ! -s err ] || fail "--quiet is noisy: $(cat err)"

exits 0 "$KEDGE" map --json --state snap:s1 base.qcow2
jq -e '[.[] | select(.start >= 4194304 and .kind == "data")] == []' out >/dev/null || fail "the snapshot has what came later"
exits 1 "$KEDGE" map --state snap:none base.qcow2
has err "snap:none"

qemu-img convert -q -c -O qcow2 base.qcow2 packed.qcow2
exits 0 "$KEDGE" map --json packed.qcow2
jq -e '[.[] | select(.kind == "data")] | length > 1 and all(.compressed and .length == 65536)' out >/dev/null ||
	fail "compressed clusters: $(cat out)"
exits 0 "$KEDGE" map packed.qcow2
has out compressed

# A layer elsewhere needs --allow-path; the corrupt mark needs --force.
mkdir here away && cp base.qcow2 away/b.qcow2 && cd here && ln -s ../away/b.qcow2 b.qcow2 && mv ../packed.qcow2 .
qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 t.qcow2
exits 1 "$KEDGE" map t.qcow2
has err "--allow-path"
exits 0 "$KEDGE" map --allow-path ../away t.qcow2
printf '\002' | dd of=packed.qcow2 bs=1 seek=79 conv=notrunc status=none
exits 1 "$KEDGE" map packed.qcow2
has err "--force"
exits 0 "$KEDGE" map --force packed.qcow2

: >empty.raw
exits 0 "$KEDGE" map --json raw:empty.raw
same "[]" "$(jq -c . out)" "map of nothing"
