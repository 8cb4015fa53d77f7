# A full disk, on either side, is a clear error; committed backups and old targets stay as they were.
. "$TOP/tests/e2e/lib.sh"
needs jq
mkdir small
mount -t tmpfs -o size=24M tmpfs small 2>/dev/null || skip "root: mount of a tmpfs"
trap 'umount "$PWD/small"' EXIT
export KEDGE_PASSWORD_FILE=$PWD/password KEDGE_STATE_DIR=$PWD/state KEDGE_CACHE_DIR=$PWD/cache
( umask 077; echo pw > password )
truncate -s 64M a.raw; random_at a.raw 0 6000000 1
k -q -r "$PWD/small/repo" init --pack-size 4M > recovery
export KEDGE_REPOSITORY=$PWD/small/repo
expect 0 k backup --vm a raw:a.raw
truncate -s 64M b.raw; random_at b.raw 0 40000000 2
expect 1 k backup --vm b raw:b.raw
says "No space left"
equal "$(k list --json | jq length)" 1 "listed after a full disk"
equal "$(point_digest a)" "$(digest < a.raw)" "the backup before"
umount "$PWD/small"; mount -t tmpfs -o size=8M tmpfs small
fresh_repo
expect 0 k backup --vm b raw:b.raw
expect 1 k restore b -o small/b.raw
says "No space left"
[ -z "$(ls -A small)" ] || die "a failed restore left $(ls -A small)"
