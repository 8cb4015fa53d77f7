#!/bin/bash
# demo.sh - the main job on a real guest image, start to end, in a folder of its own: `make demo`.
#
# A real file system with real files (mke2fs) becomes a qcow2 image; over three nights its files change, a snapshot is taken,
# and kedge backs it up; the third night is an overlay on the image, so the chain is a chain. Then one point is restored into a
# fresh image and compared with what the guest held that night, byte for byte, and its file system is checked.
set -eu -o pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
kedge=${KEDGE:-$top/build/kedge}
PATH=$PATH:/sbin:/usr/sbin
work=$(mktemp -d "${TMPDIR:-/tmp}/kedge-demo.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
digest() { sha256sum | cut -d' ' -f1; }

# Brings image.qcow2 to the content of night.raw by writing only what differs, as a guest would.
bring() {	# image.qcow2 night.raw
	qemu-img create -q -f qcow2 -b "$work/$2" -F raw diff.qcow2
	qemu-img rebase -q -f qcow2 -b "$work/$1" -F qcow2 diff.qcow2
	qemu-img commit -q diff.qcow2
	rm -f diff.qcow2
}

# The guest's disk one night later: some files come, some go.
night() {	# from.raw to.raw number
	cp --sparse=always "$1" "$2"
	seq "$((3000 * $3))" > "log-$3"
	{
		echo "write log-$3 /var-log-night-$3"
		echo "write $kedge /kedge-$3"
		[ "$3" -lt 3 ] || echo "rm /var-log-night-2"
	} | debugfs -w -f - "$2" >/dev/null 2>&1
}

say "A guest disk: a real file system with the files of /usr/share/doc and /etc"
mkdir tree
cp -r /usr/share/doc tree/doc 2>/dev/null || true
cp -r /etc/ssl /etc/default tree/ 2>/dev/null || true
truncate -s 512M night0.raw
mke2fs -q -t ext4 -d tree night0.raw
night night0.raw night1.raw 1
night night1.raw night2.raw 2
night night2.raw night3.raw 3
run qemu-img convert -f raw -O qcow2 night1.raw web.qcow2
du -sh web.qcow2

export KEDGE_REPOSITORY="$work/backup" KEDGE_PASSWORD_FILE="$work/password"
export KEDGE_CACHE_DIR="$work/cache" KEDGE_STATE_DIR="$work/state"
( umask 077; head -c 18 /dev/urandom | base64 > password )

say "A repository, and the first night"
run "$kedge" init
run qemu-img snapshot -c night-1 web.qcow2
run "$kedge" backup web.qcow2

say "The second night: the guest has written, a snapshot was taken; only what changed is read"
bring web.qcow2 night2.raw
run qemu-img snapshot -c night-2 web.qcow2
sleep 2.1	# an image counts as settled when its last change is more than two seconds old
run "$kedge" backup web.qcow2

say "The third night: an overlay, as an external snapshot of a running VM makes one; the layer below is not read again"
run qemu-img create -q -f qcow2 -b web.qcow2 -F qcow2 web-top.qcow2
bring web-top.qcow2 night3.raw
run "$kedge" backup --vm web web-top.qcow2

say "What there is"
run "$kedge" list
run "$kedge" show web@latest
run "$kedge" check --read-data

say "Back to night 2, into a fresh image"
first=$("$kedge" list --json | jq -r '.[1].id' | cut -c1-12)
run "$kedge" restore "web@$first/snap:night-2" -o web-night2.qcow2 -O qcow2
run qemu-img check -q web-night2.qcow2
want=$(digest < night2.raw)
qemu-img convert -f qcow2 -O raw web-night2.qcow2 restored.raw
got=$(digest < restored.raw)
echo "guest content that night: $want"
echo "guest content restored:   $got"
[ "$want" = "$got" ] || { echo "demo: the restored image differs"; exit 1; }
run e2fsck -fn restored.raw

say "And the latest point, as a stream"
[ "$("$kedge" cat web@latest | digest)" = "$(digest < night3.raw)" ] || { echo "demo: the latest point differs"; exit 1; }
echo "equal to the guest's disk of night 3"
say "The main job works: backed up over three nights, restored, proved equal."
