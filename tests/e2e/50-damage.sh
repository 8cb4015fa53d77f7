# Damaged storage is noticed, named, and never restored as if it were right; what isn't touched restores (promise 4).
. "$TOP/tests/e2e/lib.sh"
needs jq
quick_repo
truncate -s 8M a.raw; random_at a.raw 0 4000000 1
truncate -s 8M b.raw; random_at b.raw 0 4000000 2
expect 0 k backup --vm a raw:a.raw
expect 0 k backup --vm b raw:b.raw
expect 0 k check --read-data
pack=$(k list --json a >/dev/null; ls -S repo/data/*/*/* | tail -1)
packs=$(ls repo/data/*/*/*)
for p in $packs; do
	chmod u+w "$p"; cp "$p" saved
	# another byte than the one that is there, whatever that is
	was=$(od -An -tu1 -j100000 -N1 "$p")
	printf "\\x$(printf %02x $((was ^ 255)))" | dd of="$p" bs=1 seek=100000 conv=notrunc status=none
	! cmp -s "$p" saved || die "the pack was not damaged"
	expect 6 k check --read-data
	grep -q "$(basename "$p" | cut -c1-16)" out err || { cat out err; die "check does not name the pack"; }
	grep -Eq '\b(a|b)\b' out err || die "check does not name the VM"
	bad=0
	for vm in a b; do
		rm -f r.raw
		if k restore $vm -o r.raw >o 2>&1; then cmp r.raw $vm.raw; else
			[ $? = 4 ] || k restore $vm -o r.raw || [ $? = 4 ] || die "exit of a damaged restore"
			[ ! -e r.raw ] || die "a failed restore left a target"
			bad=$((bad + 1))
			expect 4 k restore $vm -o r.raw --salvage --json
			says "guest bytes"
			[ "$(field out '.missing[0].length')" -gt 0 ] || die "the JSON does not say what is missing"
			rm r.raw
		fi
	done
	equal $bad 1 "VMs hit by one damaged pack"
	cp saved "$p"
done
expect 0 k check --read-data
# gone altogether
p=$(head -1 <<<"$packs")
mv "$p" gone
expect 6 k check
mv gone "$p"
# a lost index is rebuilt from the packs
mv repo/index index.gone
equal "$(point_digest a)" "$(digest < a.raw)" "without index runs"
mv index.gone repo/index
# a rolled-back store is noticed by a client that has seen the newer state
cp -r repo old
expect 0 k backup --vm a raw:a.raw
rm -rf repo; mv old repo
expect 0 k list
says "less"
