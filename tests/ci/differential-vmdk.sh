#!/bin/bash
# VMDK images by qemu-img, and ones that it can't read or reads wrongly (extents of mixed kinds, ESXi's deltas, damaged directories
# with a copy) by a model of the format: `kedge dump` gives what they hold, and what it writes is what QEMU and libvmdk read.
# IMAGES=40 in all, SEED=1, PART=i/n makes every n-th of them.
set -u
for tool in qemu-img qemu-io python3; do
	command -v $tool >/dev/null || { echo "SKIP: qemu-utils: $tool is missing"; exit 77; }
done
PYVMDK=
for p in python3 /usr/bin/python3; do
	[ -n "$PYVMDK" ] || ! $p -c 'import pyvmdk' 2>/dev/null || PYVMDK=$p
done
[ -n "$PYVMDK" ] || { echo "SKIP: python3-libvmdk (Debian package) is not installed"; exit 77; }
export PYVMDK
exec python3 "$TOP/tests/ci/differential_vmdk.py" "$KEDGE" "${IMAGES:-40}" "${SEED:-1}" "${PART:-1/1}"
