# A machine goes from one hypervisor to another: Debian, backed up from a VMDK and restored to qcow2, backed up from a qcow2 and
# restored to VDI, VMDK and VHDX, comes up from each restored disk (BIOS, GRUB, kernel, systemd) to its login prompt in QEMU.
. "$TOP/tests/e2e/lib.sh"
. "$TOP/tests/guest/lib.sh"
need qemu-img qemu-utils
need "$QEMU" qemu-system-x86
need mmdebstrap mmdebstrap
need sfdisk fdisk
need mke2fs e2fsprogs
[ "$(dpkg --print-architecture)" = amd64 ] || skip "the guest is for amd64 only"
guest=${KEEPDIR:-$TOP/build/guest}/debian		# made once
"$TOP/tests/guest/debian.sh" "$guest" 2>why || skip "no Debian for the guest: $(tail -1 why)"
"$TOP/tests/guest/kernel.sh" "$TOP/build/guest/kernel" 2>why || skip "$(cat why)"
accel=$(accelerator "$TOP/build/guest/kernel/vmlinuz")
MINUTES=10		# for one start, by TCG on a busy machine; under KVM it takes some seconds

starts() {	# starts LABEL DRIVER FILE: to its prompt
	local began=$SECONDS code=0
	machine $((MINUTES * 60)) 'kedge-guest login:' "$3.console" -accel "$accel" -m 512 -smp 2 \
		-drive "if=none,id=d0,format=$2,file=$3" -device virtio-blk-pci,drive=d0 -object rng-random,id=r,filename=/dev/urandom \
		-device virtio-rng-pci,rng=r || code=$?
	[ $code = 0 ] || die "$1: no login prompt in $((SECONDS - began)) s: $(tail -30 "$3.console" "$3.console.qemu")"
	has "$3.console" "Debian GNU/Linux"
	echo "$1: login prompt after $((SECONDS - began)) s under $accel"
}

# moved SOURCE-FORMAT TARGET-FORMAT OPTION...: from a backup of an image of one format to a fresh image of the other, and up.
moved() {
	local from=$1 to=$2 image=new.$2
	shift 2
	expect 0 k restore "$from" -o "$image" -O "$to" "$@"
	qemu-img compare -f raw -F "$to" "$guest/disk.raw" "$image" >out 2>&1 || die "$from to $to: $(cat out)"
	starts "$from to $to${*:+ $*}" "$to" "$image"
	rm -f "$image"
}

quick_repo
qemu-img convert -f raw -O vmdk "$guest/disk.raw" disk.vmdk
qemu-img convert -f raw -O qcow2 "$guest/disk.raw" disk.qcow2
expect 0 k backup -q --vm vmdk disk.vmdk
expect 0 k backup -q --vm qcow2 disk.qcow2
rm disk.vmdk disk.qcow2
moved vmdk qcow2
moved qcow2 vdi
moved qcow2 vmdk
moved qcow2 vhdx
