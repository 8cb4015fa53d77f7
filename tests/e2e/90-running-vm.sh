# A running VM: its active image is refused (11); the layer below an external snapshot is backed up while it runs.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io qemu-system-x86_64 jq socat
fresh_repo
truncate -s 64M n1.raw
random_at n1.raw 0 9000000 1
qemu-img convert -f raw -O qcow2 n1.raw disk.qcow2
qemu-system-x86_64 -S -accel tcg -m 64 -display none -nodefaults -no-user-config \
	-blockdev driver=file,filename=disk.qcow2,node-name=f0 -blockdev driver=qcow2,file=f0,node-name=d0 \
	-device virtio-blk-pci,drive=d0 -qmp unix:qmp,server=on,wait=off >vm.log 2>&1 &
vm=$!
trap 'kill $vm 2>/dev/null || true' EXIT
for i in $(seq 100); do [ -S qmp ] && break; sleep 0.1; done
[ -S qmp ] || { cat vm.log; die "QEMU did not start"; }
# qmp JSON...: sends commands, prints the replies
qmp() { { echo '{"execute":"qmp_capabilities"}'; printf '%s\n' "$@"; sleep 1; } | socat -t 5 - UNIX-CONNECT:qmp > qmp.log; ! grep '"error"' qmp.log; }
qmp '{"execute":"query-status"}' || die "QMP: $(cat qmp.log)"

expect 11 k backup --vm vm disk.qcow2
says "snapshot-create-as" "--disk-only"
equal "$(k list --json | jq length)" 0 "listed after the refusal"

qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 top.qcow2 64M
qmp '{"execute":"blockdev-add","arguments":{"driver":"qcow2","node-name":"d1","file":{"driver":"file","filename":"top.qcow2"},"backing":null}}' \
	'{"execute":"blockdev-snapshot","arguments":{"node":"d0","overlay":"d1"}}' || die "QMP: $(cat qmp.log)"
expect 11 k backup --vm vm top.qcow2
expect 0 k backup --vm vm disk.qcow2 --json
equal "$(point_digest vm)" "$(digest < n1.raw)" "the layer below, backed up while the VM runs"

# committed back, the image is the VM's again
qmp '{"execute":"block-commit","arguments":{"job-id":"j","device":"d1"}}' || die "QMP: $(cat qmp.log)"
sleep 1
qmp '{"execute":"job-complete","arguments":{"id":"j"}}' || true
sleep 1
kill $vm; wait $vm 2>/dev/null || true
trap - EXIT
expect 0 k backup --vm vm disk.qcow2
equal "$(point_digest vm)" "$(digest < n1.raw)" "after the commit"
