# qcow version 1 by qemu-img, and kinds that it doesn't write (any cluster and L2 size, chains of mixed formats, odd sizes)
# by a model of the format: `kedge dump` gives what they hold, and what it writes is what QEMU and libqcow read.
# IMAGES=24 in all, SEED=1, PART=i/n makes every n-th of them.
. "$TOP/tests/lib.sh"
need qemu-io qemu-utils
/usr/bin/python3 -c 'import pyqcow' 2>/dev/null || skip "python3-libqcow (Debian package) is not installed"
exec /usr/bin/python3 "$TOP/tests/ci/differential_qcow.py" "$KEDGE" "${IMAGES:-24}" "${SEED:-1}" "${PART:-1/1}"
