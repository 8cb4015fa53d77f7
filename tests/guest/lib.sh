# lib.sh - machines of QEMU for tests, read by their serial console; sourced after tests/e2e/lib.sh.
QEMU=qemu-system-x86_64

# machine SECONDS TEXT CONSOLE ARGUMENT...: runs a machine until TEXT is in CONSOLE (exit 0), it is off without (1), or the
# time is over (2).
machine() {
	local seconds=$1 text=$2 console=$3 pid code=2 end
	shift 3
	: >"$console"
	"$QEMU" -nodefaults -no-user-config -display none -no-reboot -machine pc -serial "file:$console" "$@" \
		</dev/null >"$console.qemu" 2>&1 &
	pid=$!
	end=$((SECONDS + seconds))
	while [ $SECONDS -lt $end ]; do
		if grep -qaF -- "$text" "$console"; then code=0; break; fi
		if ! kill -0 $pid 2>/dev/null; then
			if grep -qaF -- "$text" "$console"; then code=0; else code=1; fi
			break
		fi
		sleep 0.2
	done
	kill $pid 2>/dev/null || true
	wait $pid 2>/dev/null || true
	return $code
}

# accelerator: kvm where a kernel comes to life under it within some seconds, else tcg, and why on stderr.  (A /dev/kvm
# inside a virtual machine may run firmware and hang in the first page fault of a kernel.)
accelerator() {	# accelerator VMLINUZ
	if ! [ -r /dev/kvm ] || ! [ -w /dev/kvm ]; then
		echo "no /dev/kvm: by TCG, which is slow" >&2
		echo tcg
	elif machine 5 'Linux version' kvm.console -accel kvm -m 128 -kernel "$1" -append 'console=ttyS0 earlyprintk=serial'; then
		echo kvm
	else
		echo "/dev/kvm runs no kernel here: by TCG, which is slow" >&2
		echo tcg
	fi
}
