# Bad memory, a seeded part: one bit of a buffer flipped at each point of a backup, twice (1,000 runs: tests/long/memory-flip.sh).
. "$TOP/tests/lib.sh"
need qemu-io qemu-utils
/usr/bin/python3 -c 'import nacl, zstandard' 2>/dev/null || skip "python3-nacl and python3-zstandard (make deps-test) are needed"
/usr/bin/python3 "$TOP/tests/rot/memory_flip.py" --kedge "$KEDGE" --preload "$BUILD/preload/flip.so" --dir "$PWD/flip" --runs 46 --seed "${SEED:-1}"
