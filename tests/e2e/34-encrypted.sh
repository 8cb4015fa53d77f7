# Encrypted images: LUKS in several kinds and QEMU's AES, by qemu-img; their chains and snapshots; what is refused.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq
quick_repo
umask 077
printf 'pass one' >pw
printf two >pw2
printf wrong >bad
echo 'pass one' >line	# with a newline

truncate -s 6M a.raw
random_at a.raw 0 700000 1
random_at a.raw 3000000 900000 2
want=$(digest <a.raw)

# enc FILE KEY FORMAT OPTIONS: a.raw encrypted.  QEMU measures how fast it is, which can fail on a busy machine.
enc() {
	for _ in $(seq 30); do
		qemu-img create -q -f "$3" --object secret,id=s,file="$2" -o "$4,encrypt.key-secret=s" "$1" 6M 2>qemu.err && break
		sleep 0.2
	done
	qemu-img convert -n --object secret,id=s,file="$2" -f raw --target-image-opts a.raw \
		"driver=$3,encrypt.key-secret=s,file.filename=$1" || die "qemu-img: $1: $(cat qemu.err)"
}
luks=encrypt.format=luks,encrypt.iter-time=100
enc xts.qcow2 pw qcow2 $luks
enc cbc.qcow2 pw qcow2 $luks,encrypt.cipher-alg=aes-256,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256,encrypt.hash-alg=sha1,cluster_size=512
enc ser.qcow2 pw qcow2 $luks,encrypt.cipher-alg=serpent-256,encrypt.hash-alg=sha512,extended_l2=on
enc two.qcow2 pw qcow2 $luks,encrypt.cipher-alg=twofish-128,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=plain64
enc aes.qcow2 pw qcow2 encrypt.format=aes
enc aes.qcow pw qcow encrypt.format=aes
for i in xts.qcow2 cbc.qcow2 ser.qcow2 two.qcow2 aes.qcow2 aes.qcow; do
	equal "$("$KEDGE" dump --no-progress --image-secret pw $i | digest)" "$want" "$i"
done
equal "$("$KEDGE" dump --no-progress --image-secret line xts.qcow2 | digest)" "$want" "a password with a newline"
equal "$("$KEDGE" dump --no-progress --image-secret bad --image-secret pw xts.qcow2 | digest)" "$want" "the second of two"
equal "$("$KEDGE" dump --no-progress --image-secret bad --image-secret xts.qcow2=pw xts.qcow2 | digest)" "$want" "one by name"
equal "$("$KEDGE" dump --no-progress --image-secret <(printf 'pass one') xts.qcow2 | digest)" "$want" "from a pipe"

# --- without a secret, with a wrong one ---------------------------------------------------------------------------------
expect 0 "$KEDGE" info xts.qcow2
prints "luks, aes-256-xts-plain64, sha256, 1 of 8 key slots"
equal "$("$KEDGE" info --json aes.qcow | jq -r .encryption)" aes "info"
expect 0 "$KEDGE" map xts.qcow2
expect 0 "$KEDGE" info --chain xts.qcow2
expect 1 "$KEDGE" dump --sink null xts.qcow2
says "encrypted with LUKS, and no secret was given" "--image-secret FILE"
expect 1 k backup --vm v aes.qcow
says "encrypted with AES"
expect 12 "$KEDGE" dump --sink null --image-secret bad xts.qcow2
says "doesn't open any of its 1 key slots"
expect 1 "$KEDGE" dump --sink null --image-secret missing xts.qcow2
expect 1 "$KEDGE" dump --sink null --image-secret line aes.qcow2
says "ends with a newline"
expect 1 "$KEDGE" dump --sink null --image-secret pw --image-secret pw2 aes.qcow2
says "which of 2 secrets"
cp xts.qcow2 slow.qcow2		# a key slot that takes hours
at=$(grep -abo 'LUKS' slow.qcow2 | head -1 | cut -d: -f1)
printf '\377\377\377\377' | dd of=slow.qcow2 bs=1 seek=$((at + 212)) conv=notrunc status=none
expect 1 "$KEDGE" dump --sink null --image-secret pw slow.qcow2
says "4294967295 iterations"

# --- backup and restore -------------------------------------------------------------------------------------------------
expect 0 k backup --vm v --image-secret pw xts.qcow2
equal "$(point_digest v)" "$want" "what was backed up"
expect 1 k restore v -o out.qcow2
says "was encrypted" "--plaintext"
[ ! -e out.qcow2 ] || die "a refused restore made a file"
expect 0 k restore v -o out.qcow2 --plaintext
qemu-img compare -q -f qcow2 -F raw out.qcow2 a.raw
enc b.qcow2 pw2 qcow2 $luks
expect 0 k backup --vm both --image-secret a=pw --image-secret b=pw2 a=aes.qcow2 b=b.qcow2
expect 0 k restore both --to both --plaintext -O raw
cmp both/a.raw a.raw
cmp both/b.raw a.raw

# --- a snapshot inside, a chain of encrypted layers, each with its own key ------------------------------------------------
qemu-img snapshot -c first --object secret,id=s,file=pw --image-opts driver=qcow2,encrypt.key-secret=s,file.filename=xts.qcow2 2>/dev/null ||
	qemu-img snapshot -c first xts.qcow2
qemu-io --object secret,id=s,file=pw -c 'write -P 9 1M 1M' --image-opts driver=qcow2,encrypt.key-secret=s,file.filename=xts.qcow2 >/dev/null
equal "$("$KEDGE" dump --no-progress --image-secret pw --state snap:first xts.qcow2 | digest)" "$want" "the snapshot"
head -c 1M /dev/zero | tr '\0' '\11' | dd of=a.raw bs=1M seek=1 conv=notrunc status=none
want=$(digest <a.raw)
equal "$("$KEDGE" dump --no-progress --image-secret pw xts.qcow2 | digest)" "$want" "the current state"
for _ in $(seq 30); do
	qemu-img create -q -f qcow2 -u -b xts.qcow2 -F qcow2 --object secret,id=s,file=pw2 -o $luks,encrypt.key-secret=s top.qcow2 6M && break
	sleep 0.2
done
equal "$("$KEDGE" dump --no-progress --image-secret xts.qcow2=pw --image-secret top.qcow2=pw2 top.qcow2 | digest)" "$want" "a chain"
equal "$("$KEDGE" dump --no-progress --image-secret pw --image-secret pw2 top.qcow2 | digest)" "$want" "a chain, keys tried"
expect 12 "$KEDGE" dump --sink null --image-secret pw2 top.qcow2
says "xts.qcow2"
