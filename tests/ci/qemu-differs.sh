# Images that qemu-img reads wrongly, refuses, or reads as somebody else's file: `kedge dump` gives what they hold, or refuses for the right
# reason.  What qemu-img does with each is printed beside it.
. "$TOP/tests/lib.sh"
need qemu-io qemu-utils
exec /usr/bin/python3 "$TOP/tests/ci/qemu_differs.py" "$KEDGE"
