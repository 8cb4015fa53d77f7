# Chains of up to ten layers of mixed formats, by QEMU: `kedge dump` of every layer gives what QEMU reads, and what it writes of one
# of them holds the same.  IMAGES=14 in all, SEED=1, PART=i/n makes every n-th of them.
. "$TOP/tests/lib.sh"
need qemu-img qemu-utils
need qemu-io qemu-utils
exec /usr/bin/python3 "$TOP/tests/ci/differential_chains.py" "$KEDGE" "${IMAGES:-14}" "${SEED:-1}" "${PART:-1/1}"
