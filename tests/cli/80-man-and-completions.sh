# The man page, the help and the completions name the same commands and options; the scripts are what their shells accept.
. "$TOP/tests/e2e/lib.sh"
needs scdoc mandoc
for f in kedge.1 kedge-repository.5; do
	scdoc < "$TOP/docs/$f.scd" > $f
	mandoc -T lint -W error $f || die "mandoc: $f"
done
commands=$(k help | sed -n '/^commands:/,/^$/p' | awk 'NR > 1 && NF { print $1 }')
[ "$(echo "$commands" | wc -l)" -ge 10 ] || die "the help lists too few commands"
for sh in bash zsh fish; do k help --completion $sh > c.$sh; done
for c in $commands; do
	grep -q "^## kedge $c\b" "$TOP/docs/kedge.1.scd" || grep -q "^## kedge .*\b$c\b" "$TOP/docs/kedge.1.scd" || die "the man page has no kedge $c"
	k help "$c" | grep -o -- '--[a-z][a-z0-9-]*' | sort -u > help.opts
	while read -r o; do
		grep -q -- "\*[^*]*$o" "$TOP/docs/kedge.1.scd" || die "the man page lacks $o of kedge $c"
		grep -q -- "$o" c.bash || die "the bash completion lacks $o"
		grep -q -- "$o" c.zsh || die "the zsh completion lacks $o"
		grep -q -- "-l ${o#--}" c.fish || die "the fish completion lacks $o"
	done < help.opts
done
for c in $(grep '^## kedge' "$TOP/docs/kedge.1.scd" | awk '{ print $3 }'); do
	grep -qx "$c" <<<"$commands" || die "the man page has kedge $c, the program has not"
done
for c in "" $commands; do k help $c; done > all.help
grep -o '^\*\(-., \)\?--[a-z0-9-]*' "$TOP/docs/kedge.1.scd" | grep -o -- '--[a-z0-9-]*' | sort -u | while read -r o; do
	grep -q -- "$o\b" all.help || die "the man page has $o, the program has not"
done
bash -n c.bash
bash -c '. ./c.bash; COMP_WORDS=(kedge res); COMP_CWORD=1; _kedge; [ "${COMPREPLY[*]}" = restore ]' || die "bash completes no command"
bash -c '. ./c.bash; COMP_WORDS=(kedge restore --with-s); COMP_CWORD=2; _kedge; [ "${COMPREPLY[*]}" = --with-snapshots ]' || die "bash completes no option"
completes() {	# completes WANTED WORD...
	local got
	got=$(bash -c '. ./c.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kedge; echo "${COMPREPLY[*]}"' - "${@:2}")
	equal "$got" "$1" "bash completes ${*:2}"
}
mkdir list
completes list kedge -r li		# a folder, not the command
completes backup kedge -r list bac	# the value of an option is no command
completes --json kedge --js
completes restore kedge help rest
completes "off metadata falloc full" kedge -q restore --preallocation ""
cp c.zsh _kedge
! command -v zsh >/dev/null || zsh -n _kedge
! command -v fish >/dev/null || fish -n c.fish
expect 2 k help --completion tcsh
