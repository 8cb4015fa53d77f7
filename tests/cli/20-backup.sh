# backup: every option does what it says; what is refused says why; what was read is said before and after.
. "$TOP/tests/lib.sh"
need qemu-img qemu-utils
need jq jq
need openssl openssl
export KEDGE_REPOSITORY=$PWD/repo
( umask 077; head -c 64 /dev/urandom > key )	# unlike a password it opens at once
"$KEDGE" -q --key-file key init >recovery
k() { "$KEDGE" --key-file "$KEY" backup "$@"; }
KEY=$PWD/key
json() { jq -r "$1" out; }
noise() { openssl enc -aes-128-ctr -nosalt -K "$(printf '%032x' "$1")" -iv 0 -in /dev/zero 2>/dev/null | head -c "$2" || true; }

truncate -s 16M a.raw
noise 1 3000000 | dd of=a.raw conv=notrunc status=none
qemu-img convert -f raw -O qcow2 a.raw web.qcow2

# --- before and after -------------------------------------------------------------------------------------------------
exits 0 k web.qcow2
has err "VM web: 1 state of 1 disk, at most" "disk0 current: full" "disk disk0: full" "qemu-img snapshot -c kedge-" "web.qcow2" "backup "
exits 0 k -q web.qcow2
same "" "$(cat err)" "what --quiet says"
exits 0 k --json web.qcow2
same "" "$(cat err)" "what --json says to people"
for f in vm id complete bytes_read bytes_hashed bytes_new bytes_stored seconds disks states problems claim_false; do
	jq -e "has(\"$f\")" out >/dev/null || fail "no $f in the JSON"
done
same "web true 0 full current" "$(json '"\(.vm) \(.complete) \(.bytes_new) \(.disks[0].how) \(.states[0].state)"')" json
same "$(json .id)" "$("$KEDGE" --key-file "$KEY" list --json | jq -r '.[-1].id')" "the id that list shows"
read=$(json .bytes_read)
exits 0 k --bytes web.qcow2
has err "at most $read to read"

# --- names ------------------------------------------------------------------------------------------------------------
exits 0 k --json --vm db vda=web.qcow2 "vdb=raw:a.raw"
same "db vda vdb qcow2 raw" "$(json '"\(.vm) \(.disks[0].name) \(.disks[1].name) \(.disks[0].format) \(.disks[1].format)"')" "named disks"
cp web.qcow2 'm y%.qcow2'
exits 0 k --json 'm y%.qcow2'
same 'm y%25' "$(json .vm_name)" "the name as given"
json .vm | grep -Eq '^m_y_-[0-9a-f]{8}$' || fail "alias $(json .vm)"
exits 2 k --vm x d=web.qcow2 d=raw:a.raw
has err "two disks are named d"
exits 2 k

# --- formats ----------------------------------------------------------------------------------------------------------
exits 1 k --vm f a.raw
has err "raw:a.raw"
exits 0 k --vm f --format raw a.raw
exits 0 k --vm f raw:a.raw
exits 2 k --vm f --format nope a.raw
cp web.qcow2 f.img
exits 0 k --vm g raw:f.img
exits 1 k --vm g f.img
has err "is qcow2 now and was raw" "disk0=qcow2:f.img"
exits 0 k --vm g raw:f.img
exits 0 k --vm g qcow2:f.img

# --- whose name -------------------------------------------------------------------------------------------------------
cp web.qcow2 other.qcow2
exits 1 k --vm web other.qcow2
has err "belongs to another machine" "--adopt"
exits 0 k --vm web --adopt other.qcow2
exits 1 k web.qcow2
exits 0 k --adopt web.qcow2
qemu-img create -q -f qcow2 -b web.qcow2 -F qcow2 top.qcow2
exits 0 k --vm web top.qcow2		# its chain contains the disk last backed up
mkdir moved
uuid=11111111-2222-3333-4444-555555555555
echo "<domain type='kvm'><name>u</name><uuid>$uuid</uuid></domain>" > u.xml
echo "<domain type='kvm'><name>u</name><uuid>${uuid/1/9}</uuid></domain>" > v.xml
exits 0 k --vm u --attach u.xml web.qcow2
cp web.qcow2 moved/elsewhere.qcow2
exits 0 k --vm u --attach u.xml moved/elsewhere.qcow2	# the same machine, at another place
cp web.qcow2 moved/third.qcow2
exits 1 k --vm u --attach v.xml moved/third.qcow2
has err "$uuid"

