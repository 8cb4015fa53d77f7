# The configurations of the protocol's model that take much time or memory: tests/model/run.sh.
command -v spin >/dev/null || { echo "SKIP: spin (make deps-model)"; exit 77; }
BUILD=$TESTDIR JOBS=1 MEMLIM=8000 exec "$TOP/tests/model/run.sh" long
