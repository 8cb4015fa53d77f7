# tests/ci/concurrent.sh with a hundred and fifty rounds: fifty each of two, four and eight writers.
SEED=${SEED:-1000} ROUNDS=${ROUNDS:-150} . "$TOP/tests/ci/concurrent.sh"
