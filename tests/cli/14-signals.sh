# Interrupting, SIGUSR1, and the progress line on a terminal.
. "$TOP/tests/lib.sh"

head -c 6M /dev/urandom >disk.raw
mkfifo pipe

# start: a dump into a pipe whose reader takes 3 MiB and then waits: the program hangs in a write.
start() {
	sh -c 'head -c 3145728 >/dev/null; exec sleep 60' <pipe &
	reader=$!
	"$KEDGE" dump "$@" raw:disk.raw -o pipe 2>err &
	pid=$!
	for i in $(seq 100); do
		[ "$(awk '/^State/ {print $2}' /proc/$pid/status)" = S ] && [ "$i" -gt 3 ] && break
		sleep 0.05
	done
	sleep 0.3
}
finish() {	# finish EXIT-CODE
	local got=0
	wait $pid || got=$?
	kill $reader 2>/dev/null || true
	wait $reader 2>/dev/null || true
	same "$1" "$got" "exit code"
}

start
[ ! -s err ] || fail "not silent without a terminal: $(cat err)"
kill -USR1 $pid
for i in $(seq 50); do [ -s err ] && break; sleep 0.1; done
has err "kedge: reading" "/6.0 MiB"
kill -TERM $pid
finish 130
has err "interrupted"

for signal in INT HUP; do
	start
	kill -$signal $pid
	finish 130
done
start --quiet
kill -USR1 $pid
for i in $(seq 50); do [ -s err ] && break; sleep 0.1; done
has err "kedge: reading"
kill -INT $pid
finish 130

# On a terminal: redrawn in place, fitted to its width, wiped at the end; --no-progress and --quiet: nothing.
cat >onpty.py <<'PY'
import fcntl, os, pty, re, struct, subprocess, sys, termios, threading, time
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
p = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave)
os.close(slave)
seen = b""
def collect():
    global seen
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            return
        if not part:
            return
        seen += part
t = threading.Thread(target=collect)
t.start()
began = time.time()
while time.time() - began < 1.5:        # slowly, so that lines are drawn
    p.stdout.read(256 * 1024)
    time.sleep(0.1)
while p.stdout.read(1 << 20):
    pass
code = p.wait()
t.join(5)
drawn = [l for l in re.split(rb"\r", seen) if l.startswith(b"reading")]
widths = [len(l.replace(b"\x1b[K", b"")) for l in drawn]
print(code, len(drawn), max(widths, default=0), seen.endswith(b"\r\x1b[K"), int(b"%" in seen))
PY
set -- $(/usr/bin/python3 onpty.py "$KEDGE" dump raw:disk.raw)
same 0 "$1" "exit on a terminal"
[ "$2" -ge 3 ] && [ "$2" -le 15 ] || fail "$2 lines in 1.5 s"
[ "$3" -le 39 ] || fail "a line has $3 columns of 40"
same True "$4" "wiped at the end"
same 1 "$5" "percentage"
set -- $(/usr/bin/python3 onpty.py "$KEDGE" dump --no-progress raw:disk.raw)
same "0 0" "$1 $2" "--no-progress"
set -- $(/usr/bin/python3 onpty.py "$KEDGE" dump -q raw:disk.raw)
same "0 0" "$1 $2" "--quiet"
