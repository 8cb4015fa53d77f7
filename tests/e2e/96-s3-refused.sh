# What the storage refuses says nothing about what is stored: no damage, no absence, no word about another secret.
. "$TOP/tests/e2e/lib.sh"
. "$TOP/tests/s3/lib.sh"
needs python3
s3_fixture
( umask 077; head -c 64 /dev/urandom >key )
KEY=$PWD/key
export KEDGE_STATE_DIR=$PWD/state KEDGE_CACHE_DIR=$PWD/cache KEDGE_REPOSITORY=$S3_URL/host/a
truncate -s 8M disk.raw
random_at disk.raw 1048576 3000000 1
expect 0 k -q init
expect 0 k backup --vm v raw:disk.raw

# refused METHOD-AND-PATH STATUS CODE COMMAND...: with an empty cache, so that it is asked for
refused() {
	s3_tell rules "[{\"match\": \"$1\", \"times\": 99999, \"status\": $2, \"code\": \"$3\"}]" >/dev/null
	shift 3
	rm -rf cache
	expect 12 k "$@"
	s3_tell rules '[]' >/dev/null
	lacks err "recovery key" "from a copy"
	lacks out DAMAGED "no backups"
}
refused 'GET .*/data/' 400 ExpiredToken check --read-data
refused 'GET .*/manifests/' 403 AccessDenied list
refused 'GET .*/manifests/' 403 AccessDenied check
refused 'GET .*/slots/' 403 AccessDenied list
refused 'GET .*/index/' 403 AccessDenied backup --vm v raw:disk.raw
refused 'GET .*/data/' 403 InvalidObjectState check
refused 'GET .*/data/' 418 Teapot restore v -f -o back.raw
refused 'GET .*list-type' 200 Odd list

# --- a gateway that is away for a moment -----------------------------------------------------------------------------------------
rm -rf cache state
s3_tell rules '[{"match": "(GET|HEAD) .*/(manifests|sessions)/", "times": 3, "status": 404, "body": "default backend - 404"},
	{"match": "GET .*list-type", "times": 2, "status": 404, "body": "default backend - 404"}]' >/dev/null
expect 0 k list v
prints current
expect 10 k -r "s3:http://127.0.0.1:$S3_PORT/none/a" list
says "no bucket"

# --- credentials that are missing are not the repository's key ---------------------------------------------------------------------
expect 12 env -u AWS_SECRET_ACCESS_KEY "$KEDGE" --key-file key list
says "not both set"
lacks err "recovery key"

# --- a proxy's password is not repeated ---------------------------------------------------------------------------------------------
expect 1 env http_proxy=foo://u:geheim@h:1 "$KEDGE" --key-file key -v --json -r s3:http://storage.invalid/bucket/a list
says "***@h:1"
lacks err geheim
lacks out geheim

# --- no core dump has what is in memory ---------------------------------------------------------------------------------------------
s3_tell rules '[{"match": "GET ", "times": 99, "stall": 30}]' >/dev/null
dumps() {	# does it, when it is aborted after a second?
	mkdir -p cores
	( ulimit -c unlimited && cd cores && python3 -c 'import os, signal, sys, time
pid = os.fork()
if not pid:
    os.execv(sys.argv[1], sys.argv[1:])
time.sleep(1)
os.kill(pid, signal.SIGABRT)
status = os.waitpid(pid, 0)[1]
assert os.WIFSIGNALED(status), "it had ended before"
print("yes" if os.WCOREDUMP(status) else "no")' "$@" 2>&1 )
	rm -rf cores
}
equal "$(dumps "$KEDGE" --key-file "$PWD/key" list)" no "a core dump"
if [ "$(dumps /bin/sleep 9)" = yes ]; then
	case $KEDGE in *asan*|*tsan*) ;; *)
		equal "$(KEDGE_CORE=1 dumps "$KEDGE" --key-file "$PWD/key" list)" yes "a core dump that was asked for" ;;
	esac
fi
s3_tell rules '[]' >/dev/null
