# A machine's saved memory survives: savevm in a real QEMU, backup, restore --with-snapshots; the fresh image passes
# qemu-img check, lists the same snapshots, and -loadvm brings back every byte of the machine's memory and of its disk.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io qemu-system-x86_64 jq python3
fresh_repo
ram=$((32 << 20))

# qmp SOCKET HMP-COMMAND...: runs them; what one of them answers is an error ("info" and "qemu-io" commands excepted).
qmp() {
	python3 - "$@" <<'PY'
import json, socket, sys, time
s = socket.socket(socket.AF_UNIX)
for i in range(200):
    try:
        s.connect(sys.argv[1])
        break
    except OSError:
        time.sleep(0.1)
f = s.makefile("rw")
json.loads(f.readline())
def run(name, **arguments):
    f.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    f.flush()
    while True:
        answer = json.loads(f.readline())
        if "error" in answer:
            sys.exit("%s: %s" % (name, answer["error"]))
        if "return" in answer:
            return answer["return"]
run("qmp_capabilities")
for line in sys.argv[2:]:
    if line == "quit":
        run("quit")
        break
    text = run("human-monitor-command", **{"command-line": line})
    print(text, end="")
    if text.strip() and not line.startswith(("info", "qemu-io")):
        sys.exit("%s: %s" % (line, text))
PY
}

# machine IMAGE ARGUMENT...: starts a paused one, QMP on ./qmp; its pid in $vm.
machine() {
	local image=$1
	shift
	rm -f qmp
	qemu-system-x86_64 -S -accel tcg -machine pc -m 32 -display none -nodefaults -no-user-config \
		-drive "if=none,id=d0,format=qcow2,file=$image" -device virtio-blk-pci,drive=d0 \
		-qmp unix:qmp,server=on,wait=off "$@" >vm.log 2>&1 &
	vm=$!
	trap 'kill $vm 2>/dev/null || true' EXIT
	for _ in $(seq 100); do
		[ ! -S qmp ] || return 0
		kill -0 $vm 2>/dev/null || break
		sleep 0.1
	done
	die "QEMU did not start: $(cat vm.log)"
}

off() {
	wait $vm || die "QEMU failed: $(cat vm.log)"
	trap - EXIT
}

truncate -s 64M first.raw
random_at first.raw 1000000 5000000 1
qemu-img convert -f raw -O qcow2 first.raw disk.qcow2
machine disk.qcow2
qmp qmp cont >answers || die "$(cat answers vm.log)"
sleep 2						# the firmware runs, so there is something in memory
qmp qmp stop "pmemsave 0 $ram \"night.mem\"" 'savevm night' \
	'qemu-io d0 "write -P 7 0 128k"' cont >answers || die "$(cat answers vm.log)"
sleep 0.5
qmp qmp stop "pmemsave 0 $ram \"morning.mem\"" 'savevm morning' 'qemu-io d0 "write -P 8 0 128k"' quit >answers ||
	die "$(cat answers vm.log)"
off
[ "$(tr -d '\0' <night.mem | wc -c)" -gt 10000 ] || die "nothing in the machine's memory"

expect 0 k backup --vm vm disk.qcow2
list() { qemu-img info --output=json "$1" | jq -S '.snapshots'; }
for options in "" "--compress" "--cluster-size 4K" "--cluster-size 2M --compress"; do
	rm -f new.qcow2
	# shellcheck disable=SC2086
	expect 0 k restore vm --with-snapshots -o new.qcow2 $options
	qemu-img check -q new.qcow2 || die "qemu-img check: $options"
	equal "$(list new.qcow2)" "$(list disk.qcow2)" "list of snapshots ($options)"
	for at in night:0 morning:7; do
		name=${at%:*} byte=${at#*:}
		machine new.qcow2 -loadvm "$name"
		rm -f back.mem
		qmp qmp 'info status' "pmemsave 0 $ram \"back.mem\"" "qemu-io d0 \"read -P $byte 0 128k\"" quit >answers ||
			die "$(cat answers vm.log)"
		off
		has answers "paused"
		lacks answers "Pattern verification failed"
		cmp -s "$name.mem" back.mem || die "$name: the machine's memory differs ($options)"
	done
	qemu-img check -q new.qcow2 || die "qemu-img check after use: $options"
done
# The same content by way of the image alone: the disk at the snapshot.
equal "$(k dump --no-progress disk.qcow2 --state snap:night | digest)" "$(digest <first.raw)" "disk at the snapshot"
equal "$(k cat --no-progress vm@latest/snap:night | digest)" "$(digest <first.raw)" "disk at the point"
