# Images in use: what a QEMU process writes to is refused with exit 11, what it only reads is not; and while kedge reads,
# no QEMU can write.  qemu-io stands for the virtual machine: it takes the same locks.
. "$TOP/tests/lib.sh"
need qemu-io qemu-utils

qemu-img create -q -f qcow2 base.qcow2 8M
qemu-io -f qcow2 -c 'write -P 1 0 1M' base.qcow2 >/dev/null
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 active.qcow2

mkfifo commands
qemu-io -f qcow2 active.qcow2 <commands >answers 2>&1 &
vm=$!
exec 9>commands
trap 'exec 9>&-; wait $vm 2>/dev/null' EXIT
echo 'write -P 7 0 64k' >&9
for _ in $(seq 100); do grep -q wrote answers && break; sleep 0.1; done
grep -q wrote answers || fail "qemu-io doesn't answer: $(cat answers)"

exits 11 "$KEDGE" dump --sink null active.qcow2
has err "in use" "virsh snapshot-create-as" "active.qcow2"
exits 11 "$KEDGE" map active.qcow2
exits 11 "$KEDGE" dump --sink null raw:active.qcow2
exits 0 "$KEDGE" info active.qcow2			# info looks at what is there
exits 0 "$KEDGE" dump --no-progress base.qcow2		# the layer below is only read by the machine
same "$(qemu_digest -U base.qcow2)" "$(digest <out)" "layer below"

exec 9>&-
wait $vm
trap - EXIT
exits 0 "$KEDGE" dump --sink null active.qcow2

# While kedge holds an image, here because nobody takes its output, QEMU can't open it for writing.
mkfifo pipe
"$KEDGE" dump --no-progress active.qcow2 >pipe &
reader=$!
exec 8<pipe
head -c 4096 <&8 >/dev/null		# it has begun, so it has all layers open
qemu-io -f qcow2 -c 'write -P 9 0 64k' base.qcow2 >io 2>&1 && fail "QEMU could write to a layer that is being read"
has io 'Failed to get "write" lock'
qemu-io -f qcow2 -c 'write -P 9 0 64k' active.qcow2 >io 2>&1 && fail "QEMU could write to an image that is being read"
has io 'Failed to get "write" lock'
cat <&8 >/dev/null
wait $reader
exec 8<&-
qemu-io -f qcow2 -c 'write -P 9 0 64k' active.qcow2 >/dev/null
