# init, key and the environment: every option and variable does what it says.
. "$TOP/tests/e2e/lib.sh"
needs jq openssl
umask 077
head -c 64 /dev/urandom >key
echo "correct horse" >password
echo "another one" >second
noise() { truncate -s "$2" "$1"; random_at "$1" 0 "$2" "${3:-1}"; }
KEY=key

# --- init: sizes, label, what is printed --------------------------------------------------------------------------------
expect 0 k -r r1 init
says "Repository made at r1" "only this once"
equal "$(wc -l <out)" 1 "lines on stdout"
grep -Eq '^kedge-([0-9A-Z]{5}-){11}[0-9A-Z]{5}$' out || die "the recovery key: $(cat out)"
cp out recovery
expect 0 k -q -r r2 init --chunk-size 16K --pack-size 1M --label 'mine, "quoted"'
[ ! -s err ] || die "init -q says $(cat err)"
expect 0 k --json -r r3 init --chunk-size 4M
equal "$(field out .repository)" r3 "repository in the JSON"
field out .recovery_key >recovery3
[ ! -s err ] || die "init --json says $(cat err)"

(KEY=; expect 0 k --password-file recovery3 -r r3 list)
(KEY=; expect 12 k --password-file recovery -r r3 list; says "repository r3" "recovery key")
for c in 3K 2K 8M 0 x; do expect 2 k -r r4 init --chunk-size $c; done
for c in 512K 129M x; do expect 2 k -r r4 init --pack-size $c; done
[ ! -e r4 ] || die "a refused init made a folder"
expect 1 k -r r1 init
says "a repository exists already at r1"
mkdir full; echo x >full/x
expect 1 k -r full init
says "not empty"
equal "$(ls full)" x "what init left in a folder that is not empty"
expect 1 k -r password init
expect 10 k -r password list
says "not a folder"
expect 10 k -r full list
says "no repository at full"
expect 10 k -r nowhere list
says "kedge -r FOLDER init"
expect 2 k list
says "KEDGE_REPOSITORY"
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_PROFILE
expect 12 k -r s3://bucket list		# the storage has credentials of its own
says "no credentials"

