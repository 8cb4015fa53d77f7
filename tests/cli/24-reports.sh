# list, show, diff, stats, check, doctor, bench: what they print for people and as JSON, and each of their options.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo
expect 0 k list
equal "$(cat out err)" "no backups" "an empty repository"
expect 0 k list --json
equal "$(jq -c . out)" "[]" "an empty repository as JSON"
expect 0 k stats
expect 0 k check
prints "0 backups, 0 points" "no damage found"

truncate -s 8M a.raw
random_at a.raw 0 1000000 1
qemu-img convert -f raw -O qcow2 a.raw base.qcow2
qemu-img snapshot -c one base.qcow2
qemu-io -f qcow2 -c 'write -P 5 6M 128k' -c 'write -z 0 64k' base.qcow2 >/dev/null
qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 9M
qemu-img snapshot -c $'evil\033[2J' top.qcow2
expect 0 k -q backup --vm web --tag weekly --tag $'red\033[31m' --attach a.raw top.qcow2
expect 0 k -q backup --vm db raw:a.raw
expect 0 k -q backup --vm db raw:a.raw

# --- list ---------------------------------------------------------------------------------------------------------------
expect 0 k list
equal "$(awk 'NR > 1 { print $2 }' out | tr '\n' ' ')" "db db web " "by VM"
prints "ID" "VM" "STATES" "STORED" "current +1 snapshot +1 layer" "9.0 MiB" "8.0 MiB"
expect 0 k list --bytes
prints 9437184 8388608
lacks out MiB
expect 0 k list db
equal "$(wc -l <out)" 3 "lines of one VM"
lacks out web
expect 0 k list db --json
equal "$(field out '[.[].vm] | join(" ")')" "db db" "one VM as JSON"
field out '.[0].end <= .[1].end' | grep -x true >/dev/null || die "not oldest first"
expect 0 k list nobody
says "no backups of nobody"
expect 0 k list -q nobody
[ ! -s err ] || die "list -q says $(cat err)"
expect 0 k list --json
for f in id vm vm_name host start end complete pending bytes_read bytes_hashed bytes_new bytes_stored seconds tags disks states attachments problems; do
	field out "all(has(\"$f\"))" | grep -x true >/dev/null || die "no $f in list --json"
done
equal "$(field out '.[2] | "\(.complete) \(.disks[0].layers | length) \(.states | length) \(.attachments[0].name) \(.attachments[0].size)"')" \
	"true 2 3 a.raw 8388608" "a backup as JSON"
equal "$(field out '[.[2].states[] | .kind] | sort | join(" ")')" "current layer snapshot" "kinds of states"
expect 2 k list a b

# --- show ---------------------------------------------------------------------------------------------------------------
expect 0 k show web
id=$(k list --json web | jq -r '.[0].id')
prints "backup $id" "VM web, host " "tag weekly" 'red\x1b[31m' 'snap:evil\x1b[2J' "layer:base.qcow2" "disk disk0: qcow2, top.qcow2" "layer 1: qcow2" \
	"attachment a.raw: 8.0 MiB" "9.0 MiB" "READ AS"
lacks out $'\033'
expect 0 k show --bytes "web@$id"
prints 9437184 "attachment a.raw: 8388608"
lacks out MiB
expect 0 k show --json web
equal "$(field out '"\(.id) \(.tags[0])"')" "$id weekly" "show --json"
jq -S . out >one; k list --json web | jq -S '.[0]' >two
cmp one two || die "show --json is not what list --json has"

# --- diff ---------------------------------------------------------------------------------------------------------------
expect 0 k diff web/layer:base.qcow2 web
prints "disk0: equal, size 8.0 MiB then 9.0 MiB"
first=$(k list --json db | jq -r '.[0].id')
expect 0 k diff "db@$first" db
equal "$(cat out)" "disk0: equal" "two equal backups"
expect 0 k diff db web
prints "disk0: 0 to 65536 (64.0 KiB)" "disk0: 6291456 to 6422528 (128.0 KiB)" "192.0 KiB differ in 2 ranges" "128.0 KiB of it were zero before" \
	"64.0 KiB of it became zero" "8.0 MiB then 9.0 MiB"
