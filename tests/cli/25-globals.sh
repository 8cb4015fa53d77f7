# The options that many commands take: --threads, --memory, --verbose, --quiet, --no-progress; SIGUSR1, the progress line, stopping.
. "$TOP/tests/e2e/lib.sh"
needs jq setsid
quick_repo
truncate -s 8M noise.raw
random_at noise.raw 0 8000000 1
truncate -s 20M hole.raw
expect 0 k -q backup --vm v t=raw:hole.raw n=raw:noise.raw

# --- threads and memory: told by --verbose, which says nothing of it unasked ----------------------------------------------
# told WORD COMMAND...: the numbers in the first line of --verbose that has WORD
told() { local word=$1; shift; k -v --no-progress "$@" 2>&1 >/dev/null | grep -am1 "$word" | sed 's/.*: //' | tr -dc '0-9 \n'; }
first() { echo $1; }
for t in 1 3; do
	equal "$(first $(told kedge-read: backup --threads $t --vm t$t raw:noise.raw))" $t "reading threads of backup"
	equal "$(first $(told kedge-seal: backup --threads $t --vm t$t raw:noise.raw))" $t "sealing threads of backup"
	equal "$(first $(told fetch: restore --threads $t v:n -o r$t.raw))" $t "threads of restore"
	equal "$(first $(told fetch: cat --threads $t v:n))" $t "threads of cat"
	equal "$(first $(told check: check --read-data --threads $t))" $t "threads of check"
	equal "$(k cat --threads $t v:n | digest)" "$(digest <noise.raw)" "cat with $t threads"
	cmp r$t.raw noise.raw
done
equal "$(KEY=; first $(told kedge-read: dump --threads 5 raw:noise.raw))" 5 "threads of dump"
cpus=$(first $(told kedge-read: backup raw:noise.raw --vm t))
equal "$cpus" "$(nproc)" "threads by default: the processors that may be used"
equal "$(first $(taskset -c 0 "$KEDGE" --key-file key -v backup raw:noise.raw --vm t 2>&1 | grep -am1 kedge-read: | sed 's/.*: //' | tr -dc '0-9 '))" 1 "on one processor"
less() {	# less WORD COMMAND...: 16M of memory give it less than 1G do
	local a b
	a=$(told "$@" --threads 8 --memory 16M) b=$(told "$@" --threads 8 --memory 1G)
	[ "$a" != "$b" ] || die "--memory changes nothing for ${*:2}: $a"
}
less kedge-read: backup --vm t raw:noise.raw
less fetch: cat v:n
expect 0 k -v diff v t --memory 16M
says "reader: 5592406 bytes"
expect 0 k -v diff v t
says "reader: 89478486 bytes"
less fetch: restore v:n -f -o r.raw
(KEY=; less kedge-read: dump raw:noise.raw)
[ "$(first $(told check: check --read-data --threads 60 --memory 16M))" -lt "$(first $(told check: check --read-data --threads 60 --memory 1G))" ] ||
	die "--memory changes nothing for check"
for m in 15M 2T 0 x; do expect 2 k backup --vm t --memory $m raw:noise.raw; done
for t in 0 257 x; do expect 2 k backup --vm t --threads $t raw:noise.raw; done
expect 0 k -v list
says "read config"
expect 0 k list
[ ! -s err ] || die "list says $(cat err) without -v"
expect 0 k --verbose backup --vm t raw:noise.raw
says "put manifests/" "read config" "put session/"

# --- silence: without a terminal, and with --quiet ------------------------------------------------------------------------
expect 0 k backup --vm t raw:noise.raw
lacks err $'\r' $'\033'
for c in "backup --vm t raw:noise.raw" "restore v:n -f -o r.raw" "restore v --to q -f" "check" "check --read-data"; do
	expect 0 k -q $c
	[ ! -s out ] && [ ! -s err ] || die "kedge -q $c says $(cat out err)"
done
expect 1 k -q restore v/snap:no -o x
says "kedge: error:"

