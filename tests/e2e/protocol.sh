# What others post while kedge runs, or has not run yet, is obeyed: condemned and doomed packs are not built upon, trees
# are not reused under an open epoch, an evicted run reports failure (docs/format.md, section 10).  The independent writer is the others.
. "$TOP/tests/e2e/lib.sh"
PYTHON=${PYTHON:-/usr/bin/python3}
needs jq qemu-img qemu-io
"$PYTHON" -c 'import nacl, zstandard' 2>/dev/null || skip "python3-nacl and python3-zstandard (make deps-test) are needed"
export PYTHONDONTWRITEBYTECODE=1
umask 077
quick_repo
post() { "$PYTHON" "$TOP/tests/reader/kedge_writer.py" "$1" repo --key-file key "${@:2}"; }
reader() { "$PYTHON" "$TOP/tests/reader/kedge_reader.py" "$1" repo --key-file key "${@:2}"; }
newest() { find "repo/$1" -type f -printf '%T@ %P\n' | sort -n | tail -1 | sed "s|.* |$1/|"; }	# newest object of a prefix
packs() { (cd repo && find data nodes -type f | sort); }
new_bytes() { field out .bytes_new; }

truncate -s 6M a.raw
random_at a.raw 65536 3000000 1
qemu-img convert -f raw -O qcow2 a.raw a.qcow2
qemu-img snapshot -c s1 a.qcow2
sleep 2.1		# a chain whose files changed just now is not trusted
expect 0 k backup a.qcow2
first=$(newest manifests)
all=$(packs)
expect 0 k backup a.qcow2 --audit off --json
equal "$(new_bytes)" 0 "new bytes of an unchanged night"
equal "$(field out '.states[] | select(.name == "s1") | .disks[0].how')" same "how s1 was read"

# An epoch condemns what the first nights stored: it is stored again, whatever the trees say.
collector=$(post collector)
session=$(basename "$(dirname "$collector")")
epoch=$(post epoch --session "$session" --condemn $all)
expect 0 k backup a.qcow2 --audit off --json
[ "$(new_bytes)" -ge 3000000 ] || die "condemned packs were built upon: $(new_bytes) new bytes"
third=$(newest manifests)
equal "$(point_digest "a@$(field out .id)")" "$(digest <a.raw)" "what was stored again"
# An unchanged night finds these copies.
expect 0 k backup a.qcow2 --audit off --json
equal "$(new_bytes)" 0 "new bytes under an open epoch"
# The collector goes on: sweeps, forgets, deletes.
post sweep --session "$session" --epoch "$epoch" --doom $all >sweep
second=$(cd repo && ls -t manifests/*/*/* | sed -n 3p)
for m in "$first" "$second"; do post tombstone --manifest "$m" >>stones; done
(cd repo && rm $all "$epoch")
expect 0 k list --json
equal "$(field out length)" 2 "backups that are left"
for n in 0 1; do
	equal "$(point_digest "a@$(k list --json 2>/dev/null | jq -r ".[$n].id")/snap:s1")" "$(digest <a.raw)" "point $n after the sweep"
done
reader verify >/dev/null

# Doomed by a list, and still there: as good as gone.
truncate -s 2M b.raw
random_at b.raw 0 1000000 2
expect 0 k backup --vm b raw:b.raw
post doomed --doom "$(newest data)" >/dev/null
expect 4 k cat b
touch b.raw		# so that it is read again
expect 0 k backup --vm b raw:b.raw --json
[ "$(new_bytes)" -ge 1000000 ] || die "a doomed pack was built upon"
equal "$(point_digest b)" "$(digest <b.raw)" "b, stored again"

