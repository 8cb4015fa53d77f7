# Rot, a seeded part: every kind of damage to every kind of object, some hundred cases (the whole is tests/long/rot.sh).
. "$TOP/tests/lib.sh"
need qemu-io qemu-utils
/usr/bin/python3 -c 'import nacl, zstandard' 2>/dev/null || skip "python3-nacl and python3-zstandard (make deps-test) are needed"
/usr/bin/python3 "$TOP/tests/rot/rot.py" --kedge "$KEDGE" --dir "$PWD/rot" --sample 90 --flips 40 --seed "${SEED:-1}"
