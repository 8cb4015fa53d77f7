# Repositories in Ceph RGW and in Swift: the conformance suite of stores, the main job, what a killed gateway costs.
. "$TOP/tests/e2e/lib.sh"
. "$TOP/tests/s3/lib.sh"
needs python3 curl openssl jq
for p in ceph-mon:ceph-mon ceph-osd:ceph-osd radosgw:radosgw ceph:ceph-common swift-proxy-server:swift-proxy; do
	need "${p%%:*}" "${p#*:}"
done
port=$((20000 + $$ % 200 * 60))
( umask 077; head -c 64 /dev/urandom >key )
KEY=$PWD/key
export KEDGE_STATE_DIR=$PWD/state KEDGE_CACHE_DIR=$PWD/cache
truncate -s 96M disk.raw
random_at disk.raw 1048576 40000000 1
cp disk.raw night.raw
random_at night.raw 60000000 1000000 2

main_job() {	# at KEDGE_REPOSITORY
	expect 0 k -q init
	expect 1 k -q init
	cp --sparse=always disk.raw current.raw
	expect 0 k backup --vm v raw:current.raw
	cp --sparse=always night.raw current.raw
	expect 0 k backup --vm v raw:current.raw
	expect 0 k list v
	prints current
	expect 0 k check --read-data
	expect 0 k restore v -f -o back.raw
	cmp back.raw night.raw
	rm -rf cache
	expect 0 k restore v -f -o back.raw
	cmp back.raw night.raw
}
conformance() {	# of the bucket
	KEDGE_TEST_S3=$S3_URL "$BUILD/unit/test_store" >suite.out 2>&1 || die "conformance: $(grep -v 'OK\|RUN' suite.out | head -20)"
}

# --- Ceph RGW ---------------------------------------------------------------------------------------------------------------
s3_server ceph $port
conformance
export KEDGE_REPOSITORY=$S3_URL/host/a
main_job
# the gateway dies under a backup and comes back: the run gets through, or the next one does, and nothing is lost
random_at current.raw 70000000 12000000 3
k -q backup --vm v raw:current.raw >out 2>err & run=$!
sleep 0.3
kill -KILL "$(cat ceph/rgw.pid)"
"$S3/start-ceph-rgw.sh" "$PWD/ceph" $port >/dev/null || die "the gateway does not come back"
wait $run || expect 0 k backup --vm v raw:current.raw
expect 0 k check --read-data
equal "$(point_digest v)" "$(digest <current.raw)" "after the gateway's death"
# a user who is cut off is told so; a bucket that is not there, too
radosgw-admin -c ceph/ceph.conf user suspend --uid=test >/dev/null 2>&1
expect 12 k list
says UserSuspended policies
radosgw-admin -c ceph/ceph.conf user enable --uid=test >/dev/null 2>&1
expect 0 k list
expect 10 k -r "s3:$S3_ENDPOINT/nosuchbucket" list
says "no bucket"
s3_stop_all
rm -rf state cache

# --- Swift: no conditional put, strict about regions and Content-MD5 ---------------------------------------------------------
s3_server swift $((port + 50))
conformance
export KEDGE_REPOSITORY=$S3_URL/host/a
main_job
expect 0 k --s3-region us-west-9 list	# the server names the right one
