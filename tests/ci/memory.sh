# Anonymous memory stays below 256 MiB (less with --memory), the same for a 1 TiB disk as for 10 GiB, at 1 to 8 threads (promise 6).
. "$TOP/tests/e2e/lib.sh"
needs jq openssl
fresh_repo
make_disk() {	# NAME SIZE SEED: 600 MiB of data spread over the whole disk
	truncate -s "$2" "$1"
	local size i
	size=$(stat -c %s "$1")
	for i in $(seq 0 11); do random_at "$1" $((size / 12 * i / 65536 * 65536)) 50000000 $(($3 + i)); done
}
make_disk small.raw 10G 1
make_disk big.raw 1T 100
limit=$((256 * 1024))
for t in 1 2 4 8; do
	for d in small big; do
		n=$(peak_anon "$KEDGE" backup --vm $d-$t raw:$d.raw --threads $t)
		echo "backup $d --threads $t: $n KiB"
		[ "$n" -le $limit ] || die "backup of $d.raw with $t threads took $n KiB"
	done
done
for d in small big; do
	for f in raw qcow2; do
		n=$(peak_anon "$KEDGE" restore $d-1 -o $d.out -O $f --force --threads 4)
		echo "restore $d to $f: $n KiB"
		[ "$n" -le $limit ] || die "restore of $d to $f took $n KiB"
	done
done
n=$(peak_anon "$KEDGE" check --read-data)
echo "check --read-data: $n KiB"
[ "$n" -le $limit ] || die "check took $n KiB"
n=$(peak_anon "$KEDGE" backup --vm tight raw:small.raw --memory 96M --threads 4)
echo "backup --memory 96M: $n KiB"
[ "$n" -le $((96 * 1024)) ] || die "backup with --memory 96M took $n KiB"
