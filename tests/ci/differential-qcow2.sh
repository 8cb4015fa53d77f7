#!/bin/bash
# Images made by qemu-img and qemu-io across the features of qcow2: `kedge dump` of each state gives what QEMU says.
# IMAGES=80 in all, SEED=1, PART=i/n makes every n-th of them.  A failure prints the commands that make its image.
set -u
for tool in qemu-img qemu-io python3; do
	command -v $tool >/dev/null || { echo "SKIP: qemu-utils: $tool is missing"; exit 77; }
done
exec python3 "$TOP/tests/ci/differential_qcow2.py" "$KEDGE" "${IMAGES:-80}" "${SEED:-1}" "${PART:-1/1}"
