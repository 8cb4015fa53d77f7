#!/bin/bash
# qcow version 1 by qemu-img, and kinds that it doesn't write (any cluster and L2 size, chains of mixed formats, odd sizes)
# by a model of the format: `kedge dump` gives what they hold, and what it writes is what QEMU and libqcow read.
# IMAGES=24 in all, SEED=1, PART=i/n makes every n-th of them.
set -u
for tool in qemu-img qemu-io python3; do
	command -v $tool >/dev/null || { echo "SKIP: qemu-utils: $tool is missing"; exit 77; }
done
exec /usr/bin/python3 "$TOP/tests/ci/differential_qcow.py" "$KEDGE" "${IMAGES:-24}" "${SEED:-1}" "${PART:-1/1}"
