# dump: the guest's bytes to stdout, a sparse file or nowhere; compared with qemu-img convert.
. "$TOP/tests/lib.sh"
need qemu-img qemu-utils
need jq jq

size=$((9 * 1024 * 1024 + 1024 * 7))
qemu-img create -q -f qcow2 base.qcow2 $size
qemu-io -f qcow2 -c 'write -P 1 0 1M' -c 'write -P 2 3M 100k' base.qcow2 >/dev/null
qemu-img snapshot -c night-1 base.qcow2
qemu-io -f qcow2 -c 'write -P 5 512k 64k' -c "write -P 6 $((size - 512)) 512" base.qcow2 >/dev/null
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
qemu-io -f qcow2 -c 'write -z 0 64k' -c 'write -P 9 5M 64k' top.qcow2 >/dev/null
qemu-img convert -q -c -O qcow2 top.qcow2 packed.qcow2

for image in base.qcow2 top.qcow2 packed.qcow2; do
	want=$(qemu_digest $image)
	same "$want" "$("$KEDGE" dump $image | digest)" "$image"
	same "$want" "$("$KEDGE" dump --threads 1 --memory 16M $image | digest)" "$image, one thread"
	same "$want" "$("$KEDGE" dump --threads 7 $image -o - | digest)" "$image, seven threads"
	exits 0 "$KEDGE" dump $image -o $image.raw
	has err "$image, current: "
	same "$want" "$(digest <$image.raw)" "$image.raw"
	same $size "$(stat -c %s $image.raw)" "size of $image.raw"
	same 600 "$(stat -c %a $image.raw)" "mode of $image.raw"
done
[ "$(du -k base.qcow2.raw | cut -f1)" -lt 2048 ] || fail "the file is not sparse: $(du -k base.qcow2.raw)"
same "$(qemu_digest -l night-1 base.qcow2)" "$("$KEDGE" dump --state snap:night-1 base.qcow2 | digest)" "by name"
same "$(qemu_digest -l night-1 base.qcow2)" "$("$KEDGE" dump --state snapid:1 base.qcow2 | digest)" "by id"
same "$(qemu_digest base.qcow2)" "$("$KEDGE" dump --state current base.qcow2 | digest)" current
same "$(digest <base.qcow2)" "$("$KEDGE" dump --format raw base.qcow2 | digest)" "--format raw"
exits 1 "$KEDGE" dump --state snap:no base.qcow2
has err "base.qcow2: no state snap:no" "snap:night-1"

# Results as JSON; the other ways to say where to.
exits 0 "$KEDGE" dump --json --sink null top.qcow2
same "top.qcow2 current $size" "$(jq -r '"\(.image) \(.state) \(.size)"' out)" json
jq -e '.bytes_read > 1000000 and .bytes_read < 5000000 and .seconds >= 0' out >/dev/null || fail "$(cat out)"
exits 0 "$KEDGE" dump --sink null --bytes top.qcow2
has err "$size"
exits 2 "$KEDGE" dump --json top.qcow2
has out "--sink null"
exits 2 "$KEDGE" dump --sink nul top.qcow2
exits 2 "$KEDGE" dump --sink null -o x top.qcow2
[ ! -e x ] || fail "x was made"

# Nothing is overwritten unasked, nothing is left half done.
echo precious >keep
exits 1 "$KEDGE" dump top.qcow2 -o keep
has err "keep exists already" "--force"
same precious "$(cat keep)" keep
exits 0 "$KEDGE" dump --force top.qcow2 -o keep
same "$(qemu_digest top.qcow2)" "$(digest <keep)" "replaced"
exits 1 "$KEDGE" dump top.qcow2 -o no/such/folder
cp base.qcow2 broken.qcow2
truncate -s 1M broken.qcow2	# in the middle of its data
ls -A | grep -vx -e before -e after -e out -e err >before
exits 1 "$KEDGE" dump broken.qcow2 -o broken.raw
has err broken.qcow2

ls -A | grep -vx -e before -e after -e out -e err >after
diff before after || fail "leftovers"
ln -s /dev/full full
exits 1 "$KEDGE" dump top.qcow2 -o full
has err "No space left"
exits 0 "$KEDGE" dump top.qcow2 -o /dev/null

# Terminals, references, marks.
exits 2 script -qec "'$KEDGE' dump top.qcow2" /dev/null
has out "terminal"
printf '\002' | dd of=packed.qcow2 bs=1 seek=79 conv=notrunc status=none
exits 1 "$KEDGE" dump packed.qcow2
has err "--force"
exits 0 "$KEDGE" dump --force packed.qcow2
: >empty.raw
exits 0 "$KEDGE" dump raw:empty.raw
[ ! -s out ] || fail "something out of nothing"

# -O makes an image of another format
truncate -s 3M conv.raw
printf text | dd of=conv.raw bs=1 seek=1500000 conv=notrunc status=none
exits 0 "$KEDGE" dump raw:conv.raw -O qcow2 -o conv.qcow2 --compress
qemu-img check -q conv.qcow2 && qemu-img compare -q -f raw -F qcow2 conv.raw conv.qcow2 || fail "dump -O qcow2"
exits 1 "$KEDGE" dump raw:conv.raw -O qcow2 -o conv.qcow2
has err "--force"
exits 2 "$KEDGE" dump raw:conv.raw -O qcow2
exits 2 "$KEDGE" dump raw:conv.raw --compress -o x
has err "both -O FORMAT and -o FILE"
exits 2 "$KEDGE" dump raw:conv.raw -O raw --compress -o x
has err "--compress: nothing in the name x"
exits 2 "$KEDGE" dump raw:conv.raw -O raw --subformat odd -o x
has err "raw images are plain, zst, gz, xz"
[ ! -e x ] || fail "a refused dump made a file"
