# VMDK images by qemu-img, and ones that it can't read or reads wrongly (extents of mixed kinds, ESXi's deltas, damaged directories
# with a copy) by a model of the format: `kedge dump` gives what they hold, and what it writes is what QEMU and libvmdk read.
# IMAGES=40 in all, SEED=1, PART=i/n makes every n-th of them.
. "$TOP/tests/lib.sh"
need qemu-io qemu-utils
need 7zz 7zip
/usr/bin/python3 -c 'import pyvmdk' 2>/dev/null || skip "python3-libvmdk (Debian package) is not installed"
exec /usr/bin/python3 "$TOP/tests/ci/differential_vmdk.py" "$KEDGE" "${IMAGES:-40}" "${SEED:-1}" "${PART:-1/1}"