expect 0 k diff --bytes db web
prints "(131072)" "196608 differ in 2 ranges"
expect 0 k diff --summary db web
equal "$(wc -l <out)" 1 "lines of a summary"
expect 0 k diff -s db web
equal "$(wc -l <out)" 1 "lines of a summary by its letter"
expect 0 k diff --json db web
equal "$(field out '.disks[0] | "\(.disk) \(.size_a) \(.size_b) \(.bytes) \(.bytes_filled) \(.bytes_zeroed) \(.ranges)"')" \
	"disk0 8388608 9437184 196608 131072 65536 2" "diff --json"
equal "$(field out '[.ranges[] | "\(.disk) \(.start) \(.length)"] | join(",")')" "disk0 0 65536,disk0 6291456 131072" "ranges"
expect 0 k diff --json --summary db web
equal "$(field out 'has("ranges")')" false "ranges with --summary"
equal "$(k diff --json --memory 16M db web | jq -c .disks)" "$(field out -c .disks 2>/dev/null || jq -c .disks out)" "with little memory"
expect 0 k -q backup --vm two x=raw:a.raw y=raw:a.raw
expect 0 k -q backup --vm one x=raw:a.raw
expect 0 k diff one two
prints "x: equal" "y: only in the second point, 8.0 MiB"
expect 0 k diff one:x two --json
equal "$(field out '.disks | length')" 1 "disks with one named"
expect 2 k diff db

