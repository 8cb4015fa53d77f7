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
