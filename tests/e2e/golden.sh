# Repositories that the independent writer made: kedge lists and restores each point with the digest computed from plain
# bytes, and refuses what must be refused with the documented exit codes (promises 4 and 7).
. "$TOP/tests/e2e/lib.sh"
PYTHON=${PYTHON:-/usr/bin/python3}
needs jq qemu-img
"$PYTHON" -c 'import nacl, zstandard' 2>/dev/null || skip "python3-nacl and python3-zstandard (make deps-test) are needed"
export PYTHONDONTWRITEBYTECODE=1 KEDGE_STATE_DIR=$PWD/state KEDGE_CACHE_DIR=$PWD/cache
umask 077
"$PYTHON" "$TOP/tests/reader/kedge_writer.py" golden golden
mv golden/* .

g() { k -r "$set/repo" --password-file "$set/password" "$@"; }
state_of() { printf '%b' "${1//%/\\x}"; }	# escaped text as a person types it

# One backup in one state: all its disks and attachments are restored.  What is damaged: exit 4 and no target.  The first disk
# of each VM's first point comes by cat, too.
check_state() {	# check_state VERDICT ID VM STATE: its rows are in the file rows
	local point="$3@$2/$(state_of "$4")" disk file
	rm -rf out.d
	if [ "$1" = refuse ]; then
		expect 4 g restore "$point" --to out.d -O raw
		[ -z "$(ls out.d 2>/dev/null)" ] || die "$set: $point was refused and left $(ls out.d)"
		expect 4 g cat "$point"
		says "guest bytes"
		return
	fi
	expect 0 g restore "$point" --to out.d -O raw
	while IFS=$'\t' read -r disk size sha; do
		file=out.d/$disk.raw
		equal "$(stat -c %s "$file")" "$size" "$set: size of $point $disk"
		equal "$(digest <"$file")" "$sha" "$set: $point $disk"
	done <rows
	[ "$(grep -c "$2.*attachment" "$set/EXPECTED.tsv")" = "$(find out.d -type f ! -name '*.raw' | wc -l)" ] ||
		die "$set: other attachments of $point than expected"
	while IFS=$'\t' read -r _ _ _ _ _ name size sha; do
		equal "$(digest <"out.d/$name")" "$sha" "$set: attachment $name of $point"
	done < <(grep "$2.*attachment" "$set/EXPECTED.tsv")
	case $seen in *" $3 "*) return ;; esac
	seen="$seen$3 "
	IFS=$'\t' read -r disk size sha <rows
	equal "$(g cat "${point/@/:$disk@}" 2>/dev/null | digest)" "$sha" "$set: cat of $point $disk"
}

check_set() {
	local seen=" "
	expect 0 g list --json
	jq -r '.[] | [.id, .vm, .pending] | @tsv' out | sort >listed
	awk -F'\t' -v OFS='\t' '$1 != "absent" { print $2, $3, $1 == "pending" ? "true" : "false" }' "$set/EXPECTED.tsv" | sort -u >wanted
	diff wanted listed || die "$set: other backups are listed than must be"
	jq -r '.[] | .id as $i | .vm as $v | .states[] | .state as $s | .disks[] | [$i, $v, $s, .disk, .size] | @tsv' out | sort >listed
	awk -F'\t' -v OFS='\t' '$5 == "disk" { print $2, $3, $4, $6, $7 }' "$set/EXPECTED.tsv" | sort >wanted
	diff wanted listed || die "$set: other points are listed than must be"
	while IFS=$'\t' read -r verdict id vm state; do
		awk -F'\t' -v OFS='\t' -v id="$id" -v state="$state" \
			'$2 == id && $4 == state && $5 == "disk" { print $6, $7, $8 }' "$set/EXPECTED.tsv" >rows
		check_state "$verdict" "$id" "$vm" "$state"
	done < <(awk -F'\t' -v OFS='\t' '$5 == "disk" && !seen[$2, $4]++ { print $1, $2, $3, $4 }' "$set/EXPECTED.tsv")
	# A check names what can't be restored, and nothing else.
	expect 6 g check --read-data
	sed -n "s/^kedge: warning: damage: \([^@]*\)@.*can't be restored$/\1/p" err | sort -u >damaged
	diff <(awk -F'\t' '$1 == "refuse" { print $3 }' "$set/EXPECTED.tsv" | sort -u) damaged || die "$set: check names other points than are lost"
}

for set in good hostile; do check_set; done

# What is forged is reported: who may not, whose signature fails, under whose name it lies.
set=good
expect 0 g list
says "a put key, which may not" "its signature does not verify" "another slot's name" "of which there is no record" \
	"may not write backups of delta" "may not write backups of other" "has format 2" "not those that its name promises"
expect 1 g show beta		# its only backup is incomplete: never chosen unless named
says "incomplete"
expect 0 g show "beta@$(awk -F'\t' '$3 == "beta" { print $2; exit }' good/EXPECTED.tsv)"
prints INCOMPLETE "béta" "weekly" "golden"

# A lost tree node costs what lies below it, no more.
set=hostile
expect 4 g cat --salvage lost-node
mv out lost.raw
says "guest bytes 1048576 to 1228800"
equal "$(stat -c %s lost.raw)" 1228800 "size of what was salvaged"
equal "$(tail -c +12289 lost.raw | head -c 4096 | tr -d kept | wc -c)" 0 "a chunk that is still there"
equal "$(tail -c +1048577 lost.raw | tr -d '\0' | wc -c)" 0 "zeros for what is lost"
expect 4 g restore lost-node --salvage -o salvaged.raw
cmp lost.raw salvaged.raw
equal "$(g cat lost-node --length 1M 2>/dev/null | digest)" "$(head -c 1M lost.raw | digest)" "what lies before the lost part"

# Each kind of key.
set=good
all=$(g list --json 2>/dev/null | jq -r '.[].id' | sort | digest)
alpha=$(awk -F'\t' '$3 == "alpha" && $4 == "current" && $6 == "root" { print $8 }' good/EXPECTED.tsv | tail -1)
for key in "--key-file good/full.key" "--password-file good/recovery.key"; do
	equal "$(k -r good/repo $key list --json 2>/dev/null | jq -r '.[].id' | sort | digest)" "$all" "listed with $key"
	equal "$(k -r good/repo $key cat alpha:root 2>/dev/null | digest)" "$alpha" "alpha with $key"
done
equal "$(k -r good/repo --key-file good/maintain.key list --json 2>/dev/null | jq -r '.[].id' | sort | digest)" "$all" "listed by maintain"
expect 12 k -r good/repo --key-file good/maintain.key cat alpha:root
says "maintain key cannot read guest data"
expect 12 k -r good/repo --key-file good/put.key list
says "a put key cannot"
expect 12 k -r hostile/repo --key-file good/full.key list

# Repositories that must not open.
while IFS=$'\t' read -r name why; do
	case $name in
	config-missing) code=10 ;;
	key-salt) code=12 ;;		# as a wrong password
	*) code=1 ;;
	esac
	expect $code k -r "refuse/$name" --password-file good/password list
	[ -s err ] && [ ! -s out ] || die "refuse/$name ($why): no message"
	case $name in
	feature) says time-travel ;;
	draft-1) says "the earlier draft 1 of the format" "nothing is damaged"; lacks err ignored ;;
	draft-3) says "draft 3 of the format" "nothing is damaged" ;;
	esac
done <REFUSED.tsv

# VM states come back inside qcow2 files: stored again from there, the independent reader finds the same bytes.
sha=$(awk -F'\t' '$5 == "vmstate" { print $8 }' good/EXPECTED.tsv | sort -u)
expect 0 g restore alpha:root --with-snapshots -o alpha.qcow2
qemu-img check -q alpha.qcow2
fresh_repo
expect 0 k backup --vm again alpha.qcow2
point=$("$PYTHON" "$TOP/tests/reader/kedge_reader.py" list repo --password-file password | jq -r '.states[] | select(.selector != "current").selector')
equal "$("$PYTHON" "$TOP/tests/reader/kedge_reader.py" vmstate repo again "$point" 0 --password-file password | digest)" "$sha" "VM state"
