# As tests/ci/limits.sh, with as many layers as are allowed.
LAYERS=200 . "$TOP/tests/ci/limits.sh"
