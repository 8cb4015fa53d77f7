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
# variant 5 is on a file system like Btrfs; 20, 21 and 35 kill a backup where another, or a listing, sees what is not durable
power --seed 1 --states 4 --every 0.002
power --seed 2 --states 3 --every 0.002 --variants 5-5 --only first,restores,keys_killed
power --seed 3 --states 3 --every 0.003 --variants 20-21 --only killed
power --seed 4 --states 3 --every 0.003 --variants 35-35 --only killed
power --blind file --only first,restores --states 6
power --blind dir --only first,restores --states 12