# --- stats --------------------------------------------------------------------------------------------------------------
expect 0 k stats
prints "VM" "BACKUPS" "db " "web " "chunks: " "manifests" "stored: " " to 1"
equal "$(awk '$1 == "db" { print $2 }' out)" 2 "backups of db"
expect 0 k stats --bytes
lacks out MiB
prints 8388608
expect 0 k stats --json
equal "$(field out '"\(.backups) \(.kinds.manifests.objects) \([.vms[].vm] | join(" "))"')" "5 5 db one two web" "stats --json"
size=$(find repo -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')
got=$(field out .stored.bytes)
[ "$got" -le "$size" ] && [ "$got" -gt $((size * 9 / 10)) ] || die "stats says $got bytes are stored; the folder has $size"
field out '.chunks > 14 and .chunk_bytes > 1000000 and .logical >= 60000000' | grep -x true >/dev/null || die "stats: $(cat out)"

# --- check --------------------------------------------------------------------------------------------------------------
for n in 1 2 3 4; do
	truncate -s 256K m$n.raw
	random_at m$n.raw 0 ${n}0000 1$n
	expect 0 k -q backup raw:m$n.raw
done
expect 0 k check
prints "9 backups, 11 points" "no damage found"
lacks out "packs read"
expect 0 k check --read-data
prints "packs read" "no damage found"
expect 0 k check -q --read-data
[ ! -s out ] && [ ! -s err ] || die "check -q says $(cat out err)"
expect 0 k check --json
equal "$(field out '"\(.backups) \(.points) \(.packs_read) \(.damages) \(.findings | length)"')" "9 11 0 0 0" "check --json"
packs=$(field out .packs)
[ "$packs" -ge 6 ] || die "only $packs packs"
expect 0 k check --json --read-data
equal "$(field out .packs_read)" $packs "packs read by --read-data"
expect 0 k check --json --read-data=100%
equal "$(field out .packs_read)" $packs "packs read by --read-data=100%"
expect 0 k check --json --read-data=30% --seed 1
part=$(field out .packs_read)
[ "$part" -ge 1 ] && [ "$part" -lt "$packs" ] || die "--read-data=30% read $part of $packs packs"
equal "$(field out .seed)" 1 seed
pick() { k check --json --read-data=30% --seed $1 | jq .bytes_read; }
equal "$(pick 7)" "$(pick 7)" "the same seed"
for s in 1 2 3 4 5 6; do pick $s; done | sort -u >picks
[ "$(wc -l <picks)" -gt 1 ] || die "six seeds chose the same packs"
expect 0 k check --read-data=30%
seed=$(sed -n 's/.*--seed \([0-9]*\)$/\1/p' out)
read1=$(grep 'packs\? read' out)
expect 0 k check --read-data=30% --seed "$seed"
equal "$(grep 'packs\? read' out)" "$read1" "the seed that a run prints"
expect 0 k check --bytes --read-data
grep -Eq 'packs read \([0-9]{7,}\)' out || die "check --bytes: $(cat out)"
for v in 0% 101% 10 x% %; do expect 2 k check --read-data=$v; done
expect 2 k check --read-data 10%
expect 2 k check --seed 5
says "--read-data=N%"
expect 2 k check --seed 5 --read-data
# damage: in the text, the JSON and the code; quiet or not
pack=$(find repo/data -type f -size +500k | head -1)
name=${pack##*/}
mv "$pack" lost
expect 6 k check -q
prints DAMAGED
says "web@$(k list --json web | jq -r '.[0].id' | cut -c1-12)/current disk0 bytes" "db@"
expect 6 k check --json
[ ! -s err ] || die "check --json says $(cat err)"
field out '.damages > 0 and .points_damaged == 7 and .packs_missing == 1 and .chunks_lost > 10' | grep -x true >/dev/null || die "damage: $(cat out)"
field out "[.findings[] | select(.vm == \"db\" and .point == \"current\" and .disk == \"disk0\" and .length > 0 and .severity == \"damage\")] | length >= 1" |
	grep -qx true || die "no finding for db: $(cat out)"
field out "[.findings[] | select((.object // \"\") | contains(\"${name:0:20}\"))] | length >= 1" | grep -x true >/dev/null || die "the pack is not named"
mv lost "$pack"

# --- doctor -------------------------------------------------------------------------------------------------------------
expect 0 k doctor --threads 3 --memory 64M
prints "put, read, list, remove" "chunks of 64 KiB" "with a recovery key" "9 listed" "3 usable" "at most 64 MiB" "All is well"
[ -z "$(find repo -path '*doctor*' -type f)" ] || die "doctor left its probe"
expect 0 k doctor --json
equal "$(field out '"\(.bad) \([.findings[] | select(.what == "backups")][0].verdict)"')" "0 ok" "doctor --json"
expect 0 k doctor -q
[ ! -s out ] && [ ! -s err ] || grep -qE '^note ' out || die "doctor -q says $(cat out err)"
grep -q ' GiB free in\| MiB free in' <(k doctor) || die "no free space"
grep -qE ' [0-9]{8,} free in' <(k doctor --bytes) || die "doctor --bytes"
expect 0 env KEDGE_STATE_DIR=/proc/none "$KEDGE" --key-file key doctor
prints "note  state folder" "KEDGE_STATE_DIR" "see the notes"
says "can't be remembered"
m=$(find repo/manifests -type f | head -1)
cp "$m" m.saved
printf '\xff' | dd of="$m" bs=1 seek=100 conv=notrunc status=none
expect 1 k doctor
prints "BAD" "1 can't be read" "Something is wrong"
cp m.saved "$m"

# --- bench (three seconds each, so side by side) ------------------------------------------------------------------------
KEY=
seq 1 450000 >text
k bench --size 64M --json --dir . --level 1 --threads 5 text >b1 &
k bench --size 2M -v >b2 2>b2.err &
expect 0 k bench --size 2M --bytes --level 19 text
wait
equal "$(field b1 "(.bytes - $(stat -c %s text) | fabs) < 300000 and .hash > 0 and .name > 0 and .limit_store > 0 and .write > 0 and .cores == 5 and .copy_out > 0
	and .data.bytes_new == .data.bytes_hashed and .data.store_seconds > 0 and .data.restore_seconds > 0")" true "bench --json --dir FILE"
[ -z "$(ls -A | grep -i -e bench -e tmp)" ] || die "bench left $(ls -A)"
prints "compressing (zstd)"
lacks out "writing with fsync"
bytes=$(sed -n 's/measured on \([0-9]*\) that.*/\1/p' out) ratio=$(sed -n 's/.* ratio \([0-9.]*\);.*/\1/p' out)
[ "$bytes" -gt 1000000 ] && [ "$bytes" -le 2097152 ] || die "bench --size 2M: $(cat out)"
awk -v a="$(field b1 .ratio)" -v b="$ratio" 'BEGIN { exit !(b > a * 1.02) }' || die "ratio $ratio at level 19, $(field b1 .ratio) at level 1"
has b2.err "segments of"
has b2 "MiB that is new" "limit for new data on"		# without FILE: the program itself
expect 2 k bench --level 20
expect 2 k bench --size 1M
expect 1 k bench nowhere
says nowhere
expect 1 k bench m1.raw
says "too little"
