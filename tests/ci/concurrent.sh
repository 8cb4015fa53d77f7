# Two, four and eight backups at once into one repository, with everything else beside them (concurrent.py); seeded.  ROUNDS and SEED
# change how much (tests/long/concurrent.sh).  Then two of a kind for one place: inits, restores to one file.
. "$TOP/tests/e2e/lib.sh"
needs qemu-img
SEED=${SEED:-1} ROUNDS=${ROUNDS:-3}
case $BUILD in */tsan) export THREADS=4 SLOWER=15 ;; esac
mkdir stress
( cd stress && /usr/bin/python3 "$TOP/tests/ci/concurrent.py" "$SEED" "$ROUNDS" 2 4 8 ) || die "seed $SEED"
rm -rf stress

# together N COMMAND...: N of it at once; how many succeeded to the variable won, which was the last of them
# to winner, their exit codes to codes.
together() {
	local n=$1 i pids=()
	shift
	for i in $(seq "$n"); do
		"$@" >"out$i" 2>"err$i" &
		pids+=($!)
	done
	won=0 codes=
	for i in $(seq "$n"); do
		local code=0
		wait "${pids[i - 1]}" || code=$?
		codes="$codes $code"
		[ $code != 0 ] || won=$((won + 1)) winner=$i
	done
}

quick_repo
truncate -s 9M disk.raw
random_at disk.raw 1000000 3000000 4
expect 0 k -q backup --vm vm raw:disk.raw
for round in 1 2 3; do
	# One name, four restores: the first that is done has it, and the others overwrite nothing.
	together 4 k restore vm -o target.raw -q
	[ $won = 1 ] || die "$won of 4 restores to one new file succeeded:$codes: $(cat err?)"
	cmp target.raw disk.raw
	together 4 k restore vm -o target.raw -q --force
	[ $won = 4 ] || die "$won of 4 restores over one file succeeded:$codes: $(cat err?)"
	cmp target.raw disk.raw
	rm target.raw
	[ -z "$(find . -name '.kedge-*')" ] || die "left behind: $(find . -name '.kedge-*')"
	# One folder, four repositories: one, whole, and its maker is told so.
	head -c 64 /dev/urandom >other && chmod 600 other
	together 4 "$KEDGE" -r "$PWD/new" --key-file other init -q
	[ $won = 1 ] || die "$won of 4 inits in one folder succeeded:$codes: $(cat err?)"
	KEDGE_PASSWORD_FILE=out$winner expect 0 "$KEDGE" -r "$PWD/new" -q list	# its recovery key
	expect 0 "$KEDGE" -r "$PWD/new" --key-file other -q backup --vm vm raw:disk.raw
	expect 0 "$KEDGE" -r "$PWD/new" --key-file other -q check --read-data
	[ ! -s err ] || die "check of a repository made by four: $(cat err)"
	rm -rf new
done