# --- the line of SIGUSR1, and stopping: a slow backup ---------------------------------------------------------------------
text() { seq $1 2000000 | sed "s/^/the quick brown fox $1 /" | head -c 32M >text.raw || true; }
slow="backup --threads 1 --compression max raw:text.raw --vm"
text 1
"$KEDGE" --key-file key $slow s1 >out 2>err &
pid=$!
for _ in $(seq 100); do grep -aq current err && break; sleep 0.05; done	# it has said what it will read
kill -USR1 $pid
for _ in $(seq 40); do grep -aq '^kedge: ' err && break; sleep 0.1; done
grep -aEq '^kedge: (reading|[a-z]+).* [0-9.]+ [KM]?i?B/32\.0 MiB' err || die "SIGUSR1: $(cat err)"
kill -TERM $pid
code=0
wait $pid || code=$?
equal $code 130 "exit of a stopped backup"
says interrupted "run the same command again"
equal "$(k list s1 --json | jq length)" 0 "backups after that"
expect 0 k $slow s1
equal "$(point_digest s1)" "$(digest <text.raw)" "run again"
# a stopped restore leaves nothing, and an old target as it was
mkdir to
echo old >to/x.qcow2
"$KEDGE" --key-file key restore v:n --threads 1 --compress -f -o to/x.qcow2 >out 2>err &
pid=$!
for _ in $(seq 200); do	# until it has its file, which has no name yet or another
	ls -l /proc/$pid/fd 2>/dev/null | grep "$PWD/to/" >/dev/null && break
done
kill -TERM $pid
code=0
wait $pid || code=$?
equal $code 130 "exit of a stopped restore"
equal "$(ls -A to) $(cat to/x.qcow2)" "x.qcow2 old" "what a stopped restore left"
# a reader that sleeps does not keep cat from being stopped
mkfifo pipe
"$KEDGE" --key-file key cat v:t >pipe 2>err &
pid=$!
exec 8<pipe
head -c 1000 <&8 >/dev/null
kill -TERM $pid
code=0
wait $pid || code=$?
exec 8<&-
equal $code 130 "exit of a stopped cat"

# --- the progress line on a terminal ----------------------------------------------------------------------------------------
cat >onpty.py <<'PY'
import fcntl, os, pty, re, struct, subprocess, sys, termios
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
p = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave)
os.close(slave)
seen = b""
while True:
    try:
        part = os.read(master, 4096)
    except OSError:
        break
    if not part:
        break
    seen += part
drawn = [l for l in re.split(rb"[\r\n]", seen) if re.search(rb"\d+% ", l)]
print(p.wait(), len(drawn), int(any(b"/s" in l for l in drawn)), int(any(b"ETA" in l for l in drawn)), int(b"\x1b[K" in seen))
PY
on_pty() { /usr/bin/python3 onpty.py "$KEDGE" --key-file key "$@"; }
text 2
set -- $(on_pty $slow s2)
[ "$1" = 0 ] && [ "$2" -ge 2 ] && [ "$3" = 1 ] && [ "$4" = 1 ] || die "progress of backup: $*"
for o in --no-progress -q; do
	text "3${#o}"
	set -- $(on_pty $slow s${o//-/} $o)
	equal "$1 $2 $5" "0 0 0" "progress of backup $o"
done

# --- every command of a repository takes its options --------------------------------------------------------------------------
umask 077
echo "a passphrase" >password
echo "another" >wrong
expect 0 k -q key add --label word --new-password-file password
unset KEDGE_REPOSITORY
while read -r c; do
	expect 0 "$KEDGE" --repo repo $c --key-file key </dev/null
	expect 2 k $c
	says "no repository named" "-r PATH" "KEDGE_REPOSITORY"
	expect 10 env KEDGE_REPOSITORY=nowhere "$KEDGE" --key-file key $c
	expect 0 env KEDGE_REPOSITORY=nowhere "$KEDGE" $c -r repo --password-file password
	expect 12 "$KEDGE" -r repo $c --password-file wrong
	expect 0 "$KEDGE" -r repo --key-file key $c -v
	says "read config"
	case ${c%% *} in
	cat) expect 2 k -r repo $c --json ;;
	*)
		expect 0 k -r repo $c --json
		[ ! -s err ] || die "$c --json says $(cat err)"
		jq -e . out >/dev/null || die "$c --json prints no JSON: $(cat out)"
		;;
	esac
done <<'COMMANDS'
backup --vm loop raw:hole.raw
list
show v
restore v:t -f -o loop.raw
cat v:t
diff v v
check
stats
key list
doctor
COMMANDS
