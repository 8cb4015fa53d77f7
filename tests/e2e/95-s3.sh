# A repository in S3: made, filled, listed, checked, restored; over TLS; with faults; nothing secret is said.
. "$TOP/tests/e2e/lib.sh"
. "$TOP/tests/s3/lib.sh"
needs python3 openssl jq
s3_fixture
( umask 077; head -c 64 /dev/urandom >key )
KEY=$PWD/key
export KEDGE_STATE_DIR=$PWD/state KEDGE_CACHE_DIR=$PWD/cache KEDGE_REPOSITORY=$S3_URL/host/a
truncate -s 96M disk.raw
random_at disk.raw 1048576 9000000 1

# --- the usual ----------------------------------------------------------------------------------------------------------------
expect 10 k list
says "no repository at" "init"
expect 0 k -q init
expect 1 k -q init
says "exists already"
expect 0 k backup --vm v raw:disk.raw
expect 0 k list v
prints current
random_at disk.raw 60000000 2000000 2
s3_tell log >/dev/null
expect 0 k backup --vm v raw:disk.raw --json
requests=$(s3_tell peek | jq '.requests | length')
[ "$requests" -le 40 ] || die "an incremental run took $requests requests: $(s3_tell peek)"
expect 0 k check --read-data
expect 0 k stats
expect 0 k restore v -f -o back.raw
cmp back.raw disk.raw
rm -rf cache
equal "$(point_digest v)" "$(digest <disk.raw)" "cat with an empty cache"

# --- the same bucket written in other ways ---------------------------------------------------------------------------------------
expect 0 k -r s3://bucket/host/a --s3-endpoint "http://127.0.0.1:$S3_PORT" list
expect 0 env AWS_ENDPOINT_URL="http://127.0.0.1:$S3_PORT" "$KEDGE" --key-file key -r s3://bucket/host/a list
expect 0 k -r "s3:http://localhost:$S3_PORT/bucket/host/a" --s3-style virtual list
expect 0 k -r "s3:http://127.1:$S3_PORT/bucket/host/a" list	# signed and sent as it is written
expect 2 k --s3-style wrong list
expect 1 k -r "s3:http://user:geheim@localhost/bucket" list
says "credentials come from"
lacks err geheim
s3_tell set '{"region": "eu-test-1"}' >/dev/null
expect 0 k list
expect 0 k --s3-region eu-test-1 list
s3_tell set '{"region": "us-east-1"}' >/dev/null

# --- credentials: refused, absent, of a profile, of an instance --------------------------------------------------------------------
expect 12 env AWS_SECRET_ACCESS_KEY=not/the+secret "$KEDGE" --key-file key -v list
says "SignatureDoesNotMatch" "the secret key"
lacks err not/the+secret
expect 12 env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY "$KEDGE" --key-file key list
says "no credentials" "--s3-profile"
printf '[offsite]\naws_access_key_id = FIXTUREKEY\naws_secret_access_key = fixture/secret+key\n' >profiles
expect 0 env AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=y AWS_SHARED_CREDENTIALS_FILE=profiles \
	"$KEDGE" --key-file key --s3-profile offsite list
expect 0 env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY AWS_EC2_METADATA_DISABLED=false \
	AWS_EC2_METADATA_SERVICE_ENDPOINT="http://127.0.0.1:$S3_PORT" "$KEDGE" --key-file key -v list
lacks err role/secret tok+en imds-token
expect 0 k -v backup --vm v raw:disk.raw
lacks err fixture/secret
lacks out fixture/secret

# --- a bad night: refused, lost and late answers ------------------------------------------------------------------------------------
random_at disk.raw 40000000 4000000 3
s3_tell rules '[{"match": "PUT .*/data/", "times": 1, "status": 503, "code": "SlowDown"},
	{"match": "PUT .*/data/", "times": 1, "after": true, "status": 500}, {"match": "PUT .*/index/", "after": true, "drop": true},
	{"match": "PUT .*/manifests/", "status": 500}, {"match": "GET .*list-type", "truncate": 20}]' >/dev/null
expect 0 k backup --vm v raw:disk.raw
s3_tell rules '[{"match": "GET .*/data/", "times": 2, "truncate": 1000}, {"match": "GET .*/data/", "flip": true}]' >/dev/null
rm -rf cache back.raw
if k -q restore v -f -o back.raw 2>err; then	# a byte that was altered on the way is found, whatever else
	cmp back.raw disk.raw
else
	has err "damaged"
fi
s3_tell rules '[]' >/dev/null
expect 0 k restore v -f -o back.raw
cmp back.raw disk.raw
expect 0 k check --read-data
s3_tell set '{"skew": 3600}' >/dev/null
expect 0 k list
says "60 min" "clock"
s3_tell set '{"skew": 0}' >/dev/null

# --- a proxy ------------------------------------------------------------------------------------------------------------------------
s3_tell log >/dev/null
expect 0 env http_proxy="http://127.0.0.1:$S3_PORT" "$KEDGE" --key-file key -r s3:http://storage.invalid/bucket/host/a list v
prints current
[ "$(s3_count 'PROXY http://storage.invalid/bucket')" -gt 3 ] || die "the proxy was not asked: $(s3_tell peek)"
s3_stop_all

# --- IPv6 ---------------------------------------------------------------------------------------------------------------------------
if grep -qs '^00000000000000000000000000000001 ' /proc/net/if_inet6; then
	s3_fixture --ipv6
	expect 0 k -q -r "$S3_URL/host/six" init
	expect 0 k -r "$S3_URL/host/six" list
	s3_stop_all
fi

# --- TLS ----------------------------------------------------------------------------------------------------------------------------
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost -addext 'subjectAltName=DNS:localhost' \
	-keyout key.pem -out cert.pem 2>/dev/null
s3_fixture --tls cert.pem key.pem
export KEDGE_REPOSITORY=$S3_URL/host/b
expect 12 k list
says "certificate" "--cacert"
expect 0 k -q --cacert cert.pem init
expect 0 env AWS_CA_BUNDLE=cert.pem "$KEDGE" --key-file key backup --vm v raw:disk.raw
expect 0 k --cacert cert.pem restore v -f -o back.raw
cmp back.raw disk.raw
