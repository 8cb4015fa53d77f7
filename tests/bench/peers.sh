#!/bin/bash
# peers.sh - install the programs that `make bench` compares with into a private root; nothing on this system changes.
#
# peers.sh DIR: leaves DIR/bin/{qemu-img,restic,borg}, each run by its own distribution's loader and libraries.
# qemu-img is Debian 12's; restic and borg are Debian 13's, for 12's are far slower.  The packages come by apt with
# configuration and lists of its own (Debian's key verifies them) and are unpacked, not installed: no root needed.
# BENCH_MIRROR: a mirror of Debian (default: the one that apt uses here for bookworm, or deb.debian.org).
set -euo pipefail
export LC_ALL=C
[ $# = 1 ] || { echo "usage: peers.sh DIR" >&2; exit 2; }
mkdir -p "$1"
top=$(cd "$1" && pwd)
[ ! -e "$top/done" ] || exit 0
die() { echo "peers: $*" >&2; exit 1; }

key=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $key ] || die "$key is missing: install debian-archive-keyring"
mirror=${BENCH_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' \
	2>/dev/null | sed -n '1s#/*$##p')}
mirror=${mirror:-http://deb.debian.org/debian}

unpack() {	# unpack SUITE PACKAGE...: with all they depend on, into $top/SUITE
	local suite=$1 d=$top/$1.apt f
	shift
	rm -rf "$d" "${top:?}/$suite"
	mkdir -p "$d/state/lists/partial" "$d/cache/archives/partial" "$d/none" "$top/$suite"
	: >"$d/status"	# nothing counts as installed, so that every dependency comes along
	echo "deb [signed-by=$key] $mirror $suite main" >"$d/sources.list"
	cat >"$d/apt.conf" <<-END
		Dir::State "$d/state";
		Dir::State::status "$d/status";
		Dir::Cache "$d/cache";
		Dir::Etc::sourcelist "$d/sources.list";
		Dir::Etc::sourceparts "$d/none";
		Dir::Etc::preferencesparts "$d/none";
		APT::Install-Recommends "false";
		APT::Sandbox::User "";
		Acquire::Retries "3";
		Debug::NoLocking "true";
	END
	echo "peers: $* from $mirror $suite"
	APT_CONFIG=$d/apt.conf apt-get -qq update
	APT_CONFIG=$d/apt.conf apt-get -qq -y -d install "$@" >"$d/log" 2>&1 || { cat "$d/log" >&2; die "apt failed for $suite"; }
	for f in "$d"/cache/archives/*.deb; do dpkg-deb -x "$f" "$top/$suite"; done
	rm -rf "$d"
}

wrap() {	# wrap NAME SUITE PROGRAM [ARG...]: DIR/bin/NAME runs PROGRAM of that root
	local name=$1 root=$top/$2 program=$3 loader libs
	shift 3
	loader=$(find "$root" -name ld-linux-x86-64.so.2 -type f -o -name 'ld-linux-*.so.*' -type f | head -n 1)
	[ -x "$loader" ] && [ -e "$root/$program" ] || die "no $program in $root"
	libs=$(ls -d "$root"/lib/*-linux-gnu "$root"/usr/lib/*-linux-gnu 2>/dev/null | paste -sd: || true)
	mkdir -p "$top/bin"
	cat >"$top/bin/$name" <<-END
		#!/bin/sh
		export PYTHONHOME='$root/usr' PYTHONNOUSERSITE=1 PYTHONDONTWRITEBYTECODE=1
		unset PYTHONPATH
		exec '$loader' --library-path '$libs' '$root/$program' $* "\$@"
	END
	chmod 755 "$top/bin/$name"
}

unpack bookworm qemu-utils
unpack trixie restic borgbackup
wrap qemu-img bookworm usr/bin/qemu-img
wrap restic trixie usr/bin/restic
python=$(cd "$top/trixie" && ls usr/bin/python3.[0-9]* | head -n 1)
wrap borg trixie "$python" "'$top/trixie/usr/bin/borg'"
# What a package's installation does: without compiled modules each start of borg would compile them.
wrap python trixie "$python"
"$top/bin/python" -m compileall -q "$top/trixie/usr/lib" >/dev/null || true
for t in qemu-img restic borg; do
	case $t in restic) v=version ;; *) v=--version ;; esac
	"$top/bin/$t" $v >"$top/$t.version" || die "$t does not run"
	head -n 1 "$top/$t.version"
done
touch "$top/done"
