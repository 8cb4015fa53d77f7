# A call that fails is told of clearly, with the right exit code, and nothing is lost: a part of the cases, others with another SEED.
# tests/long/fail.sh is the whole matrix.
. "$TOP/tests/lib.sh"
need qemu-img qemu-utils
need python3 python3
python3 "$TOP/tests/faults/fail.py" --part 1 init 'backup incremental' 'backup chain' 'key add' 'key remove' 'restore snapshots'
python3 "$TOP/tests/faults/fail.py" --part 1 --first 'restore over' 'check data' 'list json' stats info dump 'dump file'
# what was stored for want of memory must never be wrong: a config once lacked a key that its JSON had no room for
python3 "$TOP/tests/faults/fail.py" --part 40 --first --classes alloc init
