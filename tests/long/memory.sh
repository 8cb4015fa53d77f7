# The whole of tests/ci/memory-commands.sh: more data than any budget, all numbers of threads.
THREADS="1 2 4 16" BUDGETS="16 32 64 128" DATA_MIB=1024 FORMATS="raw qcow2"
. "$TOP/tests/ci/memory-commands.sh"
