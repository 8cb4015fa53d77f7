# Killed before each call that changes anything, init, key and a small backup leave what a second run completes; a part of the rest.
# tests/long/kill.sh is the whole matrix.
. "$TOP/tests/lib.sh"
need qemu-img qemu-utils
need python3 python3
python3 "$TOP/tests/faults/kill.py" --changes init 'key add' 'key remove' 'key passwd' 'backup small' | tee out
python3 "$TOP/tests/faults/kill.py" --part 4 'backup first' 'backup incremental' 'backup chain' 'key remove last' 'restore raw' \
	'restore qcow2' 'restore over' | tee -a out
