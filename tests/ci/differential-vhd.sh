# VHD and VHDX images by qemu-img, and ones that it can't read (differencing, pending logs, sectors of 4096 bytes) by a
# model of the formats: `kedge dump` gives what they hold, and what it writes is what QEMU and libvhdi read.
# IMAGES=40 in all, SEED=1, PART=i/n makes every n-th of them.
. "$TOP/tests/lib.sh"
need qemu-io qemu-utils
need 7zz 7zip
/usr/bin/python3 -c 'import pyvhdi' 2>/dev/null || skip "python3-libvhdi (Debian package) is not installed"
exec /usr/bin/python3 "$TOP/tests/ci/differential_vhd.py" "$KEDGE" "${IMAGES:-40}" "${SEED:-1}" "${PART:-1/1}"
