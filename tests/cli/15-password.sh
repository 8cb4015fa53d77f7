# Where a passphrase may come from: a file, a command, the terminal; and what is said when there is none.
. "$TOP/tests/lib.sh"
ask=$BUILD/helpers/ask_password

umask 077
printf 'secret one\nnotes behind it\n' >file
exits 0 "$ask" --password-file file
same "[secret one]" "$(cat out)" "first line of a file"
printf 'dos\r\n' >dos
same "[dos]" "$("$ask" --password-file dos)" "CRLF"
printf 'no newline' >bare
same "[no newline]" "$(KEDGE_PASSWORD_FILE=bare "$ask")" KEDGE_PASSWORD_FILE
same "[by command]" "$(KEDGE_PASSWORD_COMMAND='echo by command; echo more' "$ask")" KEDGE_PASSWORD_COMMAND
same "[secret one]" "$(KEDGE_PASSWORD_COMMAND='echo no' "$ask" --password-file file)" "a file counts before a command"
same "[secret one]" "$(KEDGE_PASSWORD_COMMAND='echo no' KEDGE_PASSWORD_FILE=bare "$ask" --password-file file)" "the option counts first"
same "[secret one]" "$("$ask" --new --password-file file)" "a new one"

: >empty
exits 1 "$ask" --password-file empty
has err "the passphrase is empty"
printf '\nx\n' >empty
exits 1 "$ask" --password-file empty
printf 'a\0b' >zero
exits 1 "$ask" --password-file zero
has err "zero byte"
head -c 5000 /dev/zero | tr '\0' x >long
exits 1 "$ask" --password-file long
has err "more than 1024 bytes"
exits 1 "$ask" --password-file nowhere
has err "password file nowhere" "No such file"
exits 1 env KEDGE_PASSWORD_COMMAND='echo x; exit 3' "$ask"
has err "KEDGE_PASSWORD_COMMAND: it exited with 3"
exits 1 env KEDGE_PASSWORD_COMMAND='kill -9 $$' "$ask"
has err "signal 9"
exits 1 env KEDGE_PASSWORD_COMMAND='yes' "$ask"
has err "more than 1024 bytes"
chmod 644 file
exits 0 "$ask" --password-file file
has err "warning" "everybody may read it"

# No terminal and no source.
exits 2 setsid -w "$ask" </dev/null
has err "no passphrase given" "--password-file" "KEDGE_PASSWORD_COMMAND" "KEDGE_PASSWORD_FILE"

# The terminal: not echoed, asked twice for a new one, interruptible, echo restored.
cat >onpty.py <<'PY'
import os, pty, select, signal, sys, termios, time
answers = sys.argv[1].encode().decode("unicode_escape").encode().split(b"|")
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
seen = b""
def read_until(mark, seconds=10):
    global seen
    end = time.time() + seconds
    while mark not in seen[read_until.at:] and time.time() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                part = os.read(fd, 4096)
            except OSError:
                return
            if not part:
                return
            seen += part
    read_until.at = len(seen)
read_until.at = 0
for a in answers:
    read_until(b": ")
    os.write(fd, a)
read_until(b"never", 3)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), seen.decode().replace("\r\n", "/"))
PY
same "0 passphrase for /backup: /[typed]/" "$(/usr/bin/python3 onpty.py 'typed\n' "$ask")" "typed"
same "0 new passphrase: /the same again: /[typed]/" "$(/usr/bin/python3 onpty.py 'typed\n|typed\n' "$ask" --new)" "typed twice"
/usr/bin/python3 onpty.py 'typed\n|tpyed\n' "$ask" --new >out
has out "1 new passphrase" "differ"
/usr/bin/python3 onpty.py '\n' "$ask" >out
has out "empty"
/usr/bin/python3 onpty.py 'half\x03' "$ask" >out
has out "130 " "interrupted"
