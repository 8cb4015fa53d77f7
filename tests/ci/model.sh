# The smallest configurations of the protocol's model, and some of the rules dropped one at a time: tests/model/run.sh.
command -v spin >/dev/null || { echo "SKIP: spin (make deps-model)"; exit 77; }
BUILD=$TESTDIR exec "$TOP/tests/model/run.sh" ci
