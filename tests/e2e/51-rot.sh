# What rot once got past: packs put in each other's place, a trailer, lost index runs, key objects and manifests.
. "$TOP/tests/e2e/lib.sh"
needs jq
quick_repo --chunk-size 4K --pack-size 1M
truncate -s 8M a.raw; random_at a.raw 0 2500000 1
expect 0 k backup --vm a raw:a.raw
expect 0 k check --read-data

# named OBJECT [WHAT]: the last check --json has a finding of damage about it.
named() {
	jq -e --arg o "$1" --arg w "${2:-}" '.findings[] | select(.severity == "damage" and (.object // "" | startswith($o)) and
		($w == "" or .what == $w))' out >/dev/null || die "no finding ${2:-} about $1: $(cat out)"
}
damaged() { expect 6 k check --read-data --json; }	# damaged: and says so, in a bounded time
whole() { equal "$(point_digest a)" "$(digest <a.raw)" "$1"; }

# Two packs of one session in each other's place: the directory of one reaches past the end of the other.
(cd repo && ls data/*/*/*) >packs
one=$(sed -n 1p packs) two=$(sed -n 2p packs)
mv "repo/$one" x; mv "repo/$two" "repo/$one"; mv x "repo/$two"
damaged
named "$one"; named "$two"
expect 4 k cat a
mv "repo/$one" x; mv "repo/$two" "repo/$one"; mv x "repo/$two"

# A pack without its trailer, and with a bit of it flipped: an index run knows where the directory is.
cp "repo/$one" x
chmod u+w "repo/$one"
truncate -s -20 "repo/$one"
damaged
named "$one"
equal "$(field out .points_damaged)" 0 "points damaged by a lost trailer"
whole "without a trailer"
for at in 40 39 10; do	# version, kind, salt
	cp x "repo/$one"
	byte=$(tail -c $at x | head -c 1 | od -An -tu1)	# the salt's may be anything: another one in any case
	printf "\\x$(printf %02x $((byte ^ 3)))" | dd of="repo/$one" bs=1 seek=$(($(stat -c %s x) - at)) conv=notrunc status=none
	expect 6 k check --json
	named "$one" pack-altered
	whole "with a damaged trailer"
done
mv -f x "repo/$one"

# An index run that is gone: its packs' directories serve, and it is missed.
mv repo/index index.gone
damaged
named data/ run-missing
equal "$(field out .points_damaged)" 0 "points damaged by a lost index run"
whole "without index runs"
mv index.gone repo/index

# A manifest that is damaged, or gone: its VM is known by its session.
m=$(cd repo && ls manifests/*/*/*)
mv "repo/$m" x
KEDGE_STATE_DIR=$PWD/fresh expect 6 k check --json
named "${m%/*}" backup-missing
equal "$(field out '.findings[0].vm')" a "the VM of a lost manifest"
(cat x; echo) >"repo/$m"
damaged
named "$m" manifest-unusable
equal "$(field out '.findings[0].vm')" a "the VM of a damaged manifest"
mv -f x "repo/$m"

# Objects that no backup needs are looked at, too.
own=$(k key list --json | jq -r '.[] | select(.in_use).slot')
for o in session end keys slots; do
	f=$(cd repo && find "$o" -type f | { [ $o = end ] || [ $o = session ] && cat || grep -v "$own"; } | head -1)
	cp "repo/$f" x
	chmod u+w "repo/$f"; echo >>"repo/$f"
	expect 6 k check --json
	named "$f" object-damaged
	mv -f x "repo/$f"
done

# A lost recovery key is missed; a lost config says what to do.
spare=$(k key list --json | jq -r '.[] | select(.label == "recovery").slot')
mv "repo/keys/$spare" x
expect 6 k check --json
named "keys/$spare" key-missing
mv x "repo/keys/$spare"
mv repo/config x
expect 10 k check
says "bring it back from a copy"
lacks err "init makes one"
mv x repo/config
expect 0 k check --read-data
