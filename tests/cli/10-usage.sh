# The command line itself: help, versions, refusals with the nearest name, exit codes, errors as JSON.
. "$TOP/tests/lib.sh"

exits 0 "$KEDGE" --version
has out "kedge "
exits 0 "$KEDGE" help
has out "usage: kedge COMMAND" "info " "map " "dump " "--repo PATH" "KEDGE_REPOSITORY"
cp out all
exits 0 "$KEDGE" --help
cmp -s out all || fail "--help differs from help"
exits 0 "$KEDGE" -h
cmp -s out all || fail "-h differs from help"
for cmd in $(sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' all); do
	exits 0 "$KEDGE" help "$cmd"
	has out "usage: kedge $cmd" "--quiet"
	cp out one
	exits 0 "$KEDGE" "$cmd" --help
	cmp -s out one || fail "$cmd --help differs from help $cmd"
done
exits 0 "$KEDGE" help dump
has out "--state SELECTOR" "--json"
lacks out "--repo"
exits 2 "$KEDGE" help nonsense
exits 2 "$KEDGE" help inof
has err "did you mean kedge help info?"

exits 2 "$KEDGE"
has err "no command given"
exits 2 "$KEDGE" inof x
has err 'kedge: error: unknown command "inof"' '  hint: did you mean "info"?'
exits 2 "$KEDGE" info --jsno x
has err "unknown option --jsno" "did you mean --json?"
exits 2 "$KEDGE" info
has err "info needs an operand"
exits 2 "$KEDGE" info a b
has err 'one operand too many: "b"'
exits 2 "$KEDGE" info --threads 2 x
has err "info does not take --threads"
exits 2 "$KEDGE" -r /nowhere info x
has err "info does not take --repo"
exits 2 "$KEDGE" dump --threads 0 x
has err "not between 1 and 256"
exits 2 "$KEDGE" dump --memory 1K x
has err "not between 16.0 MiB and"
exits 2 "$KEDGE" info x --quiet=yes

# Errors as JSON: one object on stdout, nothing on stderr; also when the options themselves are wrong.
exits 1 "$KEDGE" info --json nowhere.img
same not-found "$(jq -r .error.code out)" code
same 1 "$(jq -r .error.exit out)" exit
same 2 "$(jq -r .error.errno out)" errno
[ ! -s err ] || fail "stderr under --json: $(cat err)"
exits 2 "$KEDGE" --json info --nonsense x
same invalid "$(jq -r .error.code out)" code
same 2 "$(jq -r .error.exit out)" exit
exits 2 "$KEDGE" info x --bad -- --json
[ ! -s out ] || fail "--json behind -- counted"

# Hostile names do not reach the terminal as they are.
exits 1 "$KEDGE" info $'evil\033[2J\nname'
has err 'evil\x1b[2J\x0aname'

# --verbose says more, on stderr only; --quiet keeps errors.
truncate -s 1M disk.raw
exits 0 "$KEDGE" info -v raw:disk.raw
exits 1 "$KEDGE" -q info nowhere.img
has err "kedge: error:"

# A full disk behind stdout is an error, a reader that leaves is none worth a message.
exits 1 sh -c '"$1" info raw:disk.raw >/dev/full' sh "$KEDGE"
has err "standard output" "No space left"
exits 1 sh -c '"$1" dump raw:disk.raw >/dev/full' sh "$KEDGE"
has err "No space left"
truncate -s 8M big.raw
"$KEDGE" dump raw:big.raw 2>pipe-err | head -c 1 >/dev/null || true
[ ! -s pipe-err ] || fail "a closed pipe is reported: $(cat pipe-err)"

# Closed standard descriptors: the image must not become stdout.
"$KEDGE" info raw:disk.raw >&- 2>&- <&- || true
cmp -s disk.raw <(head -c 1M /dev/zero) || fail "the image was written to"