# Forgotten, then undone; a tombstone that another key signed.
b=$(newest manifests)
stone=$(post tombstone --manifest "$b")
expect 0 k list --json
equal "$(field out "[.[] | select(.id == \"$(basename "$b")\")] | length")" 0 "forgotten backups listed"
post restore-record --manifest "$b" --tombstone "$stone" >/dev/null
expect 0 k list --json
equal "$(field out "[.[] | select(.id == \"$(basename "$b")\")] | length")" 1 "undeleted backups listed"
post tombstone --manifest "$b" --forge signature >/dev/null
expect 0 k list --json
says "its signature does not verify"
equal "$(field out "[.[] | select(.id == \"$(basename "$b")\")] | length")" 1 "backups with a forged tombstone listed"

# Evicted while it runs: exit 1, nothing listed, and the next run uses what was stored.
truncate -s 200M c.raw
random_at c.raw 0 100000000 3
before=$(find repo/session -type f | wc -l)
k backup --vm c raw:c.raw >out 2>err &
pid=$!
for i in $(seq 600); do
	[ "$(find repo/session -type f | wc -l)" = "$before" ] || break
	sleep 0.02
done
kill -STOP $pid || die "the backup was over before it could be evicted"
post eviction --evict "$(newest session)" >/dev/null
kill -CONT $pid
code=0; wait $pid || code=$?
equal $code 1 "exit of an evicted run"
says "evicted" "run it again"
stored=$(du -sb repo/data | cut -f1)
expect 0 k list --json c
equal "$(field out length)" 0 "backups of an evicted run"
expect 0 k backup --vm c raw:c.raw --json
[ "$(du -sb repo/data | cut -f1)" -le $((stored + 110000000)) ] || die "more was stored than there is"
equal "$(point_digest c)" "$(digest <c.raw)" "c after the second run"
# What an eviction leaves undecided is read but not built upon, until a sweep accepts it.
c=$(newest manifests)
eviction=$(post eviction --evict "$c")
expect 0 k list c
prints pending
equal "$(point_digest c)" "$(digest <c.raw)" "a pending backup"
epoch=$(post epoch --session "$session")
post sweep --session "$session" --epoch "$epoch" --eviction "$eviction" --accept "$c" >/dev/null
expect 0 k list --json c
equal "$(field out '.[0].pending')" false "pending after a sweep accepted it"
post sweep --session "$session" --epoch "$epoch" --eviction "$eviction" >/dev/null
expect 0 k list --json c
equal "$(field out length)" 0 "backups that a sweep rejected"

# Put-only slots: what an untrusted one stored is read but not built upon, a trusted one's is.
head -c 64 /dev/urandom >trusted.key
head -c 64 /dev/urandom >untrusted.key
post add-slot --role put --new-key-file trusted.key >/dev/null
post add-slot --role put --new-key-file untrusted.key --untrusted --vms guest >/dev/null
n=3
for key in untrusted trusted; do
	n=$((n + 1))
	truncate -s 2M $key.raw
	random_at $key.raw 0 1000000 $n
	"$PYTHON" "$TOP/tests/reader/kedge_writer.py" backup repo --key-file $key.key --vm guest --disk disk=$key.raw >/dev/null
	equal "$(point_digest guest)" "$(digest <$key.raw)" "what the $key slot wrote"
	expect 0 k backup --vm own-$key raw:$key.raw --json
	case $key in
	untrusted) [ "$(new_bytes)" -ge 1000000 ] || die "chunks of an untrusted slot were built upon" ;;
	trusted) equal "$(new_bytes)" 0 "new bytes of what a trusted slot stored" ;;
	esac
done
stored() { find repo/data repo/nodes repo/index repo/manifests -type f | wc -l; }
before=$(stored)
(
	unset KEDGE_PASSWORD_FILE
	expect 12 k --key-file untrusted.key backup --vm guest raw:b.raw
	says "a put key"
	expect 12 k --key-file untrusted.key list
)
equal "$(stored)" "$before" "objects after runs that a put key can't make"
! reader verify >verified 2>&1
[ "$(grep -c '^kedge_reader' verified)" = 1 ] || die "the independent reader complains: $(cat verified)"	# of the forged tombstone
