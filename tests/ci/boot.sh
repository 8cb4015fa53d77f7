# A machine sees what we restored: Linux in QEMU reads a whole disk, restored to each format that QEMU has a driver for,
# and the digest that it prints on its console is that of the guest's bytes.  One machine for all, a disk for each.
. "$TOP/tests/e2e/lib.sh"
. "$TOP/tests/guest/lib.sh"
need qemu-img qemu-utils
need "$QEMU" qemu-system-x86
need cpio cpio
need busybox busybox-static
[ "$(dpkg --print-architecture)" = amd64 ] || skip "the kernel for guests is for amd64 only"
guest=$TOP/build/guest/kernel
"$TOP/tests/guest/kernel.sh" "$guest" 2>why || skip "$(cat why)"
SIZE=$((5 << 20))

# --- the disk: data, text, zeros and holes, backed up from a qcow2 --------------------------------------------------------
quick_repo
truncate -s $SIZE disk.raw
random_at disk.raw 0 300000 1
random_at disk.raw 1234567 700000 2
(yes "all work and no play" || true) | head -c 900000 | dd of=disk.raw bs=1M seek=3 conv=notrunc status=none
random_at disk.raw $((SIZE - 5000)) 5000 3
want=$(digest <disk.raw)
qemu-img convert -f raw -O qcow2 disk.raw disk.qcow2
expect 0 k backup -q --vm vm disk.qcow2

# --- restored to each format: label, name of the file, QEMU's driver, our options ------------------------------------------------
disks=()	# label of the first, the second...
drives=()
restored() {	# restored LABEL DRIVER FILE OPTION...
	local label=$1 driver=$2 file=$3
	shift 3
	expect 0 k restore vm --plaintext -o "$file" "$@"
	drives+=(-drive "if=none,id=d${#disks[@]},format=$driver,file=$file" -device "virtio-blk-pci,drive=d${#disks[@]},serial=disk${#disks[@]}")
	disks+=("$label")
}
restored raw raw a.raw -O raw
restored qcow2 qcow2 a.qcow2 -O qcow2
restored "qcow2, compressed" qcow2 c.qcow2 -O qcow2 --compress
restored "qcow2, clusters of 4K" qcow2 4k.qcow2 -O qcow2 --cluster-size 4K
restored qcow qcow a.qcow -O qcow
restored "qcow, compressed" qcow c.qcow -O qcow --compress
restored "vdi, dynamic" vdi a.vdi -O vdi
restored "vdi, fixed" vdi f.vdi -O vdi --subformat fixed
restored "vmdk, monolithicSparse" vmdk a.vmdk -O vmdk --subformat monolithicSparse
restored "vmdk, monolithicFlat" vmdk flat.vmdk -O vmdk --subformat monolithicFlat
restored "vmdk, twoGbMaxExtentSparse" vmdk two.vmdk -O vmdk --subformat twoGbMaxExtentSparse
restored "vmdk, streamOptimized" vmdk s.vmdk -O vmdk --subformat streamOptimized
restored "vhd, dynamic" vpc a.vhd -O vhd
restored "vhd, fixed" vpc f.vhd -O vhd --subformat fixed
restored vhdx vhdx a.vhdx -O vhdx

# --- the machine -----------------------------------------------------------------------------------------------------------
mkdir -p root/bin root/dev root/sys root/proc
cp "$(command -v busybox)" root/bin/busybox
cp "$guest"/*.ko root/
cat >root/init <<END
#!/bin/busybox sh
busybox() { /bin/busybox "\$@"; }
busybox mount -t devtmpfs dev /dev
busybox mount -t sysfs sys /sys
for m in $(cat "$guest/order"); do busybox insmod /\$m.ko; done
for d in /sys/block/vd*; do
	read serial <\$d/serial
	read sectors <\$d/size
	set -- \$(busybox sha256sum /dev/\${d##*/})
	echo "kedge: \$serial \$sectors \$1 :"
done
echo "kedge: all read"
busybox poweroff -f
END
chmod 755 root/init
(cd root && find . | cpio -o -H newc --quiet | gzip -1 >../initramfs.gz)
accel=$(accelerator "$guest/vmlinuz")
machine 120 'kedge: all read' console -accel "$accel" -m 192 -kernel "$guest/vmlinuz" -initrd initramfs.gz \
	-append 'console=ttyS0 quiet panic=-1' "${drives[@]}" || die "the machine did not read its disks: $(tail -20 console console.qemu)"

for i in "${!disks[@]}"; do
	line=$(tr -d '\r' <console | sed -n "s/^kedge: disk$i \(.*\) :$/\1/p")
	[ -n "$line" ] || die "${disks[i]}: the machine saw no such disk: $(cat console)"
	read -r sectors got <<<"$line"
	echo "${disks[i]}: $sectors sectors"
	if [ "$sectors" != $((SIZE / 512)) ]; then die "${disks[i]}: $sectors sectors, wanted $((SIZE / 512))"; fi
	same "$want" "$got" "${disks[i]}: what the machine read"
done
echo "${#disks[@]} disks read under $accel in $SECONDS s"
