#!/bin/bash
# kernel.sh FOLDER: a kernel of Debian's for test machines: FOLDER/vmlinuz and FOLDER/*.ko, what it needs to see virtio disks.
#
# The package (linux-image-cloud-amd64's) is downloaded by apt and unpacked, not installed: nothing on this system changes.
# Does nothing where it is there; exit 1 and one line where it can't be had.
set -eu -o pipefail
export LC_ALL=C
modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk"	# in the order of loading
[ $# = 1 ] || { echo "usage: kernel.sh FOLDER" >&2; exit 2; }
[ ! -s "$1/vmlinuz" ] || exit 0
package=linux-image-cloud-amd64
work=$1.$$
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/new"
named() { apt-cache depends $package 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[^ ]*\)/\1/p' | head -1; }
name=$(named)
[ -n "$name" ] || { apt-get -q update >/dev/null 2>&1 || true; name=$(named); }	# its lists may never have been fetched
[ -n "$name" ] || { echo "kernel.sh: apt knows no $package (apt-get update)" >&2; exit 1; }
(cd "$work" && apt-get -q -o APT::Sandbox::User=root download "$name" >log 2>&1) ||
	{ echo "kernel.sh: $name can't be downloaded: $(tail -1 "$work/log")" >&2; exit 1; }
dpkg-deb -x "$work/$name"_*.deb "$work/tree"
for m in $modules; do
	found=$(find "$work/tree" -name "$m.ko*")
	case $found in
	*.ko) cp "$found" "$work/new/" ;;
	*.ko.xz) xz -dc "$found" >"$work/new/$m.ko" ;;
	*) echo "kernel.sh: $name has no module $m" >&2; exit 1 ;;
	esac
done
echo "$modules" >"$work/new/order"
cp "$work"/tree/boot/vmlinuz-* "$work/new/vmlinuz"
rm -rf "$1"
mv "$work/new" "$1"
