# lib.sh - S3 servers for scenarios: the fixture, Ceph RGW, Swift.  Sourced after tests/e2e/lib.sh; what was started ends with
# the scenario.
S3=$TOP/tests/s3
unset ${!AWS_@} http_proxy https_proxy all_proxy HTTPS_PROXY ALL_PROXY
export AWS_EC2_METADATA_DISABLED=true AWS_SHARED_CREDENTIALS_FILE=/nonexistent AWS_CONFIG_FILE=/nonexistent
S3_STOP=()

s3_stop_all() {
	local s
	for s in "${S3_STOP[@]}"; do eval "$s" || true; done
	S3_STOP=()
}
trap s3_stop_all EXIT

# s3_fixture [--tls CERT KEY | --ipv6]: sets S3_PORT, S3_URL (a bucket), and the keys that kedge finds.
s3_fixture() {
	local fd pid
	rm -f fixture.in fixture.port
	mkfifo fixture.in
	python3 "$S3/fixture.py" "$@" <fixture.in >fixture.port 2>fixture.err &
	pid=$!
	exec {fd}>fixture.in	# closed with this shell: it ends by itself, too
	S3_STOP+=("kill $pid 2>/dev/null; exec $fd>&-")
	for _ in $(seq 200); do [ -s fixture.port ] && break; sleep 0.05; done
	S3_PORT=$(cat fixture.port)
	[ -n "$S3_PORT" ] || die "the fixture does not start: $(cat fixture.err)"
	S3_URL=s3:http://127.0.0.1:$S3_PORT/bucket
	[ "${1:-}" != --tls ] || S3_URL=s3:https://localhost:$S3_PORT/bucket
	[ "${1:-}" != --ipv6 ] || S3_URL=s3:http://[::1]:$S3_PORT/bucket
	export AWS_ACCESS_KEY_ID=FIXTUREKEY AWS_SECRET_ACCESS_KEY=fixture/secret+key
}
# s3_tell WHAT [JSON]: words with the fixture (see there).
s3_tell() {
	python3 -c 'import sys, urllib.request, ssl
u = sys.argv[1].replace("s3:", "").rsplit("/", 1)[0] + "/_fixture/" + sys.argv[2]
print(urllib.request.urlopen(u, sys.argv[3].encode(), context=ssl._create_unverified_context()).read().decode())' "$S3_URL" "$@" "${2-}"
}
# How many requests the fixture has seen since it was told to forget, that contain TEXT.
s3_count() { s3_tell peek | tr ',' '\n' | grep -cF -- "$1" || true; }

# s3_server ceph|swift PORT [BUCKET]: starts it in ./NAME, makes the bucket, sets S3_URL and the keys.
s3_server() {
	local start=$S3/start-ceph-rgw.sh stop=$S3/stop-ceph-rgw.sh bucket=${3:-kedge} lines
	[ "$1" = ceph ] || { start=$S3/start-swift-s3.sh stop=$S3/stop-swift-s3.sh; }
	lines=$("$start" "$PWD/$1" "$2") || die "$1 does not start"
	S3_STOP+=("'$stop' '$PWD/$1' --kill")
	eval "$(sed 's/^/export /' <<<"$lines")"
	"$S3/request.py" PUT "/$bucket" >/dev/null 2>&1 || die "$1: the bucket is not made"
	S3_URL=s3:$S3_ENDPOINT/$bucket
	export AWS_ACCESS_KEY_ID=$S3_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$S3_SECRET_KEY
}
