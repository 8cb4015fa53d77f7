# Deep chains and many snapshots: 60 layers (tests/long/limits.sh: 200, the most that is allowed), 300 internal snapshots, there and back.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo

# --- layers, each with 64 KiB of its own; the disk grows on the way ------------------------------------------------------
layer() { printf 'l%03d.qcow2' "$1"; }
below=
LAYERS=${LAYERS:-60} top=$(layer "${LAYERS:-60}")
for n in $(seq "$LAYERS"); do
	size=$((1048576 + n * 512))
	qemu-img create -q -f qcow2 "$(layer $n)" $size
	qemu-io -t unsafe -f qcow2 -c "write -P $n $(((n * 37 % 16) * 65536)) 64k" "$(layer $n)" >/dev/null
	[ -z "$below" ] || qemu-img rebase -q -u -f qcow2 -b "$below" -F qcow2 "$(layer $n)"
	below=$(layer $n)
done
expect 0 k backup --vm chain "$top" --json
equal "$(field out '"\(.complete) \(.states | length) \(.disks[0].layers | length)"')" "true $LAYERS $LAYERS" "states and layers"
first=$(field out .bytes_read)
for n in 1 2 17 $((LAYERS / 2)) $((LAYERS - 1)); do
	equal "$(point_digest "chain/layer:$(layer $n)")" "$(qemu_digest -f qcow2 "$(layer $n)")" "layer $n"
done
want=$(qemu_digest -f qcow2 "$top")
equal "$(point_digest chain)" "$want" "the top of the layers"
expect 0 k restore chain -o chain.qcow2
qemu-img check -q chain.qcow2
equal "$(qemu_digest -f qcow2 chain.qcow2)" "$want" "the top of the layers restored"
sleep 2.1	# a layer that was changed just now proves nothing
expect 0 k -q backup --vm chain "$top"
expect 0 k backup --vm chain "$top" --json --audit off
[ "$(field out .bytes_read)" -le 65536 ] || die "the second night read $(field out .bytes_read) of $first bytes"
equal "$(field out '[.states[] | select(.kind == "layer" and .disks[0].how == "same")] | length')" $((LAYERS - 1)) "layers that cost nothing"
expect 0 k backup --vm chain "$top"
says "and $LAYERS that are stored already"	# nobody touched the top layer either
qemu-img create -q -u -f qcow2 -b "$top" -F qcow2 l201.qcow2 1M
if [ "$LAYERS" = 200 ]; then
	expect 1 k backup --vm chain l201.qcow2
	says "200"
fi
equal "$(k list chain --json | jq length)" 4 "backups after the refusal"

# --- 300 snapshots, each of other content -------------------------------------------------------------------------------------
qemu-img create -q -f qcow2 many.qcow2 4M
for n in $(seq 300); do
	qemu-io -t unsafe -f qcow2 -c "write -P $((n % 251 + 1)) $((n * 4096 % 1048576)) 4k" many.qcow2 >/dev/null
	qemu-img snapshot -c "night-$n" many.qcow2
done
expect 0 k backup many.qcow2
says "301 states of 1 disk" "and 285 more ("
[ "$(wc -l <err)" -lt 25 ] || die "$(wc -l <err) lines about 301 states"
expect 0 k backup --dry-run many.qcow2 -v --vm other
says "snap:night-300: snapshot from"
expect 0 k list many
prints "current +300 snapshots"
for n in 1 2 150 299 300; do
	equal "$(point_digest "many/snap:night-$n")" "$(qemu_digest -l "snapshot.name=night-$n" -f qcow2 many.qcow2)" "snapshot $n"
done
expect 0 k backup many.qcow2 --json --audit off
equal "$(field out '[.states[] | select(.kind == "snapshot" and .disks[0].how == "same")] | length')" 300 "snapshots that cost nothing"
expect 0 k backup many.qcow2
says "that are stored already"
grep -Eq "and 30[01] that" err || die "$(tail -1 err)"	# the current state, too, if its file is old enough
expect 0 k restore many -o again.qcow2 --with-snapshots
qemu-img check -q again.qcow2
equal "$(qemu-img snapshot -l again.qcow2 | grep -c night-)" 300 "snapshots restored"
for n in 1 77 300; do
	equal "$(qemu_digest -l "snapshot.name=night-$n" -f qcow2 again.qcow2)" "$(qemu_digest -l "snapshot.name=night-$n" -f qcow2 many.qcow2)" "snapshot $n restored"
done
[ "$(stat -c %s again.qcow2)" -le $(($(stat -c %s many.qcow2) * 11 / 10)) ] || die "the rebuilt image does not share clusters"
expect 0 k check --read-data