# --- attachments and tags ---------------------------------------------------------------------------------------------
chmod 640 u.xml
exits 0 k --json --vm t --attach u.xml --attach v.xml --tag weekly --tag 'before upgrade' web.qcow2
same "u.xml v.xml weekly before upgrade" "$(json '"\(.attachments[0].name) \(.attachments[1].name) \(.tags[0]) \(.tags[1])"')" "attachments and tags"
"$KEDGE" --key-file "$KEY" restore t --to t.out -O raw >/dev/null 2>&1
cmp u.xml t.out/u.xml.orig
mkdir -p folder
exits 1 k --vm t --attach folder web.qcow2
has err "look at the path"
lacks err dmesg
exits 1 k --vm t --attach gone.xml web.qcow2
has err "gone.xml"
cp u.xml moved/u.xml
exits 1 k --vm t --attach u.xml --attach moved/u.xml web.qcow2
has err "two attachments"
truncate -s 40M big1; truncate -s 40M big2
exits 0 k --vm t --attach big1 web.qcow2
exits 1 k --vm t --attach big1 --attach big2 web.qcow2
has err big2 "together"

# --- states -----------------------------------------------------------------------------------------------------------
cp web.qcow2 s.qcow2
qemu-img snapshot -c one s.qcow2
qemu-io -f qcow2 -c 'write -P 7 8M 128k' s.qcow2 >/dev/null
qemu-img snapshot -c two s.qcow2
exits 0 k --json --dry-run s.qcow2
same "full snapshot snapshot" "$(json '[.states[].how] | join(" ")')" "planned"
same "true 131072 0" "$(json '"\(.dry_run) \(.states[1].bytes_max) \(.states[2].bytes_max)"')" "planned bytes"
exits 1 "$KEDGE" --key-file "$KEY" show s
exits 0 k --dry-run s.qcow2
has err "snap:one: full"
exits 0 k --json --states snap:two,current s.qcow2
same "current snap:two" "$(json '[.states[].state] | join(" ")')" "chosen states"
exits 0 k --json --vm s3 --states snapid:1 s.qcow2
same "snap:one" "$(json '[.states[].state] | join(" ")')" "a state by its id"
exits 0 k --json --vm s4 --states layer:web.qcow2 top.qcow2
same "layer:web.qcow2" "$(json '[.states[].state] | join(" ")')" "a layer by its file"
exits 1 k --states snap:three s.qcow2
has err "snap:three" "snap:one"
exits 2 k --states current,,snap:one s.qcow2
exits 0 k s.qcow2
has err "snap:two: same" "nothing to read" "snap:one: snapshot from snap:two"
exits 0 k --vm s2 s.qcow2
has err "snap:one: full" "snap:two: snapshot from snap:one (128.0 KiB)" "the next backup reads only what changed"
touch s.qcow2	# or the current state might be as untouched as the snapshots
exits 0 k --json --audit off --states all s.qcow2
same "0 same same snapshot snapshot" "$(json '"\(.bytes_read) \([.states[] | select(.kind == "snapshot") | .disks[0].how] | join(" ")) \(.states[0].disks[0].how) \(.disks[0].how)"')" "night without change"

