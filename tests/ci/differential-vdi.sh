#!/bin/bash
# VDI images by qemu-img, and ones that it can't read (block sizes, chains, old headers) by a model of the format: `kedge
# dump` gives what they hold, and what it writes is what QEMU reads.  IMAGES=40 in all, SEED=1, PART=i/n makes every n-th of them.
set -u
for tool in qemu-img qemu-io python3; do
	command -v $tool >/dev/null || { echo "SKIP: qemu-utils: $tool is missing"; exit 77; }
done
exec python3 "$TOP/tests/ci/differential_vdi.py" "$KEDGE" "${IMAGES:-40}" "${SEED:-1}" "${PART:-1/1}"
