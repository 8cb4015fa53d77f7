# Keys: several secrets open one repository; a removed or changed one no longer does.
. "$TOP/tests/e2e/lib.sh"
needs jq
fresh_repo
head -c 64 /dev/urandom > keyfile
echo "second word" > second; echo "third word" > third
chmod 600 second third keyfile
expect 0 k key add --label spare --new-password-file second --json
slot=$(field out .slot)
expect 0 k key add --label file --new-key-file keyfile
expect 0 k --password-file second list
(unset KEDGE_PASSWORD_FILE; k --key-file keyfile list)
expect 0 k key list
prints spare file recovery "in use"
equal "$(k key list --json | jq '[.[] | select(.removed | not)] | length')" 4 keys
expect 0 k --password-file second key passwd --new-password-file third
expect 12 k --password-file second list
expect 0 k --password-file third list
expect 0 k key remove spare
expect 12 k --password-file third list
expect 1 k key remove nobody
# the recovery key stays what it is
expect 1 k --password-file recovery key passwd --new-password-file third
says "recovery key" "kedge key add"
expect 0 k --password-file recovery list
expect 1 k key keep file --force
expect 1 k key keep file		# nobody has begun to remove it
grep -q "nobody has begun" err || fail "key keep says: $(cat err)"
expect 2 k key remove
expect 2 k key frob
expect 2 k key list --label x
own=$(k key list --json | jq -r '.[] | select(.in_use) | .slot')
expect 1 k key remove "$own"
truncate -s 2M a.raw; random_at a.raw 0 1000000 1
(unset KEDGE_PASSWORD_FILE; k --key-file keyfile backup --vm a raw:a.raw)
expect 0 k backup --json --vm b raw:a.raw	# a key that was added is as good as the first
equal "$(field out .bytes_new)" 0 "what another full key stored"
expect 0 k key remove file		# what a removed slot wrote stays readable
equal "$(point_digest a)" "$(digest < a.raw)" "written by a removed slot"
head -c 8 /dev/urandom > short
expect 1 k key add --new-key-file short

# --- interrupted --------------------------------------------------------------------------------------------------------
# A removal and a change of a passphrase that were killed are seen, and ended by the same command.
state_of() { k key list --json | jq -r ".[] | select(.slot == \"$1\") | .state"; }
objects() { find "$KEDGE_REPOSITORY/$1" -type f 2>/dev/null; }
case $BUILD in */release | */debug)	# sanitizers want to be loaded first
	expect 0 k key add --label going --new-password-file second --json
	slot=$(field out .slot)
	cp -a "$KEDGE_REPOSITORY" before
	for n in $(seq 8); do		# until its key object is gone, and that it is to be removed is still said
		rm -rf "$KEDGE_REPOSITORY"
		cp -a before "$KEDGE_REPOSITORY"
		: > report
		truncate -s 512 report
		expect 137 env LD_PRELOAD="$BUILD/preload/fault.so" FAULT_REPORT=report FAULT_CLASS=remove FAULT_NTH=$n \
			FAULT_DO=kill-before "$KEDGE" key remove going
		[ -n "$(objects keys/$slot)" ] || break
	done
	equal "$(objects removal | wc -l)" 1 "removals that are still said"
	equal "$(state_of $slot)" removal-unfinished "after a removal that was killed"
	expect 0 k key list
	prints "removed, not finished"
	says "kedge key remove $slot"
	KEDGE_TEST_TIME_OFFSET=7200 expect 0 k check		# just now it might have been under way
	says "that it is to be removed is still there: \`kedge key remove $slot\`"
	expect 0 k key remove going
	equal "$(state_of $slot)" removed "removed again"
	equal "$(objects removal)" "" "removals that are still said"
	rm -rf before ;;
esac
expect 0 k key add --label changing --new-password-file second --json
slot=$(field out .slot)
cp -a "$KEDGE_REPOSITORY/keys/$slot" old
expect 0 k --password-file second key passwd --new-password-file third
cp -n old/* "$KEDGE_REPOSITORY/keys/$slot"	# as if it had been killed before the old object went
expect 0 k --password-file second list
expect 0 k --password-file third list
equal "$(state_of $slot)" change-unfinished "after a change that was killed"
expect 0 k key list
prints "several secrets"
says "kedge key passwd"
expect 0 k check
says "has 2 key objects"
expect 0 k --password-file third key passwd --new-password-file third
expect 12 k --password-file second list
expect 0 k --password-file third list
equal "$(state_of $slot)" usable "changed again"
# A key object that has rotted opens nothing, so no other key may be removed on the strength of it.
own=$(k key list --json | jq -r '.[] | select(.in_use) | .slot')
expect 0 k key add --label other --new-key-file keyfile --json
other=$(field out .slot)
for s in $(k key list --json | jq -r '.[] | select((.removed | not) and .kind != "recovery") | .slot'); do
	[ "$s" = "$own" ] || [ "$s" = "$other" ] || expect 0 k key remove "$s"
done
expect 1 k key remove "$own"
says "opened the repository now"
object=$(ls -d "$KEDGE_REPOSITORY"/keys/"$other"/*)
chmod u+w "$object"
printf rotten | dd of="$object" bs=1 seek=100 conv=notrunc status=none
expect 1 k key remove "$own"
says "the last full key slot"
equal "$(k key list --json | jq -r ".[] | select(.slot == \"$other\") | .state")" key-damaged "a key object that has rotted"
expect 0 k key list
says "folder keys/$other"
