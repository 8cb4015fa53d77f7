# A full disk, on either side, is a clear error; committed backups and old targets stay as they were.
. "$TOP/tests/e2e/lib.sh"
needs jq mkfs.ext4 qemu-img
mkdir small
mount -t tmpfs -o size=24M tmpfs small 2>/dev/null || skip "root: mount of a tmpfs"
trap 'umount "$PWD/small" 2>/dev/null || :' EXIT
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
umount "$PWD/small"

# a target on ext4, where space is reserved: for a qcow2 it is known at once that there is not enough; what just fits does fit
for size in 30M 48M
do
	rm -f small.ext4
	truncate -s "$size" small.ext4
	mkfs.ext4 -q -O ^has_journal -m 0 small.ext4
	mount -o loop small.ext4 small 2>/dev/null || skip "root: mount of a file"
	if [ "$size" = 30M ]
	then
		expect 1 k restore b -O qcow2 -o small/b.qcow2
		says "No space left"
		says "reserving"
		[ "$(ls -A small)" = lost+found ] || die "a failed restore left $(ls -A small)"
		expect 1 k restore b -O raw -o small/b.raw
		says "No space left"
		[ "$(ls -A small)" = lost+found ] || die "a failed restore left $(ls -A small)"
	else
		expect 0 k restore b -O qcow2 -o small/b.qcow2
		[ "$(stat -c %b small/b.qcow2)" -le $(( ($(stat -c %s small/b.qcow2) + 65536) / 512 )) ] || die "space is left reserved"
		qemu-img compare -f qcow2 -F raw small/b.qcow2 b.raw || die "differs"
	fi
	umount "$PWD/small"
done
