# Every state is stored: snapshots, layers of a chain, saved sizes; a second night reads only what changed (promise 3).
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo
truncate -s 64M n1.raw
random_at n1.raw 0 20000000 1
qemu-img convert -f raw -O qcow2 n1.raw web.qcow2
qemu-img snapshot -c night-1 web.qcow2
cp n1.raw n2.raw
random_at n2.raw 30000000 1000000 2	# all of it new: what was allocated stays
qemu-img create -q -f qcow2 -b "$PWD/n2.raw" -F raw diff.qcow2
qemu-img rebase -q -f qcow2 -b "$PWD/web.qcow2" -F qcow2 diff.qcow2
qemu-img commit -q diff.qcow2
rm diff.qcow2
qemu-img compare -q web.qcow2 n2.raw
expect 0 k backup web.qcow2
says "night-1" "full"
equal "$(point_digest web/snap:night-1)" "$(digest < n1.raw)" night-1
equal "$(point_digest web)" "$(digest < n2.raw)" current
equal "$(point_digest web/snapid:1)" "$(digest < n1.raw)" "by id"

# night 2: one more snapshot; the old one costs nothing
qemu-img snapshot -c night-2 web.qcow2
qemu-io -f qcow2 -c "write -P 0x77 50M 256k" web.qcow2 >/dev/null
expect 0 k backup web.qcow2 --json --audit off
read=$(field out .bytes_read)
[ "$read" -le $((4 * 1048576)) ] || die "a night that changed 256 KiB read $read bytes"
equal "$(field out '.states[] | select(.name=="night-1") | .disks[0].how')" same "how night-1 was read"
equal "$(point_digest web/snap:night-2)" "$(digest < n2.raw)" night-2
qemu-img convert -f qcow2 -O raw web.qcow2 n3.raw
equal "$(point_digest web)" "$(digest < n3.raw)" "current of night 2"

# night 3: an overlay; the layer below is not read again
sleep 2.1
qemu-img create -q -f qcow2 -b web.qcow2 -F qcow2 top.qcow2
qemu-io -f qcow2 -c "write -P 0x78 10M 128k" -c "write -z 1M 1M" top.qcow2 >/dev/null
expect 0 k backup --vm web top.qcow2		# records the layer
expect 0 k backup --vm web top.qcow2 --json --audit off
read=$(field out .bytes_read)
[ "$read" -le $((2 * 1048576)) ] || die "an overlay of 128 KiB read $read bytes"
qemu-img convert -f qcow2 -O raw top.qcow2 n4.raw
equal "$(point_digest web)" "$(digest < n4.raw)" "current of the overlay"
equal "$(point_digest web/layer:web.qcow2)" "$(digest < n3.raw)" "the layer below"

# --states chooses
expect 0 k backup --vm other --states current web.qcow2 --json
equal "$(field out '.states | length')" 1 "states with --states current"
expect 0 k backup --vm other2 --states snap:night-1,current web.qcow2 --json
equal "$(field out '.states | length')" 2 "states chosen"
expect 1 k backup --vm other3 --states snap:nope web.qcow2

# --with-snapshots rebuilds the image
first=$(k list --json web | jq -r '.[1].id' | cut -c1-10)
expect 0 k restore "web@$first" -o again.qcow2 --with-snapshots
qemu-img check -q again.qcow2
equal "$(image_digest again.qcow2)" "$(digest < n3.raw)" "current of the rebuilt image"
qemu-img snapshot -l again.qcow2 | grep night-2 >/dev/null || die "snapshot night-2 is not in the rebuilt image"
for n in 1 2; do
	qemu-img convert -f qcow2 -l "snapshot.name=night-$n" -O raw again.qcow2 s.raw
	equal "$(digest < s.raw)" "$(digest < n$n.raw)" "snapshot night-$n of the rebuilt image"
done
[ "$(stat -c %b again.qcow2)" -le $(($(stat -c %b web.qcow2) * 12 / 10)) ] || die "the rebuilt image does not share clusters"

# tables are shared too: many snapshots of a large, nearly empty disk don't cost a set of tables each
qemu-img create -q -f qcow2 wide.qcow2 8G
for ((i = 0; i < 16; i++)); do qemu-io -f qcow2 -c "write -q -P 1 $((i * 512))M 64k" wide.qcow2; done
for ((n = 1; n <= 12; n++)); do
	qemu-img snapshot -c "s$n" wide.qcow2
	qemu-io -f qcow2 -c "write -q -P $((n + 1)) $((n * 512))M 64k" wide.qcow2
done
expect 0 k backup wide.qcow2
expect 0 k restore wide -o wide2.qcow2 --with-snapshots
qemu-img check -q wide2.qcow2
[ "$(stat -c %s wide2.qcow2)" -le $(($(stat -c %s wide.qcow2) * 11 / 10)) ] ||
	die "the rebuilt image has $(stat -c %s wide2.qcow2) bytes, the original $(stat -c %s wide.qcow2)"
for n in 1 7 12; do
	for f in wide wide2; do
		exits 0 "$KEDGE" dump --no-progress -f --state "snap:s$n" -o $f.raw $f.qcow2
	done
	qemu-img compare -q -f raw -F raw wide.raw wide2.raw || die "snapshot s$n of the rebuilt image"
done
rm wide.raw wide2.raw

# --dry-run stores nothing; diff shows what changed
before=$(find repo -type f | sort | digest)
expect 0 k backup web.qcow2 --adopt --dry-run
equal "$(find repo/manifests -type f | wc -l)" "$(k list --json | jq length)" "manifests after a dry run"
expect 0 k diff "web@$first/snap:night-2" "web@$first" --json
equal "$(field out '[.. | .bytes? // empty] | max >= 262144')" true "diff"
expect 0 k check --read-data
