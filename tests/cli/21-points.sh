# How points are written: by time, by local day, by id, by state; what fits two is refused with both; what fits none says what there is.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo
at() { k list --json "$1" | jq -r ".[$2].$3"; }

# three nights, each with other bytes
for n in 1 2 3; do
	truncate -s 256K a.raw
	random_at a.raw 0 100000 $n
	cp a.raw a$n.raw
	expect 0 k -q backup --vm a raw:a.raw
	[ $n = 3 ] || sleep 2.1
done
for n in 1 2 3; do
	id=$(at a $((n - 1)) id)
	equal "$(point_digest "a@${id:0:4}")" "$(digest <a$n.raw)" "by four digits of the id"
	equal "$(point_digest "a@$id/current")" "$(digest <a$n.raw)" "by the whole id"
	end=$(at a $((n - 1)) end)	# 2026-11-20T03:00:00Z, and times are local: TZ is UTC here
	equal "$(point_digest "a@${end%Z}")" "$(digest <a$n.raw)" "by time, to the second"
	next=$(date -u -d "$end +1 second" +%FT%T)
	equal "$(point_digest "a@$next")" "$(digest <a$n.raw)" "the newest at or before a time"
done
equal "$(point_digest a)" "$(digest <a3.raw)" "the newest by default"
equal "$(point_digest a@latest)" "$(digest <a3.raw)" latest
end=$(at a 2 end)
equal "$(point_digest "a@${end%%T*}")" "$(digest <a3.raw)" "by day"
for tz in XXX-13 XXX+12; do	# one of them has another day than UTC now
	equal "$(export TZ=$tz; point_digest "a@$(date -d "$end" +%F)")" "$(digest <a3.raw)" "by day in $tz"
	equal "$(export TZ=$tz; point_digest "a@$(date -d "$end" +%FT%T)")" "$(digest <a3.raw)" "by time in $tz"
done
expect 1 k show "a@$(date -u -d "$(at a 0 end) -1 second" +%FT%T)"
says "no backup of a fits" "${end%%T*}"
other=$(date -u -d "$end -2 days" +%F)
expect 1 k show "a@$other"
says "no backup of a fits \"$other\""
expect 1 k show a@ffffffffffff
says "no backup of a has an id" "$(at a 0 id | cut -c1-12)"
expect 1 k show b
says "VM \"b\"" "VMs here: a"

# wrong use: what is no point
for p in '' a@ a@abc a@2026-13-01 a/ a/night-1 a: 'a b'; do
	expect 2 k cat "$p"
done
expect 2 k show a/current
expect 2 k show a:disk0
expect 2 k diff a a/nonsense
says "current, snap:NAME, snapid:ID or layer:FILE"
expect 2 k restore a@abc -o x.raw

# states: by name, by id, layers by file and by path; names with a slash and spaces; two that are alike
mkdir low
qemu-img create -q -f qcow2 low/base.qcow2 256K
qemu-io -f qcow2 -c 'write -P 1 0 64k' low/base.qcow2 >/dev/null
qemu-img create -q -f qcow2 -b low/base.qcow2 -F qcow2 base.qcow2
qemu-io -f qcow2 -c 'write -P 2 64k 64k' base.qcow2 >/dev/null
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
p=3
for name in twice twice 'a /b@c:d' once; do
	qemu-img snapshot -c "$name" top.qcow2
	qemu-io -f qcow2 -c "write -P $p 128k 64k" top.qcow2 >/dev/null
	qemu-img convert -f qcow2 -O raw top.qcow2 s$((p - 2)).raw	# what the next snapshot has
	p=$((p + 1))
done
expect 0 k -q backup --vm v top.qcow2
equal "$(point_digest v/snap:once)" "$(digest <s3.raw)" "by name"
equal "$(point_digest 'v/snap:a /b@c:d')" "$(digest <s2.raw)" "a name with everything in it"
equal "$(point_digest v:disk0@latest/snapid:2)" "$(digest <s1.raw)" "by id"
expect 0 k show v
prints "snap:twice (snapid:1)" "snap:twice (snapid:2)"
expect 2 k cat v/snap:twice
says "2 states fit \"snap:twice\"" "snapid:1" "snapid:2"
expect 2 k cat v/layer:base.qcow2
says "2 states fit" "$PWD/base.qcow2" "$PWD/low/base.qcow2"
qemu-img convert -f qcow2 -O raw low/base.qcow2 low.raw
equal "$(point_digest "v/layer:$PWD/low/base.qcow2")" "$(digest <low.raw)" "a layer by its path"
expect 1 k cat v/snap:none
says "no state \"snap:none\"" "snap:once"
expect 1 k cat v/snapid:9
expect 1 k cat v/layer:none

# a VM of several disks: which one must be said, and only what that disk has can be had
expect 0 k -q backup --vm w one=top.qcow2 two=raw:a.raw
expect 2 k cat w
says "several disks: one, two" "w:one"
equal "$(point_digest w:two)" "$(digest <a3.raw)" "a disk by name"
equal "$(point_digest w/snapid:4)" "$(digest <s3.raw)" "the only disk that has it"
expect 1 k cat w:two/snapid:4
expect 1 k cat w:three
says "disks there: one, two"

# another name than the allowed letters: list shows what to type
expect 0 k -q backup --vm 'my vm' raw:a.raw
alias=$(k list --json | jq -r '.[] | select(.vm_name == "my vm") | .vm')
equal "$(point_digest "$alias")" "$(digest <a3.raw)" "by alias"
expect 0 k list
prints "$alias (my vm)"