# two chunks of 16 KiB, a pack of 1 MiB: seen in what is stored, and in how finely two points are compared
noise a.raw 3000000
cp a.raw b.raw
printf 'x' | dd of=b.raw bs=1 seek=1000000 conv=notrunc status=none
for r in r1:65536 r2:16384 r3:3000000; do
	for f in a b; do expect 0 k -q -r ${r%:*} backup --vm $f raw:$f.raw; done
	expect 0 k --json -r ${r%:*} diff a b
	equal "$(field out .disks[0].bytes)" ${r#*:} "bytes that one changed byte makes differ in ${r%:*}"
done
packs() { find $1/data -type f | wc -l; }
[ "$(packs r1)" -le 2 ] || die "$(packs r1) packs of 32 MiB for 3 MB"
[ "$(packs r2)" -ge 3 ] || die "$(packs r2) packs of 1 MiB for 3 MB"
expect 0 k -r r2 key list
prints 'mine, "quoted"' recovery "in use" keyfile
expect 0 k -r r1 --json key list
equal "$(field out '[.[] | .label] | sort | join(" ")')" "first recovery" labels

(KEY=; expect 0 k -v -r r5 init --password-file password; says "put config"; expect 0 k -r r5 --password-file password list)

# --- where the repository and the secret come from ----------------------------------------------------------------------
export KEDGE_REPOSITORY=r1 KEDGE_STATE_DIR=$PWD/state
expect 0 k list --json
equal "$(field out length)" 2 "KEDGE_REPOSITORY"
mkdir elsewhere
expect 10 k -r elsewhere list	# the option counts first
(cd elsewhere && KEDGE_REPOSITORY=../r1 exits 0 "$KEDGE" --key-file ../key list)
expect 0 k --repo "file:$PWD/r1" list
expect 0 k key add --label 'by passphrase' --new-password-file password
says "added key"
expect 0 k key add --new-password-file second --json
[ ! -s err ] || die "key add --json says $(cat err)"
slot=$(field out .slot)
[ ${#slot} = 16 ] || die "slot $slot"
expect 0 k key list
prints 'by passphrase' unnamed $slot
KEY=
expect 0 k --password-file password list
expect 0 env KEDGE_PASSWORD_FILE=password "$KEDGE" list
expect 0 env KEDGE_PASSWORD_COMMAND='echo "correct horse"' "$KEDGE" list
expect 12 env KEDGE_PASSWORD_COMMAND='echo wrong' "$KEDGE" list
says "repository r1: no key slot opens with this password"
expect 12 env KEDGE_PASSWORD_FILE=recovery3 "$KEDGE" list
expect 1 k --password-file nowhere list		# not "no repository"
says "password file nowhere: No such file"
lacks err init
expect 1 k --key-file nowhere list
says "key file nowhere: No such file"
expect 1 k --key-file a.raw list
says "more than 1048576 bytes"
head -c 1000 a.raw >strange
expect 12 k --key-file strange list
expect 1 k --key-file second list
says "it must have 32 to"
expect 2 setsid -w "$KEDGE" list
says "no passphrase given" "--password-file" "--key-file"
expect 2 setsid -w "$KEDGE" -r new init
[ ! -e new/config ] || die "init without a passphrase made a repository"
rm -rf new
sed 's/-..\(.\)/-\1A1/' recovery >typo
expect 12 k --password-file typo list
says "recovery key with a mistake"
expect 0 k --password-file recovery list

# --- state and cache: which folder ----------------------------------------------------------------------------------------
KEY=$PWD/key
run() { (unset KEDGE_STATE_DIR KEDGE_CACHE_DIR XDG_STATE_HOME XDG_CACHE_HOME; export HOME=$PWD/home; env "$@" "$KEDGE" --key-file key -q backup --vm b raw:b.raw); }
mkdir home; run A=b
[ -n "$(find home/.local/state/kedge -type f)" ] || die "no state under HOME"
run XDG_STATE_HOME=$PWD/xs XDG_CACHE_HOME=$PWD/xc
[ -n "$(find xs/kedge -type f)" ] || die "no state in XDG_STATE_HOME"
rm -rf home; mkdir home; run KEDGE_STATE_DIR=$PWD/ks KEDGE_CACHE_DIR=$PWD/kc XDG_STATE_HOME=$PWD/xs2 XDG_CACHE_HOME=$PWD/xc2
[ -n "$(find ks -type f)" ] || die "no state in KEDGE_STATE_DIR"
[ -z "$(ls -A home)" ] && [ ! -e xs2 ] && [ ! -e xc2 ] || die "another folder was used too"
expect 0 env KEDGE_CACHE_DIR=$PWD/kc2 KEDGE_STATE_DIR=$PWD/ks2 "$KEDGE" --key-file key doctor
prints "$PWD/kc2" "$PWD/ks2"

# --- key: each action takes what it takes -----------------------------------------------------------------------------------
expect 2 k key list --label x
expect 2 k key list --force
expect 2 k key remove first --new-key-file key
expect 2 k key add --force
expect 2 k key add x
expect 2 k key remove
expect 2 k key passwd --label x
expect 2 k key frob
expect 2 k key add --new-password-file second --new-key-file key
expect 2 setsid -w "$KEDGE" --key-file key key add
says "--new-password-file" "--new-key-file"
equal "$(k key list --json | jq length)" 4 "keys after all that"
expect 1 k key remove nothing
says "no key fits nothing" "key list"
expect 0 k key add --label same --new-password-file second
expect 0 k key add --label same --new-password-file second
expect 1 k key remove same
says "several keys fit same"
expect 1 k key remove "$(k key list --json | jq -r '.[] | select(.in_use) | .slot')"
says "--force"
expect 0 k key remove ${slot:0:8}
says "removed the key"
expect 0 k key list
lacks out $slot
equal "$(k key list --json | jq -r ".[] | select(.slot == \"$slot\") | .removed")" true "a removed key in the JSON"
# a key file as the new secret, and a changed passphrase
head -c 40 /dev/urandom >key2
expect 0 k key add --label file --new-key-file key2
expect 0 k --key-file key2 list
KEY=
expect 0 k --password-file password key passwd --new-key-file key2
says "new passphrase"
expect 12 k --password-file password list
# the last key that is not a recovery key goes only by --force; the recovery key still opens
expect 1 k -r r3 --password-file recovery3 key remove first
says "last full key" "--force"
expect 0 k -r r3 --password-file recovery3 key remove first --force
expect 12 k -r r3 --key-file key list
expect 0 k -r r3 --password-file recovery3 list
