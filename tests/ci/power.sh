# A power cut at any moment loses nothing that was reported as done: part of the states that tests/power rebuilds from what
# commands wrote and synced; tests/long/power.sh has more.  And the tests notice when an fsync is missing.
. "$TOP/tests/lib.sh"
need python3 python3
need qemu-img qemu-utils
need nm binutils
work=$PWD
[ ! -w /dev/shm ] || work=$(mktemp -d /dev/shm/kedge-power.XXXXXX)
trap 'rm -rf "$work"' EXIT
power() { python3 "$TOP/tests/power/power.py" --program "$KEDGE" --library "$BUILD/preload/record.so" --work "$work" "$@"; }
power --seed 1 --states 6 --every 0.006
power --seed 2 --states 2 --every 0.002 --variants 5-6
power --only killed --seed 3 --states 2 --every 0.003 --variants 30-33
power --blind file --only first,restores --states 8
power --blind dir --only first,restores --states 8
