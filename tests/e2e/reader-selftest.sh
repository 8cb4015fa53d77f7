#!/bin/bash
# The Python reader and writer of tests/reader against each other: they must agree before they judge the program.
set -eu
PYTHON=${PYTHON:-/usr/bin/python3}
"$PYTHON" -c 'import nacl, zstandard' 2>/dev/null || { echo "SKIP: python3-nacl and python3-zstandard are needed"; exit 77; }
export PYTHONDONTWRITEBYTECODE=1
cd "$TOP/tests/reader"
exec "$PYTHON" selftest.py
