#!/bin/bash
# VHD and VHDX images by qemu-img, and ones that it can't read (differencing, pending logs, sectors of 4096 bytes) by a
# model of the formats: `kedge dump` gives what they hold, and what it writes is what QEMU and libvhdi read.
# IMAGES=40 in all, SEED=1, PART=i/n makes every n-th of them.
set -u
for tool in qemu-img qemu-io python3; do
	command -v $tool >/dev/null || { echo "SKIP: qemu-utils: $tool is missing"; exit 77; }
done
/usr/bin/python3 -c 'import pyvhdi' 2>/dev/null || { echo "SKIP: python3-libvhdi is missing"; exit 77; }
exec /usr/bin/python3 "$TOP/tests/ci/differential_vhd.py" "$KEDGE" "${IMAGES:-40}" "${SEED:-1}" "${PART:-1/1}"