# --- audit ------------------------------------------------------------------------------------------------------------
audited() { exits 0 k --json --audit "$1" s.qcow2; json .disks[0].bytes_audited; }
same 0 "$(audited off)" "audit off"
all=$(exits 0 k --json --audit off s.qcow2; json .disks[0].bytes_unchanged)
[ "$all" -ge 3000000 ] || fail "only $all bytes called unchanged"
same "$all" "$(audited 100%)" "audit 100%"
# of much that is called unchanged: a thirtieth unless told otherwise, at least 4 MiB
truncate -s 32M much.raw
noise 9 30000000 | dd of=much.raw conv=notrunc status=none
qemu-img convert -f raw -O qcow2 much.raw much.qcow2
qemu-img snapshot -c one much.qcow2
exits 0 k -q --audit off much.qcow2
much() { exits 0 k --json "$@" much.qcow2; json .disks[0].bytes_audited; }
some=$(much) half=$(much --audit 50%) whole=$(much --audit 5m)
[ "$some" -ge 4194304 ] && [ "$some" -lt 9000000 ] || fail "audited by default: $some"
[ "$half" -ge 15000000 ] && [ "$half" -lt 24000000 ] || fail "--audit 50% read $half"
[ "$whole" -ge 29000000 ] || fail "--audit 5m read $whole"
exits 2 k --audit 5 s.qcow2
exits 2 k --audit 101% s.qcow2
exits 2 k --audit much s.qcow2
# A byte of guest data changes behind the tables' back: nothing in the metadata tells.
at=$("$KEDGE" map --json s.qcow2 | jq '[.[] | select(.kind == "data")][0].host')
printf 'changed' | dd of=s.qcow2 bs=1 seek=$((at + 1000)) conv=notrunc status=none
exits 0 k --audit off s.qcow2
exits 5 k --json --audit 100% s.qcow2
same "true true full" "$(json '"\(.complete) \(.claim_false) \(.disks[0].how)"')" "after a false claim"
has err "is not"
qemu-img convert -f qcow2 -O raw s.qcow2 s.raw
same "$(digest <s.raw)" "$("$KEDGE" --key-file "$KEY" cat s | digest)" "the point after a false claim"
exits 0 k --audit 100% s.qcow2

# --- chains -----------------------------------------------------------------------------------------------------------
mkdir here away
cp web.qcow2 away/base.qcow2
qemu-img create -q -f qcow2 -b "$PWD/away/base.qcow2" -F qcow2 here/top.qcow2
exits 1 k --vm c here/top.qcow2
has err "--allow-path"
exits 0 k --json --vm c --allow-path away here/top.qcow2
same "layer:base.qcow2" "$(json '.states[] | select(.kind == "layer") | .state')" "lower layer"
cp a.raw here/base.raw
qemu-img create -q -f qcow2 -b base.raw -F raw here/over.qcow2
ext=$(LC_ALL=C grep -obUaP '\xe2\x79\x2a\xca' here/over.qcow2 | head -1 | cut -d: -f1)	# the stored backing format: now an unknown extension
printf 'zzzz' | dd of=here/over.qcow2 bs=1 seek="$ext" conv=notrunc status=none
exits 1 k --vm d here/over.qcow2
has err "--backing-format"
exits 0 k --vm d --backing-format raw here/over.qcow2
same "$(digest <a.raw)" "$("$KEDGE" --key-file "$KEY" cat d | digest)" "raw layer below"
exits 2 k --vm d --backing-format nope here/over.qcow2
cp web.qcow2 bad.qcow2
printf '\002' | dd of=bad.qcow2 bs=1 seek=79 conv=notrunc status=none	# incompatible feature bit 1: corrupt
exits 1 k bad.qcow2
has err "--force"
exits 0 k --force bad.qcow2

# --- compression ------------------------------------------------------------------------------------------------------
stored() {	# stored VM OPTION...: bytes stored of text that no other backup has
	{ echo "$*"; seq 1 600000; } | head -c 4000000 | sed "s/^/$1 /" > text.raw
	truncate -s 4M text.raw
	exits 0 k --json --vm "$@" raw:text.raw
	json .bytes_stored
}
default=$(stored c1) off=$(stored c2 --compression off) max=$(stored c3 --compression max) fast=$(stored c4 --compression fast)
alone=$(stored c5 --no-shared-compression)
[ "$off" -gt 4000000 ] || fail "--compression off stored $off"
[ "$default" -lt $((off / 2)) ] || fail "default compression stored $default"
[ "$default" -lt "$fast" ] || fail "default stored $default, fast $fast"
[ "$max" -lt "$fast" ] || fail "max stored $max, fast $fast"
[ "$alone" -gt "$default" ] || fail "single chunks stored $alone, shared $default"
exits 2 k --compression zip web.qcow2
exits 0 k --vm m --threads 1 --memory 32M web.qcow2

# the command that makes the next night cheaper is one word for the shell whatever the file is called
cp a.raw 'b; $(touch pwned).raw' 2>/dev/null || truncate -s 1M 'b; $(touch pwned).raw'
exits 0 "$KEDGE" --key-file key backup --vm odd 'raw:./b; $(touch pwned).raw'
has err "qemu-img create -f qcow2 -b './b; \$(touch pwned).raw' -F raw OVERLAY.qcow2"
