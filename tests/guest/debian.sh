#!/bin/bash
# debian.sh FOLDER: a small Debian that starts from its own disk, FOLDER/disk.raw (BIOS, GRUB, ext4, systemd, a login prompt on
# the serial console).
#
# Made without mounting and without loop devices: mmdebstrap, mke2fs -d, GRUB's core where the BIOS looks for it.
# Does nothing where it is there; exit 1 and the log where it can't be made (no mirror, mostly).
set -eu -o pipefail
export LC_ALL=C PATH=$PATH:/sbin:/usr/sbin
[ $# = 1 ] || { echo "usage: debian.sh FOLDER" >&2; exit 2; }
[ ! -s "$1/disk.raw" ] || exit 0
mkdir -p "$1"
out=$(cd "$1" && pwd)
part_mib=640
work=$(mktemp -d "${TMPDIR:-/tmp}/kedge-debian.XXXXXX")
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

cat >"$work/hook" <<END
set -eu
root=\$1
echo kedge-guest >"\$root/etc/hostname"
echo '/dev/vda1 / ext4 defaults 0 1' >"\$root/etc/fstab"
cat >"\$root/boot/start.cfg" <<START
linux /vmlinuz root=/dev/vda1 ro console=ttyS0 systemd.show_status=1
initrd /initrd.img
boot
START
chroot "\$root" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -c /boot/start.cfg -o /boot/core.img biosdisk part_msdos ext2 linux boot
cp "\$root/usr/lib/grub/i386-pc/boot.img" "\$root/boot/core.img" "$work/"
rm -rf "\$root"/var/cache/apt/* "\$root"/var/lib/apt/lists/*
cp -ax "\$root" "$work/tree"
mke2fs -q -t ext4 -F -L root -d "$work/tree" "$work/part" ${part_mib}M
END
mmdebstrap --quiet --variant=minbase --include=systemd-sysv,udev,login,linux-image-cloud-amd64,grub-pc-bin \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
	--customize-hook="sh $work/hook \"\$1\"" bookworm /dev/null >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; exit 1; }

# The first sector of GRUB loads sector 1, whose own list of blocks goes on at sector 2: core.img follows the boot sector.
disk=$work/disk
truncate -s $((1 + part_mib + 1))M "$disk"
echo "start=2048, size=$((part_mib * 2048)), type=83, bootable" | sfdisk -q "$disk"
dd if="$work/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$work/core.img" of="$disk" bs=512 seek=1 conv=notrunc status=none
dd if="$work/part" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
cp --sparse=always "$disk" "$out/disk.new"
mv "$out/disk.new" "$out/disk.raw"
