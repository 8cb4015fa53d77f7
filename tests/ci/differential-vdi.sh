# VDI images by qemu-img, and ones that it can't read (block sizes, chains, old headers) by a model of the format: `kedge
# dump` gives what they hold, and what it writes is what QEMU reads.  IMAGES=40 in all, SEED=1, PART=i/n makes every n-th of them.
. "$TOP/tests/lib.sh"
need qemu-io qemu-utils
need 7zz 7zip
exec /usr/bin/python3 "$TOP/tests/ci/differential_vdi.py" "$KEDGE" "${IMAGES:-40}" "${SEED:-1}" "${PART:-1/1}"
