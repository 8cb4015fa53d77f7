# VHD and VHDX: differencing chains backed up, restored to every format and back; ids kept, made anew, made from a seed.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img jq python3
quick_repo
PYTHONPATH=$TOP/tests/ci PYTHONDONTWRITEBYTECODE=1 python3 - <<'END' || die "the model made no images"
import random
from vhd_model import MIB, make_vhd, make_vhdx
base = random.Random(1).randbytes(6 * MIB).ljust(16 * MIB - 512, b'\0')
top = bytearray(base)
top[3 * MIB:3 * MIB + 70000] = b'\xa5' * 70000
top[5 * MIB:5 * MIB + 65536] = bytes(65536)
for kind, make, more in (('vhd', make_vhd, []), ('vhdx', make_vhdx, [512])):
    r = random.Random(12)
    parent = make(r, '.', f'base.{kind}', base, b'', None, *more)
    make(r, '.', f'top.{kind}', bytes(top), base, parent, *more)
for name, data in (('base', base), ('top', top)):
    with open(f'{name}.raw', 'wb') as f:
        f.write(data)
END
qemu-img create -q -f vhdx made.vhdx 1M
"$KEDGE" info made.vhdx | grep -q '^made by  *QEMU v' || die "who made a VHDX"
qemu-img create -q -f vpc made.vhd 1M
case $("$KEDGE" info --json made.vhd | jq -r .creator) in qem2 | qemu) ;; *) die "who made a VHD" ;; esac
variant() { "$KEDGE" info --json "$1" | jq -r .variant; }
for kind in vhd vhdx; do
	equal "$(variant top.$kind)" differencing "what $kind is"
	sha256sum base.$kind top.$kind >sums
	expect 0 k backup --vm $kind top.$kind
	equal "$(point_digest $kind)" "$(digest <top.raw)" "top of the $kind chain"
	equal "$(point_digest $kind/layer:base.$kind)" "$(digest <base.raw)" "base of the $kind chain"
	sha256sum --quiet -c sums || die "an image was written to"

	# The second night: the layer below is as it was, and isn't read.
	sleep 2.1
	expect 0 k backup --vm $kind top.$kind
	expect 0 k backup --vm $kind top.$kind --json --audit off
	read=$(field out .bytes_read)
	[ "$read" -le $((5 * 1048576)) ] || die "a $kind overlay of less than 5 MiB over a base of 6: $read bytes read"
	equal "$(point_digest $kind)" "$(digest <top.raw)" "top of the $kind chain, again"

	# A base that isn't there is said so; elsewhere it is found by its id.
	mkdir moved
	mv base.$kind moved/
	expect 1 k backup --vm $kind top.$kind
	says "base.$kind"
	[ "$(variant moved/base.$kind)" = dynamic ] || die "base.$kind is none that is found by its id"
	expect 0 k -q backup --vm $kind top.$kind --allow-path moved
	equal "$(point_digest $kind)" "$(digest <top.raw)" "found by its id"
	mv moved/base.$kind .
	rmdir moved
done

# --- between formats ------------------------------------------------------------------------------------------------
while read -r vm out format; do
	expect 0 k restore $vm -o r.$out --force
	qemu-img compare -q -f $format -F raw r.$out top.raw || die "$vm restored to $out: not what was backed up"
done <<-END
	vhd vhdx vhdx
	vhdx vhd vpc
	vhd qcow2 qcow2
	vhdx vdi vdi
END
qemu-img check -q -f vhdx r.vhdx
for kind in vhd vhdx; do
	for how in "--subformat fixed" "--preallocation full"; do
		expect 0 k restore vhd -o r.$kind --force $how
		equal "$("$KEDGE" dump --no-progress r.$kind | digest)" "$(digest <top.raw)" "$kind, $how, read again"
		equal "$(variant r.$kind)" fixed "$how"
	done
	[ $(($(stat -c %b r.$kind) * 512)) -ge 16000000 ] || die "--preallocation full reserves no space"
	expect 1 k restore vhd -o x.$kind --subformat dynamic --preallocation full
	says "cannot be preallocated" "--subformat fixed"
	expect 2 k restore vhd -o x.$kind --compress
	[ ! -e x.$kind ] || die "a refused restore made a file"
done

# --- ids ------------------------------------------------------------------------------------------------------------
# With its ids a restored base takes the old one's place under its child; with new ones it doesn't.
mkdir again
for kind in vhd vhdx; do
	cp top.$kind again/
	expect 0 k -q backup --vm base-$kind base.$kind
	expect 0 k restore base-$kind -o again/base.$kind --keep-ids
	equal "$("$KEDGE" dump --no-progress again/top.$kind | digest)" "$(digest <top.raw)" "$kind child on a restored base"
	expect 0 k restore base-$kind -o again/base.$kind --force
	! "$KEDGE" dump --no-progress --sink null again/top.$kind 2>err || die "a $kind base with new ids is taken for the old one"
	expect 0 k restore $kind -o s1.$kind --seed-ids x
	expect 0 k restore $kind -o s2.$kind --seed-ids x
	cmp s1.$kind s2.$kind || die "--seed-ids gives two $kind files"
	expect 0 k restore $kind -o s2.$kind --seed-ids y --force
	! cmp -s s1.$kind s2.$kind || die "two seeds give one $kind file"
done

# --- sizes that the formats don't have ------------------------------------------------------------------------------
head -c 100001 base.raw >odd.raw
expect 0 k -q backup --vm odd raw:odd.raw
for kind in vhd vhdx; do
	expect 1 k restore odd -o odd.$kind
	says "whole sectors of 512 bytes" "-O raw"
	[ ! -e odd.$kind ] || die "a refused restore made a file"
done
