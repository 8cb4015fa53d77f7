# All of the worst inputs; tests/ci/worst-inputs.sh tries each third.
EVERY=1 . "$TOP/tests/ci/worst-inputs.sh"
