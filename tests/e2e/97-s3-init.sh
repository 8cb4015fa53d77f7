# The doctor's word on conditional puts, and an init that was killed, on servers of three kinds.
. "$TOP/tests/e2e/lib.sh"
. "$TOP/tests/s3/lib.sh"
needs python3 jq
s3_fixture
( umask 077; head -c 64 /dev/urandom >key )
KEY=$PWD/key
export KEDGE_STATE_DIR=$PWD/state KEDGE_CACHE_DIR=$PWD/cache

# cut_short PREFIX: an init whose config never arrives, with an object of the prefix itself as consoles make it
cut_short() {
	s3_tell rules '[{"match": "PUT .*/config", "times": 99, "status": 403, "code": "AccessDenied"}]' >/dev/null
	expect 12 k -q -r "$S3_URL/$1" init
	s3_tell rules '[]' >/dev/null
	expect 10 k -r "$S3_URL/$1" list
}

cut_short yes
expect 0 k -q -r "$S3_URL/yes" init
expect 0 k -r "$S3_URL/yes" list
expect 1 k -q -r "$S3_URL/yes" init
says "exists already"
expect 0 k -r "$S3_URL/yes" doctor --json
equal "$(jq -r '.findings[] | select(.what == "conditional put") | .verdict' out)" ok "where it is honoured"

for kind in ignore none; do
	s3_tell set "{\"conditional\": \"$kind\"}" >/dev/null
	expect 0 k -r "$S3_URL/yes" doctor --json
	equal "$(jq -r '.findings[] | select(.what == "conditional put") | .verdict' out)" note "server: $kind"
	cut_short "$kind"
	expect 1 k -q -r "$S3_URL/$kind" init
	says "interrupted init" "keys/" "slots/"
done
s3_tell set '{"conditional": "yes"}' >/dev/null

# --- who may not delete leaves the self-test's objects, which are no content --------------------------------------------------------
s3_tell rules '[{"match": "DELETE ", "times": 9, "status": 403, "code": "AccessDenied"},
	{"match": "PUT .*/(keys|slots)/", "status": 403, "code": "AccessDenied"}]' >/dev/null
expect 12 k -q -r "$S3_URL/kept" init
s3_tell rules '[]' >/dev/null
expect 0 k -q -r "$S3_URL/kept" init
