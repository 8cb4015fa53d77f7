# Encrypted restores: what was encrypted comes back encrypted or not at all.  QEMU opens it with the passphrase, finds the content and
# no damage; with another it doesn't; snapshots and machine memory are encrypted too; the plain bytes are nowhere in the file.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img qemu-io jq cryptsetup
quick_repo
umask 077
printf 'new pass' >pw
printf wrong >bad
echo 'new pass' >line
fast="--iter-time 100"

truncate -s 6M a.raw
random_at a.raw 0 700000 1
random_at a.raw 3000000 900000 2
random_at a.raw 6291000 456 3	# the last sector
random_at a.raw 2097152 100 4	# a cluster that is almost zero
printf 'THE SECRET OF THE GUEST' | dd of=a.raw bs=1 seek=4500000 conv=notrunc status=none
want=$(digest <a.raw)
truncate -s $((1048576 + 700)) odd.raw
random_at odd.raw 1048576 700 5

opts() { echo "driver=qcow2,encrypt.format=luks,encrypt.key-secret=s,file.filename=$1"; }
qemu_opens() {	# qemu_opens IMAGE RAW [KEY]
	qemu-img compare --object secret,id=s,file="${3:-pw}" --image-opts "$(opts "$1")" "driver=raw,file.filename=$2" >cmp 2>&1 ||
		die "$1: $(cat cmp)"
	qemu-img check --object secret,id=s,file="${3:-pw}" --image-opts "$(opts "$1")" >check 2>&1 || die "$1: $(cat check)"
	has check "No errors were found"
}
reads() { equal "$("$KEDGE" dump --no-progress --image-secret "${3:-pw}" "$1" | digest)" "$(digest <"$2")" "$1, read again"; }

# --- an image that was encrypted ---------------------------------------------------------------------------------------------
for _ in $(seq 30); do
	qemu-img create -q -f qcow2 --object secret,id=s,file=bad -o encrypt.format=luks,encrypt.iter-time=10,encrypt.key-secret=s src.qcow2 6M \
		2>/dev/null && break
done
qemu-img convert -n --object secret,id=s,file=bad -f raw --target-image-opts a.raw "$(opts src.qcow2)"
expect 0 k -q backup --vm v --image-secret bad src.qcow2
expect 1 k restore v -o no.qcow2
says "was encrypted" "--image-secret FILE" "--plaintext"
expect 0 k restore v -o e.qcow2 --image-secret pw $fast
says "qcow2 (LUKS)"
qemu_opens e.qcow2 a.raw
reads e.qcow2 a.raw
"$KEDGE" info e.qcow2 >info
has info "luks, aes-256-xts-plain64, sha256, 1 of 8 key slots"
expect 12 "$KEDGE" dump --sink null --image-secret bad e.qcow2
qemu-io --object secret,id=s,file=bad -c 'read 0 512' --image-opts "$(opts e.qcow2)" >out 2>&1 && die "a wrong passphrase opens it"
has out "Invalid password"
! grep -qa "SECRET OF THE GUEST" e.qcow2 || die "plain bytes in an encrypted image"
# QEMU writes to it, and we read that
qemu-io --object secret,id=s,file=pw -c 'write -P 7 1000000 70000' --image-opts "$(opts e.qcow2)" >/dev/null
cp a.raw b.raw
head -c 70000 /dev/zero | tr '\0' '\7' | dd of=b.raw bs=1000 seek=1000 conv=notrunc status=none
reads e.qcow2 b.raw
qemu_opens e.qcow2 b.raw
# QEMU makes it larger: nothing but zeros comes up behind the old end
expect 0 k -q backup --vm odd raw:odd.raw
expect 0 k restore odd -o o.qcow2 --encrypt luks --image-secret pw $fast
qemu-img resize --object secret,id=s,file=pw --image-opts "$(opts o.qcow2)" 3M >/dev/null 2>&1
truncate -s 3M odd.raw
qemu_opens o.qcow2 odd.raw

# --- the header by the program that LUKS comes from ---------------------------------------------------------------------------
at=$(grep -m1 -abo 'LUKS' e.qcow2 | sed -n '1s/:.*//p')
part() { dd if="$1" bs=64K iflag=skip_bytes,count_bytes skip=$((at + $2)) count="$3" status=none; }
part e.qcow2 0 2068480 >luks
truncate -s 4M luks
cryptsetup luksDump luks >dump
has dump "aes" "xts-plain64" "sha256" "4040" "Key Slot 0: ENABLED" "Key Slot 7: DISABLED"
cryptsetup open --test-passphrase --key-file pw luks || die "cryptsetup doesn't open it"
! cryptsetup open --test-passphrase --key-file bad luks 2>/dev/null || die "cryptsetup opens it with another passphrase"

