# The two lines of shell in docs/format.md verify a repository with neither kedge nor a key: run as they stand there, they
# name each object in which a byte has changed, and nothing else.
. "$TOP/tests/e2e/lib.sh"
quick_repo --pack-size 1M --chunk-size 4K

recipe=$(sed -n '/^    cd REPOSITORY$/,/^$/p' "$TOP/docs/format.md")
equal "$(grep -c . <<<"$recipe")" 2 "lines of the recipe in docs/format.md"
grep -qF "$(sed -n 's/^    \(find .*\)/\1/p' <<<"$recipe")" "$TOP/docs/kedge-repository.5.scd" || die "the manual page has another recipe"
check_sums() { sh -c "${recipe/REPOSITORY/repo}" >out 2>err; }

random_at disk.raw 0 3000000 1
printf 'attached' >note.txt
for night in 1 2; do
	random_at disk.raw $((night * 100000)) 50000 $((night + 1))
	expect 0 k backup --vm a raw:disk.raw --attach note.txt
done
: >repo/data/stray		# no object: its name is none
[ "$(find repo/data -type f | wc -l)" -ge 4 ] || die "too few packs"
check_sums || die "the recipe fails on a sound repository: $(cat out err)"
[ ! -s out ] || die "it speaks of a sound repository: $(cat out)"

# One bit of one byte, anywhere, in an object of each kind.
flip() { printf "$(printf '\\%03o' $(($(dd if="$1" bs=1 skip="$2" count=1 status=none | od -An -tu1) ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none; }
number=0
for kind in data nodes index manifests session end keys slots; do
	object=$(find repo/$kind -type f ! -name stray | sort | head -1)
	size=$(stat -c %s "$object")
	number=$((number + 1))
	flip "$object" $((size * number / 9))
	! check_sums || die "a flipped byte of $object is not found"
	equal "$(cat out)" "${object#repo/}: FAILED" "what is found in $kind"
	flip "$object" $((size * number / 9))
done
check_sums || die "not as it was: $(cat out err)"
