# Wrong use and wrong keys end with the documented exit codes, say what to do, and change nothing.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img jq
truncate -s 4M a.raw
random_at a.raw 65536 100000 1
expect 10 k -r "$PWD/none" --password-file /dev/null list
says "no repository" "init"
mkdir empty
echo x > pw
expect 10 k -r "$PWD/empty" --password-file pw list
fresh_repo
expect 1 k init
says "exists"
echo "another word" > wrong
expect 12 k --password-file wrong list
says "key"
(unset KEDGE_PASSWORD_FILE; expect 2 setsid -w "$KEDGE" list; says "--password-file" "KEDGE_PASSWORD_COMMAND")
(unset KEDGE_PASSWORD_FILE; KEDGE_PASSWORD_COMMAND="cat password" k list)
expect 2 k backup
expect 2 k backup --no-such-option raw:a.raw
expect 2 k frobnicate
expect 1 k backup a.raw
says "raw:" 	# the line to type
echo "not an image at all" > text.qcow2
expect 1 k backup text.qcow2
says "raw:"
expect 1 k backup qcow2:text.qcow2
expect 1 k backup gone.qcow2
says "gone.qcow2"
expect 0 k backup --vm a raw:a.raw
expect 1 k restore b -o x.raw
expect 1 k restore a/snap:none -o x.raw
says "current"
[ ! -e x.raw ] || die "a failed restore left a target"
expect 0 k restore a -o x.raw
expect 1 k restore a -o x.raw
says "--force"
cmp x.raw a.raw
expect 0 k restore a -o x.raw --force
expect 2 k restore a
expect 2 k restore a -o y.raw --to d
expect 2 k restore a -o y.raw --compress
expect 2 k restore a -o y.qcow2 --compress --preallocation full
expect 1 k restore a -o nodir/y.raw
equal "$(k list --json | jq length)" 1 "backups after all this"
expect 1 k --json restore b -o x2.raw
equal "$(field out .error.exit)" 1 "exit in the JSON error"
# the recovery key opens it
expect 0 k --password-file recovery list