# --- keys, salts and ids are new each time -------------------------------------------------------------------------------------
expect 0 k restore v -o e1.qcow2 --image-secret pw $fast
expect 0 k restore v -o e2.qcow2 --image-secret pw $fast
same_part() { cmp -s <(part e1.qcow2 $1 $2) <(part e2.qcow2 $1 $2); }
for f in "112 20" "132 32" "168 36" "216 32" "4096 512"; do ! same_part $f || die "bytes $f of two headers are the same"; done
same_part 0 112 || die "the two headers aren't of one kind"
[ $((16#$(part e1.qcow2 212 4 | od -An -tx1 | tr -d ' '))) -ge 100000 ] ||
	die "too few iterations"

# --- cluster sizes, versions, another size of the disk --------------------------------------------------------------------------
for o in "--cluster-size 512" "--cluster-size 2M --threads 1" "--subformat v2"; do
	expect 0 k restore v -o c.qcow2 --force --image-secret pw $fast $o
	qemu_opens c.qcow2 a.raw
	reads c.qcow2 a.raw
done
expect 0 k restore v -o g.qcow2 --image-secret pw $fast --size 9M
cp a.raw g.raw
truncate -s 9M g.raw
qemu_opens g.qcow2 g.raw

# --- snapshots -------------------------------------------------------------------------------------------------------------------
qemu-img convert -f raw -O qcow2 a.raw s.qcow2
qemu-img snapshot -c one s.qcow2
qemu-io -f qcow2 -c 'write -P 9 1M 1M' -c 'write -P 3 5000000 100' s.qcow2 >/dev/null
qemu-img convert -f qcow2 -O raw s.qcow2 s.raw
expect 0 k -q backup --vm s s.qcow2
for o in "" "--cluster-size 2M"; do
	expect 0 k restore s -o t.qcow2 --force --with-snapshots --encrypt luks --image-secret pw $fast $o
	qemu_opens t.qcow2 s.raw
	equal "$("$KEDGE" dump --no-progress --image-secret pw --state snap:one t.qcow2 | digest)" "$want" "the snapshot"
	qemu-img convert --object secret,id=s,file=pw -l snapshot.name=one --image-opts "$(opts t.qcow2)" -O raw t.raw
	cmp t.raw a.raw
done

# --- several disks: each its own, one for all, and those that were not encrypted -----------------------------------------------------
printf two >pw2
expect 0 k -q backup --vm two --image-secret bad a=src.qcow2 b=raw:b.raw
expect 0 k restore --json two --to two --image-secret pw -O qcow2 $fast
equal "$(field out '[.disks[] | .encryption // "none"] | join(" ")')" "luks none" "json"
qemu_opens two/a.qcow2 a.raw
qemu-img compare -q -f qcow2 -F raw two/b.qcow2 b.raw
expect 0 k restore two --to both --image-secret pw --image-secret b=pw2 -O qcow2 $fast
qemu_opens both/a.qcow2 a.raw
qemu_opens both/b.qcow2 b.raw pw2

# --- refused -------------------------------------------------------------------------------------------------------------------------
expect 2 k restore v -o no.qcow2 --image-secret pw --plaintext
says contradicts
expect 2 k restore s -o no.qcow2 --image-secret pw
says "--encrypt luks"
expect 2 k restore s -o no.qcow2 --encrypt luks
expect 2 k restore s -o no.qcow2 --encrypt aes --image-secret pw
expect 2 k restore v -o no.raw --image-secret pw
says "-O qcow2" "--plaintext"
expect 2 k restore s -o no.vdi --image-secret pw --encrypt luks
for o in --compress "--compression-type zstd" "--preallocation full" "--seed-ids x"; do
	expect 2 k restore v -o no.qcow2 --image-secret pw $o
	says "${o%% *}"
done
expect 2 k restore v -o no.qcow2 --image-secret pw --image-secret bad
expect 2 k restore two --to no --image-secret pw --image-secret c=pw
says "c=" "no disk"
expect 1 k restore v -o no.qcow2 --image-secret line
says newline "printf %s"
expect 1 k restore v -o no.qcow2 --image-secret missing
for f in no*; do [ ! -e "$f" ] || die "a refused restore made $f"; done
