#!/usr/bin/env bash
# make-corpus.sh - build a corpus of VM disks that change as real guests' do.
#
# Packages (Debian 12 names)
#   small: qemu-utils libnbd-bin e2fsprogs python3 zstd        (qemu-system-x86: optional, one more case)
#   full:  the above + qemu-system-common debootstrap debian-archive-keyring fdisk xfsprogs btrfs-progs
#          util-linux mount                                    (qemu-system-x86 and /dev/kvm: optional, to boot)
#
# Usage: make-corpus.sh TARGET small|full
#   small  no root, no mounts, no network; < 2 minutes, < 600 MB; guest content is the same at every run on
#          one host (it is made from the files of a few base packages, or of CORPUS_SRC)
#   full   root, loop mounts, FUSE, a Debian mirror; about half an hour, about 15 GB
#
# Environment
#   CORPUS_ONLY     words of: web db big clone          (full; default: all four; clone needs web's image)
#   CORPUS_MIRROR   Debian mirror for the guests; default: the one that this system's apt uses for bookworm
#   CORPUS_SECURITY likewise for bookworm-security
#   CORPUS_SRC      small: take the guest's files from this directory, not from the host's packages
#   CORPUS_KEEP=1   keep TARGET/.work (block-hash lists, logs)
#
# Leaves in TARGET
#   <vm>/...        the images
#   SHA256.tsv      image, point (current | snapshot:NAME), virtual size, sha256 of the guest-visible bytes
#   STATS.tsv       the same states with data, change and zstd figures; REPORT.md: as tables
#   STATUS          one line per finished step
#
# full: each disk is the real qcow2 throughout. qemu-storage-daemon exports it as a file over FUSE, the file
# is loop-mounted, the guest is changed by chroot (apt, PostgreSQL) and by file edits, and everything is
# closed before a snapshot is taken; so cluster order, copy-on-write and discards are those of a real image.
# All mounts, loops and processes live in a private mount and PID namespace: nothing outlives this script.

# shellcheck disable=SC2016,SC2317   # guest scripts are quoted on purpose; traps are called indirectly
set -euo pipefail
umask 022
export LC_ALL=C TZ=UTC

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
self=$here/$(basename "${BASH_SOURCE[0]}")
python=$(python3 -c 'import sys; print(sys.executable)')      # once past any pyenv shim
tool() { "$python" "$here/corpus_tool.py" "$@"; }
die() { echo "make-corpus: $*" >&2; exit 1; }

[ $# = 2 ] || die "usage: make-corpus.sh TARGET small|full"
mkdir -p "$1"
T=$(cd "$1" && pwd)
scale=$2
W=$T/.work
only=${CORPUS_ONLY:-web db big clone}
apt_uri() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $1" 2>/dev/null | sed -n '1s#/*$##p'; }
mirror=${CORPUS_MIRROR:-$(apt_uri bookworm)}
security=${CORPUS_SECURITY:-$(apt_uri bookworm-security)}
suite=bookworm
t0=${CORPUS_T0:-$(date +%s)}
status() { printf '%4ds  %s\n' $(($(date +%s) - t0)) "$*" | tee -a "$T/STATUS"; }

need() { local c; for c in "$@"; do command -v "$c" >/dev/null || die "$c not found; see the packages at the head of this script"; done; }
need qemu-img qemu-nbd nbdcopy mke2fs debugfs e2fsck python3 zstd

# ------------------------------------------------------------------ namespaces (full only)
if [ "$scale" = full ] && [ -z "${CORPUS_INNER:-}" ]; then
    [ "$(id -u)" = 0 ] || die "full needs root (small does not)"
    need qemu-storage-daemon debootstrap sfdisk losetup flock blkid unshare mkfs.xfs mkfs.btrfs fstrim
    # A private mount and PID namespace: when the inner script ends, however it ends, the kernel kills what it
    # started and drops its mounts (its loop devices are autoclear, so they go with the mounts).
    CORPUS_INNER=1 CORPUS_T0=$t0 unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        bash "$self" "$T" full &
    ns=$!
    stop() {
        trap '' INT TERM HUP
        local init=
        read -r init < "/proc/$ns/task/$ns/children" || true
        [ -z "$init" ] || kill -TERM "$init" 2>/dev/null || true
        local i; for i in {1..100}; do kill -0 "$ns" 2>/dev/null || break; sleep 0.2; done
        kill -KILL "$ns" 2>/dev/null || true
        exit 130
    }
    trap stop INT TERM HUP
    rc=0; wait "$ns" || rc=$?
    exit "$rc"
fi

# ------------------------------------------------------------------ cleanup
declare -A QSD=()       # export name -> qemu-storage-daemon's pid
MNT=()                  # mount points, in order
SCANPIDS=()             # background scans
cleanup() {
    local rc=$? i k
    trap '' INT TERM HUP
    set +e
    for k in ${SCANPIDS[@]+"${SCANPIDS[@]}"}; do kill "$k" 2>/dev/null; done
    for ((i = ${#MNT[@]} - 1; i >= 0; i--)); do umount "${MNT[i]}" 2>/dev/null || umount -l "${MNT[i]}" 2>/dev/null; done
    for k in "${!QSD[@]}"; do kill "${QSD[$k]}" 2>/dev/null && wait "${QSD[$k]}" 2>/dev/null; done
    if [ $rc = 0 ]; then
        [ -n "${CORPUS_KEEP:-}" ] || rm -rf --one-file-system "$W"
    else
        status "FAILED with status $rc (TARGET/.work kept)"
    fi
    exit $rc
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

mkdir -p "$W/rows" "$W/hash"

# ------------------------------------------------------------------ measuring a state
# scan IMAGE FORMAT POINT [PREV-KEY] : hash the guest's bytes at POINT, measure against the state PREV-KEY.
# The state's own key is IMAGE@POINT with / turned into _. One row lands in rows/, numbered in call order.
SCAN_N=0
key() { echo "$1@$2" | tr '/:' '__'; }
# A point may end in %BYTES: only so much is the guest's (a snapshot older than a resize; qemu-nbd shows the new size).
scan_one() {
    local n=$1 image=$2 fmt=$3 point=${4%\%*} prev=${5:-} l=() size=
    [ "$point" = "$4" ] || size=${4##*%}
    [ "$point" = current ] || l=(-l "${point#snapshot:}")
    # in the image's directory: QEMU takes a relative external data file from the current directory
    (cd "$T/${image%/*}" && nbdcopy -- [ qemu-nbd -r -f "$fmt" ${l[@]+"${l[@]}"} "${image##*/}" ] -) |
        tool scan --image "$image" --point "$point" --row "$W/rows/$n.tmp" --hashes "$W/hash/$(key "$image" "$point")" \
            ${prev:+--prev "$W/hash/$prev"} ${size:+--size "$size"} --zstd
    mv "$W/rows/$n.tmp" "$W/rows/$n"
}
scan() { SCAN_N=$((SCAN_N + 1)); printf '%s\0' "$(printf %04d $SCAN_N)" "$@" "" >>"$W/scan.queue"; }
# Run what is queued: in the background, after what was queued before (full), or now (small).
scan_flush() {
    [ -s "$W/scan.queue" ] || return 0
    local q=$W/scan.queue.$SCAN_N
    mv "$W/scan.queue" "$q"
    if [ "$scale" = small ]; then run_queue "$q"; return; fi
    ( exec 9>"$W/scan.lock"; flock 9; run_queue "$q" ) & SCANPIDS+=($!)
}
run_queue() {
    local f=() x
    while IFS= read -r -d '' x; do
        if [ -z "$x" ]; then scan_one "${f[@]}"; f=(); else f+=("$x"); fi
    done <"$1"
}
scan_wait() {
    local p
    for p in ${SCANPIDS[@]+"${SCANPIDS[@]}"}; do wait "$p" || die "a scan failed"; done
    SCANPIDS=()
}

# same A AFMT B BFMT : B holds A's bytes (faster than hashing B); B's row is A's figures under B's name.
same() {
    qemu-img compare -q -f "$2" -F "$4" "$T/$1" "$T/$3" || die "$3 differs from $1"
    echo -e "$1\t$3" >>"$W/same.tsv"
}

finish() {
    scan_wait
    local f
    cat "$W"/rows/[0-9]* >"$W/rows.tsv"
    {
        printf '#image\tpoint\tvirtual_size\tsha256\n'
        cut -f1-4 "$W/rows.tsv"
        [ ! -f "$W/same.tsv" ] || while IFS=$'\t' read -r a b; do
            awk -F'\t' -v OFS='\t' -v a="$a" -v b="$b" '$1 == a && $2 == "current" { print b, $2, $3, $4 }' "$W/rows.tsv"
        done <"$W/same.tsv"
    } >"$T/SHA256.tsv"
    {
        printf '#image\tpoint\tvirtual_size\tsha256\tdata_bytes\tchanged_4k_bytes\tchanged_64k_bytes\tzstd_in\tzstd_out\tzstd_change_in\tzstd_change_out\n'
        cut -f1-11 "$W/rows.tsv"
    } >"$T/STATS.tsv"
    (cd "$T" && find . -path ./.work -prune -o -type f \( -name '*.qcow2' -o -name '*.vdi' -o -name '*.vmdk' \) -print |
        sed 's,^\./,,' | grep -vE -- '-[sf][0-9]{3}\.vmdk$' | sort) >"$W/files"
    tool report --rows "$W/rows.tsv" --files "$W/files" --root "$T" >"$T/REPORT.md"
    status "done: $(wc -l <"$W/files") images, $(($(wc -l <"$T/SHA256.tsv") - 1)) states, $(du -sm --exclude=.work "$T" | cut -f1) MiB on disk"
}

# =================================================================== small
# apply_diff TARGET FORMAT RAW : write into TARGET just the sectors in which RAW differs from it, in place.
# (An empty overlay on RAW, rebased onto TARGET, holds exactly the difference; committing it writes that.)
apply_diff() {
    rm -f "$W/diff.qcow2"
    qemu-img create -q -f qcow2 -b "$3" -F raw "$W/diff.qcow2"
    qemu-img rebase -q -f qcow2 -b "$1" -F "$2" "$W/diff.qcow2"
    qemu-img commit -q -f qcow2 "$W/diff.qcow2"
    rm "$W/diff.qcow2"
}
# new_fs RAW SIZE-MiB UUID-DIGIT : an MBR disk with one ext4 partition at 1 MiB; every time stamp fixed.
OFF=1048576
new_fs() {
    rm -f "$1"
    truncate -s "$2M" "$1"
    tool mbr --disk "$1" --start 2048 --sectors $(($2 * 2048 - 2048))
    local u=$3$3$3$3$3$3$3$3-0000-4000-8000-00000000000$3
    E2FSPROGS_FAKE_TIME=1750000000 mke2fs -q -F -t ext4 -b 4096 -m 1 -U "$u" -L "vm$3" \
        -E "offset=$OFF,hash_seed=$u,lazy_itable_init=1,root_owner=0:0" "$1" $((($2 - 1) * 1024))k
}
# edit RAW TIME : debugfs commands on standard input; then the file system must be clean.
edit() {
    { echo "set_current_time @$2"; cat; } >"$W/cmds"
    debugfs -w -f "$W/cmds" "$1?offset=$OFF" >"$W/debugfs.log" 2>&1 || { cat "$W/debugfs.log"; die "debugfs failed"; }
    ! grep -vE '^(debugfs|Allocated inode|debugfs 1\.|Setting|$)' "$W/debugfs.log" | grep -m1 . || die "debugfs complained: see $W/debugfs.log"
}
fsck() { e2fsck -fn "$1?offset=$OFF" >"$W/e2fsck.log" 2>&1 || { cat "$W/e2fsck.log"; die "$1: file system not clean"; }; }
day() { echo $((1750000000 + 86400 * $1)); }

small() {
    local n src=${CORPUS_SRC:-} img p i
    src=${src%/}
    : >"$T/STATUS"
    rm -rf "$W" "$T"/vm-*; mkdir -p "$W/rows" "$W/hash"
    local raw=$W/web.raw V=128

    # ---- vm-web: one qcow2, five nightly internal snapshots
    mkdir -p "$T/vm-web" "$W/site"
    img=$T/vm-web/vm-web.qcow2
    new_fs "$raw" $V 1
    { src_files | tool stage --want 27 --pad "$W/pad" --root "$src"
      echo "mkdir /var"; echo "mkdir /var/log"; echo "mkdir /srv"; echo "mkdir /srv/www"; } | edit "$raw" "$(day 0)"
    qemu-img create -q -f qcow2 "$img" ${V}M
    local prev_key=
    for n in 1 2 3 4 5; do
        web_small_night "$n" | edit "$raw" "$(day "$n")"
        fsck "$raw"
        apply_diff "$img" qcow2 "$raw"
        qemu-img snapshot -c "night-$n" "$img"
        [ "$n" != 1 ] || cp --sparse=always "$raw" "$W/night1.raw"
        # shellcheck disable=SC2086
        scan vm-web/vm-web.qcow2 qcow2 "snapshot:night-$n" $prev_key
        prev_key=$(key vm-web/vm-web.qcow2 "snapshot:night-$n")
    done
    scan vm-web/vm-web.qcow2 qcow2 current "$prev_key"
    status "vm-web: 5 internal snapshots"

    # ---- vm-db: base <- night1 <- night2 <- night3; the same system files, and a SQLite database changed in place
    mkdir -p "$T/vm-db"
    cp --sparse=always "$W/night1.raw" "$W/db.raw"
    tool sqlite --db "$W/app.db" --night 0 --rows 70000
    { echo "mkdir /var/db"; echo "write $W/app.db /var/db/app.db"; } | edit "$W/db.raw" "$(day 1)"
    fsck "$W/db.raw"
    qemu-img create -q -f qcow2 "$T/vm-db/base.qcow2" ${V}M
    apply_diff "$T/vm-db/base.qcow2" qcow2 "$W/db.raw"
    scan vm-db/base.qcow2 qcow2 current
    p=base
    for n in 1 2 3; do
        cp "$W/app.db" "$W/app.old"
        tool sqlite --db "$W/app.db" --night "$n" --rows 70000
        tool patch --image "$W/db.raw" --offset $OFF --name /var/db/app.db --old "$W/app.old" --new "$W/app.db"
        tool weblog --seed $((50 + n)) --day "$n" --lines 5000 >"$W/log"
        echo "write $W/log /var/log/db.$n" | edit "$W/db.raw" "$(day $((n + 1)))"
        fsck "$W/db.raw"
        (cd "$T/vm-db" && qemu-img create -q -f qcow2 -b $p.qcow2 -F qcow2 night$n.qcow2)
        apply_diff "$T/vm-db/night$n.qcow2" qcow2 "$W/db.raw"
        scan vm-db/night$n.qcow2 qcow2 current "$(key vm-db/$p.qcow2 current)"
        p=night$n
    done
    status "vm-db: external chain of 4"

    # ---- vm-big-binary: incompressible; 2 MiB clusters; two states
    mkdir -p "$T/vm-big-binary"
    img=$T/vm-big-binary/vm-big-binary.qcow2
    raw=$W/big.raw
    new_fs "$raw" $V 3
    { echo "mkdir /media"
      for i in 1 2 3 4 5 6; do tool noise --seed "$i" --bytes 5000000 --out "$W/n$i"; echo "write $W/n$i /media/n$i.mp4"; done
    } | edit "$raw" "$(day 0)"
    qemu-img create -q -f qcow2 -o cluster_size=2M "$img" ${V}M
    apply_diff "$img" qcow2 "$raw"
    qemu-img snapshot -c state-1 "$img"
    { echo "rm /media/n2.mp4"
      echo "mkdir /media/new"; echo "ln /media/n3.mp4 /media/new/moved.mp4"; echo "unlink /media/n3.mp4"
      tool noise --seed 9 --bytes 7000000 --out "$W/n9"; echo "write $W/n9 /media/n9.mp4"
      { head -c 1234567 "$W/n9"; cat "$W/n4"; } >"$W/n10"; echo "write $W/n10 /media/n10.mp4"   # n4 again, shifted
    } | edit "$raw" "$(day 1)"
    fsck "$raw"
    apply_diff "$img" qcow2 "$raw"
    qemu-img snapshot -c state-2 "$img"
    scan vm-big-binary/vm-big-binary.qcow2 qcow2 snapshot:state-1
    scan vm-big-binary/vm-big-binary.qcow2 qcow2 snapshot:state-2 "$(key vm-big-binary/vm-big-binary.qcow2 snapshot:state-1)"
    status "vm-big-binary: 2 states"

    # ---- vm-clone: vm-web's night-1 in other formats, and a VMDK delta chain (night-5 over night-1)
    clones -f raw "$W/night1.raw"
    (cd "$T/vm-clone" && qemu-img create -q -f vmdk -b vm-web-night1.vmdk -F vmdk vm-web-night5-delta.vmdk)
    apply_diff "$T/vm-clone/vm-web-night5-delta.vmdk" vmdk "$W/web.raw"
    scan vm-clone/vm-web-night5-delta.vmdk vmdk current "$(key vm-clone/vm-web-night1.vdi current)"
    status "vm-clone: vdi, 3 x vmdk, vmdk chain"

    # ---- the same files in a fresh file system, written in another order; and night-1's partition at sector 63
    mkdir -p "$T/vm-shift"
    raw=$W/reinstall.raw
    new_fs "$raw" $V 4
    mkdir "$W/dump"
    debugfs -R "rdump / $W/dump" "$W/night1.raw?offset=$OFF" >"$W/rdump.log" 2>&1
    { (cd "$W/dump" && find . -mindepth 1 -type d ! -name 'lost+found' | sort | sed 's,^\.,mkdir ,')
      (cd "$W/dump" && find . -type f | sort -r | sed "s,^\.\(.*\),write $W/dump\1 \1,"); } | edit "$raw" "$(day 6)"
    fsck "$raw"
    qemu-img create -q -f qcow2 "$T/vm-shift/reinstall.qcow2" ${V}M
    apply_diff "$T/vm-shift/reinstall.qcow2" qcow2 "$raw"
    rm -f "$W/s63.raw"; truncate -s ${V}M "$W/s63.raw"
    tool mbr --disk "$W/s63.raw" --start 63 --sectors $((V * 2048 - 2048))
    tool copyat --src "$W/night1.raw" --src-off $OFF --dst "$W/s63.raw" --dst-off $((63 * 512)) --length $(((V - 1) * 1048576))
    qemu-img convert -f raw -O qcow2 -c "$W/s63.raw" "$T/vm-shift/sector63-compressed.qcow2"
    scan vm-shift/reinstall.qcow2 qcow2 current
    scan vm-shift/sector63-compressed.qcow2 qcow2 current
    status "vm-shift: fresh file system; partition at sector 63"

    shapes
    scan_flush
    finish
}

# The files a small guest is made of: those of packages that every host of this script has, so that what else
# gets installed there changes nothing; or CORPUS_SRC's.
src_files() {
    if [ -n "${CORPUS_SRC:-}" ]; then
        find "$src" -xdev -type f | sort
    elif command -v dpkg-query >/dev/null; then
        # shellcheck disable=SC2046
        dpkg-query -L bash tar sed e2fsprogs zstd tzdata $(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' 'libpython3.*-stdlib' \
            'libpython3.*-minimal' | sed -n 's/^ii *//p' | sort -u) 2>/dev/null | sort -u || true
    else
        find /usr/share/zoneinfo /usr/lib/python3.* -xdev -type f | sort
    fi
}

# One night of the small vm-web, as debugfs commands. (ln + unlink is debugfs's rename.)
web_small_night() {
    local n=$1 f m=$(($1 - 1))
    tool site --seed 1 --version "$n" --files 250 --dir "$W/site" --list "$W/site.list"
    while read -r f; do
        if [ "$n" = 1 ]; then [ -e "$W/made.${f%%/*}" ] || { : >"$W/made.${f%%/*}"; echo "mkdir /srv/www/${f%%/*}"; }
        else echo "rm /srv/www/$f"; fi
        echo "write $W/site/$f /srv/www/$f"
    done <"$W/site.list"
    tool weblog --seed "$n" --day "$n" --lines 8000 >"$W/log.$n"
    [ "$n" = 1 ] || { gzip -9nk "$W/log.$m"                                 # logrotate: yesterday's, compressed
        echo "rm /var/log/access.log"; echo "write $W/log.$m.gz /var/log/access.log.$m.gz"; }
    echo "write $W/log.$n /var/log/access.log"
    case $n in
    2)  echo "mkdir /opt"                                                   # a package comes
        for f in 1 2 3; do tool noise --seed 7$f --bytes 600000 --out "$W/pkg$f"; gzip -nk "$W/pkg$f"
            echo "write $W/pkg$f.gz /opt/pkg$f.gz"; done ;;
    3)  tar --sort=name --mtime=@1750000000 --owner=0 --group=0 -cf "$W/site.tar" -C "$W" site
        echo "write $W/site.tar /srv/backup.tar" ;;                         # the site once more, in a tar
    4)  echo "rm /opt/pkg2.gz" ;;                                           # a quiet night
    5)  echo "rm /srv/backup.tar" ;;                                        # deleted, not trimmed
    esac
}

# Small disks with the same content in every qcow2 shape a reader must know, plus ones it must handle with care.
shapes() {
    local d=$T/shapes r=$W/shape.raw s
    rm -rf "$d"; mkdir -p "$d"
    dd if="$W/night1.raw" of="$r" bs=1M count=18 conv=sparse status=none
    truncate -s $((32 * 1048576 + 1536)) "$r"                               # not a multiple of a cluster, nor of 4 KiB
    local -A shape=(
        [c64k]="" [c4k]="-o cluster_size=4k" [c512]="-o cluster_size=512" [c2m]="-o cluster_size=2M"
        [v2]="-o compat=0.10" [zlib]="-c" [zstd]="-c -o compression_type=zstd" [extl2]="-o extended_l2=on"
        [prealloc]="-o preallocation=metadata" [refcount1]="-o refcount_bits=1" [refcount64]="-o refcount_bits=64"
        [lazy]="-o lazy_refcounts=on" [datafile]="-o data_file=DATA,data_file_raw=on"
    )
    for s in $(printf '%s\n' "${!shape[@]}" | sort); do
        # shellcheck disable=SC2086
        (cd "$d" && qemu-img convert -f raw -O qcow2 ${shape[$s]//DATA/datafile.raw} "$r" "$s.qcow2")
        scan "shapes/$s.qcow2" qcow2 current
    done
    qemu-img convert -f raw -O vdi -o static=on "$r" "$d/static.vdi"; scan shapes/static.vdi vdi current
    qemu-img convert -f raw -O vmdk -o subformat=monolithicFlat "$r" "$d/flat.vmdk"; scan shapes/flat.vmdk vmdk current
    # zeros and discards over data and over a backing file; a snapshot, then a resize; a persistent dirty bitmap
    (cd "$d" && qemu-img create -q -f qcow2 -b c64k.qcow2 -F qcow2 zeros.qcow2 40M)
    qemu-io -f qcow2 -d unmap -c 'write -z 1M 3M' -c 'write -z -u 8M 1M' -c 'discard 12M 2M' -c 'write -P 7 5000k 11k' \
        -c 'write -P 9 33M 64k' "$d/zeros.qcow2" >/dev/null
    scan shapes/zeros.qcow2 qcow2 current
    cp "$d/c64k.qcow2" "$d/resized.qcow2"
    qemu-img snapshot -c before "$d/resized.qcow2"
    qemu-img resize -q "$d/resized.qcow2" 48M
    qemu-io -f qcow2 -c 'write -P 5 40M 1M' "$d/resized.qcow2" >/dev/null
    qemu-img snapshot -c 'after resize' "$d/resized.qcow2"
    qemu-img bitmap --add "$d/resized.qcow2" b0
    scan shapes/resized.qcow2 qcow2 "snapshot:before%$(stat -c %s "$r")"
    scan shapes/resized.qcow2 qcow2 "snapshot:after resize"
    scan shapes/resized.qcow2 qcow2 current
    # a snapshot that also holds a machine's memory (savevm): its L1 table covers more than the disk
    if command -v qemu-system-x86_64 >/dev/null; then
        cp "$d/c64k.qcow2" "$d/vmstate.qcow2"
        printf 'savevm live\nquit\n' | timeout 60 qemu-system-x86_64 -accel tcg -M pc -m 16 -S -display none -nodefaults \
            -monitor stdio -drive "file=$d/vmstate.qcow2,format=qcow2,if=ide" >/dev/null
        scan shapes/vmstate.qcow2 qcow2 snapshot:live
        scan shapes/vmstate.qcow2 qcow2 current
    fi
    status "shapes: qcow2, vdi and vmdk variants"
}

# clones SOURCE-ARGS... : vm-clone in VDI and the three VMDK subformats, from what qemu-img convert reads.
clones() {
    local d=$T/vm-clone s
    rm -rf "$d"; mkdir -p "$d"
    qemu-img convert "$@" -O vdi "$d/vm-web-night1.vdi"
    scan vm-clone/vm-web-night1.vdi vdi current
    qemu-img convert "$@" -O vmdk -o subformat=monolithicSparse "$d/vm-web-night1.vmdk"
    qemu-img convert "$@" -O vmdk -o subformat=streamOptimized "$d/vm-web-night1-stream.vmdk"
    qemu-img convert "$@" -O vmdk -o subformat=twoGbMaxExtentSparse "$d/vm-web-night1-2gb.vmdk"
    for s in "" -stream -2gb; do same vm-clone/vm-web-night1.vdi vdi vm-clone/vm-web-night1$s.vmdk vmdk; done
}

# =================================================================== full
R=$W/root                # where the guest in hand is mounted
APT='apt-get -y -q -o Dpkg::Use-Pty=0 -o Acquire::Check-Valid-Until=false -o Acquire::Check-Date=false -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io'

# disk_open NAME IMAGE [FORMAT] [ro] : the image as a plain file, $W/NAME.raw, over FUSE.
disk_open() {
    local name=$1 img=$2 fmt=${3:-qcow2} w=on ro=off i
    [ "${4:-}" != ro ] || { w=off; ro=on; }
    : >"$W/$name.raw"
    qemu-storage-daemon \
        --blockdev "driver=file,node-name=f,filename=$img,discard=unmap,cache.no-flush=on,read-only=$ro" \
        --blockdev "driver=$fmt,node-name=q,file=f,discard=unmap,cache.no-flush=on,read-only=$ro" \
        --export "fuse,id=e,node-name=q,mountpoint=$W/$name.raw,writable=$w" &
    QSD[$name]=$!
    for i in {1..100}; do
        [ ! -s "$W/$name.raw" ] || return 0
        kill -0 "${QSD[$name]}" 2>/dev/null || break
        sleep 0.1
    done
    die "qemu-storage-daemon did not export $img"
}
# disk_close NAME : flush and stop the export; the image is then consistent and closed.
disk_close() {
    local i
    for i in {1..100}; do losetup -j "$W/$1.raw" | grep -q . || break; sleep 0.1; done    # autoclear is not instant
    sync -f "$W/$1.raw"
    kill -TERM "${QSD[$1]}"; wait "${QSD[$1]}" || true
    unset "QSD[$1]"
    rm -f "$W/$1.raw"
}
# part_mount NAME OFFSET-MiB SIZE-MiB DIR [OPTIONS]
part_mount() {
    mkdir -p "$4"
    mount -o "loop,offset=$(($2 << 20)),sizelimit=$(($3 << 20))${5:+,$5}" "$W/$1.raw" "$4"
    MNT+=("$4")
}
part_umount() { umount "$1"; local m a=(); for m in "${MNT[@]}"; do [ "$m" = "$1" ] || a+=("$m"); done; MNT=(${a[@]+"${a[@]}"}); }
# part_mkfs NAME OFFSET-MiB SIZE-MiB MKFS... : run a mkfs that wants a block device.
part_mkfs() {
    local name=$1 off=$2 size=$3 l rc=0; shift 3
    l=$(losetup -f --show -o $((off << 20)) --sizelimit $((size << 20)) "$W/$name.raw")
    "$@" "$l" || rc=$?
    losetup -d "$l"
    return $rc
}
# in_guest : run the script on standard input in the guest. A PID namespace of its own: no daemon survives it.
in_guest() {
    unshare --mount --propagation private --pid --fork --kill-child bash -euc '
        R=$1; APT=$2; log=$3
        mount -t proc proc "$R/proc"; mount -t sysfs sysfs "$R/sys"; mount --bind /dev "$R/dev"
        mount -t devpts -o newinstance,ptmxmode=0666 devpts "$R/dev/pts"; mount -t tmpfs tmpfs "$R/dev/shm"
        mount -t tmpfs tmpfs "$R/run"
        mount --bind /etc/resolv.conf "$R/etc/resolv.conf"       # reach the mirror; nothing of it is kept
        printf "#!/bin/sh\nexit 101\n" >"$R/usr/sbin/policy-rc.d"; chmod 755 "$R/usr/sbin/policy-rc.d"
        exec chroot "$R" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 TZ=UTC \
            DEBIAN_FRONTEND=noninteractive APT="$APT" bash -eu >>"$log" 2>&1' _ "$R" "$APT" "$W/guest.log" ||
        { tail -20 "$W/guest.log" >&2; die "a guest script failed"; }
    rm -f "$R/usr/sbin/policy-rc.d"
}
# bootstrap HOSTNAME PACKAGES... : Debian's point release into $R (no updates yet: they come one night).
bootstrap() {
    local name=$1; shift
    mkdir -p "$W/debs"
    unshare --mount --propagation private --pid --fork --kill-child --mount-proc \
        debootstrap --variant=minbase --cache-dir="$W/debs" $suite "$R" "$mirror" >"$W/debootstrap.log" 2>&1 ||
        { tail -20 "$W/debootstrap.log" >&2; die "debootstrap failed"; }
    echo "$name" >"$R/etc/hostname"
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$name" >"$R/etc/hosts"
    echo 'nameserver 192.0.2.53' >"$R/etc/resolv.conf"
    echo "deb $mirror $suite main" >"$R/etc/apt/sources.list"
    in_guest <<<"\$APT update; \$APT install --no-install-recommends $*"
    # what the boot test waits for on the serial console; powers off by itself when asked to on the command line
    cat >"$R/etc/systemd/system/corpus-report.service" <<'UNIT'
[Unit]
Description=Say that the system came up
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo "CORPUS-BOOT-OK $(hostname) $(cat /etc/corpus-night) failed-units=$(systemctl --failed --plain --no-legend | wc -l)" >/dev/ttyS0; logger "corpus report"; sync; if grep -q corpus.poweroff /proc/cmdline; then sleep 5; systemctl poweroff; fi'
[Install]
WantedBy=multi-user.target
UNIT
    in_guest <<<'systemctl enable corpus-report.service'
}
# rotate DAY LINES : the day's access log, and logrotate's work on the older ones
rotate() {
    local l=$R/var/log/nginx/access.log i
    mkdir -p "${l%/*}"
    [ ! -e "$l.2.gz" ] || for i in 6 5 4 3 2; do [ ! -e "$l.$i.gz" ] || mv "$l.$i.gz" "$l.$((i + 1)).gz"; done
    [ ! -e "$l.1" ] || { gzip -n "$l.1"; mv "$l.1.gz" "$l.2.gz"; }
    [ ! -e "$l" ] || mv "$l" "$l.1"
    tool weblog --seed "$1" --day "$1" --lines "$2" >"$l"
    tool weblog --seed "5$1" --day "$1" --lines 20000 >>"$R/var/log/syslog"       # appended, not rotated
}

WEB_OFF=2 WEB_SIZE=8189          # root partition, MiB
web_open() { disk_open web "$T/vm-web/vm-web.qcow2"; part_mount web $WEB_OFF $WEB_SIZE "$R"; }
# web_close NIGHT [trim] : unmount, and take the nightly snapshot of the stopped machine
web_close() {
    echo "night-$1" >"$R/etc/corpus-night"
    sync -f "$R"
    [ "${2:-}" != trim ] || fstrim "$R"
    cp -L "$R/vmlinuz" "$W/web.vmlinuz"; cp -L "$R/initrd.img" "$W/web.initrd"
    part_umount "$R"
    disk_close web
    [ "${3:-}" != boot ] || web_boot
    qemu-img snapshot -c "night-$1" "$T/vm-web/vm-web.qcow2"
    status "vm-web night-$1  ($(stat -c %b "$T/vm-web/vm-web.qcow2" | awk '{printf "%d MiB", $1 / 2048}'))"
}
# Let the guest run until it powers itself off: journal, boot-time writes, mount counts. KVM if it gets
# anywhere (nested KVM does not always get through a BIOS), else QEMU's own emulation; else not at all.
web_boot() {
    command -v qemu-system-x86_64 >/dev/null || { status "vm-web: no qemu-system-x86_64, not booted"; return 0; }
    local acc i pid said='' limit=120
    for acc in kvm tcg; do
        [ "$acc" = tcg ] || [ -w /dev/kvm ] || continue
        [ "$acc" = kvm ] || limit=400
        rm -f "$W/boot.log"
        timeout $limit qemu-system-x86_64 -accel $acc -cpu max -m 1024 -display none -nodefaults -no-reboot \
            -serial "file:$W/boot.log" -kernel "$W/web.vmlinuz" -initrd "$W/web.initrd" \
            -append "root=/dev/vda2 ro console=ttyS0 corpus.poweroff" \
            -drive "file=$T/vm-web/vm-web.qcow2,format=qcow2,if=virtio,discard=unmap,cache=unsafe" </dev/null &
        pid=$!
        for i in {1..20}; do sleep 1; [ ! -s "$W/boot.log" ] && kill -0 "$pid" 2>/dev/null || break; done
        # Nothing on the console: nothing was written to the disk either. QEMU may have ended by itself, as where KVM lacks a feature.
        [ -s "$W/boot.log" ] || kill "$pid" 2>/dev/null || true
        wait "$pid" || true
        said=$(tr -d '\r' <"$W/boot.log" | grep -ao 'CORPUS-BOOT-OK.*') && break
    done
    status "vm-web booted ($acc): ${said:-no report on the console}"
}

vm_web() {
    local d=$T/vm-web uuid n prev=
    rm -rf "$d"; mkdir -p "$d"
    qemu-img create -q -f qcow2 "$d/vm-web.qcow2" 8G
    disk_open web "$d/vm-web.qcow2"
    printf 'label: gpt\nstart=1MiB,size=1MiB,type=21686148-6449-6E6F-744E-656564454649\nstart=%dMiB,size=%dMiB,type=linux\n' \
        $WEB_OFF $WEB_SIZE | sfdisk -q "$W/web.raw"
    mke2fs -q -F -t ext4 -L web-root -E offset=$((WEB_OFF << 20)) "$W/web.raw" $((WEB_SIZE * 1024))k
    part_mount web $WEB_OFF $WEB_SIZE "$R"
    bootstrap vm-web linux-image-cloud-amd64 systemd-sysv udev dbus openssh-server nginx python3 git vim curl ca-certificates \
        rsyslog logrotate cron less iproute2 ifupdown grub-pc-bin grub-common zstd
    uuid=$(blkid -p -O $((WEB_OFF << 20)) -s UUID -o value "$W/web.raw")
    echo "UUID=$uuid / ext4 errors=remount-ro 0 1" >"$R/etc/fstab"
    # GRUB in the MBR and the BIOS boot partition, so that a restored disk boots by itself
    mkdir -p "$R/boot/grub"
    cat >"$R/boot/grub/grub.cfg" <<CFG
set timeout=0
serial --unit=0 --speed=115200
terminal_output console serial
menuentry Debian {
    search --no-floppy --fs-uuid --set=root $uuid
    linux /vmlinuz root=UUID=$uuid ro console=ttyS0
    initrd /initrd.img
}
CFG
    in_guest <<'G'
grub-mkimage -O i386-pc -p '(hd0,gpt2)/boot/grub' -o /boot/grub/core.img biosdisk part_gpt ext2 normal linux search \
    search_fs_uuid serial terminal configfile echo test
cp /usr/lib/grub/i386-pc/boot.img /boot/grub/
G
    sync -f "$R"
    tool grub --boot "$R/boot/grub/boot.img" --core "$R/boot/grub/core.img" --disk "$W/web.raw" --lba 2048 --room 1048576
    status "vm-web installed"

    # day 1: the site goes up, traffic starts
    tool site --seed 1 --version 1 --files 2500 --dir "$R/var/www/html"
    rotate 1 120000
    in_guest <<<'$APT clean'
    web_close 1 trim

    web_open    # day 2: security updates (kernel, openssl, python, nginx, ...) and a day's logs
    echo "deb $security $suite-security main" >>"$R/etc/apt/sources.list"
    rotate 2 110000
    in_guest <<'G'
$APT update
$APT dist-upgrade --no-install-recommends
G
    web_close 2

    web_open    # day 3: PHP and redis come, vim goes; a tenth of the site is deployed anew
    rotate 3 130000
    tool site --seed 1 --version 2 --files 2500 --dir "$R/var/www/html"
    in_guest <<'G'
$APT install --no-install-recommends php-fpm php-cli php-mysql redis-server
$APT purge vim
$APT autoremove --purge
sed -i 's/worker_connections 768/worker_connections 2048/' /etc/nginx/nginx.conf
G
    web_close 3

    web_open    # day 4: a quiet one: logs, a git repository, one edited file
    rotate 4 100000
    in_guest <<'G'
mkdir -p /srv/app; cp -r /usr/lib/python3/dist-packages/. /srv/app/ 2>/dev/null || true; cp -r /usr/share/nginx /srv/app/
cd /srv/app; git init -q; git config user.email a@example.org; git config user.name a; git add -A; git commit -qm one
for i in 1 2 3 4 5; do echo "line $i" >>README; git add -A; git commit -qm "change $i"; done
sed -i 's/#PermitRootLogin.*/PermitRootLogin no/' /etc/ssh/sshd_config
G
    web_close 4

    web_open    # day 5: a compiler is installed, something is built; the site is backed up, as tar and tar.gz
    rotate 5 120000
    in_guest <<'G'
$APT install --no-install-recommends build-essential
mkdir -p /srv/build; cd /srv/build
for i in $(seq 40); do printf '#include <stdio.h>\nint f%d(int x){for(int i=0;i<%d;i++)printf("%%d\\n",x*i);return x;}\n' $i $i >f$i.c; gcc -O2 -g -c f$i.c; done
tar -cf /root/site.tar -C /var/www .; tar -czf /root/site.tar.gz -C /var/www .
G
    web_close 5

    web_open    # day 6: it all goes again, with the old kernel; caches cleaned; the guest trims
    rotate 6 90000
    in_guest <<'G'
$APT purge build-essential
$APT autoremove --purge
old=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 'linux-image-[0-9]*' | awk '$1 == "ii" { print $2 }' | sort -V | head -n -1)
[ -z "$old" ] || $APT purge $old
$APT clean
rm -rf /srv/build /root/site.tar
G
    web_close 6 trim

    web_open    # day 7: vim is back, third version of the site, git gc; then the machine runs for a minute
    rotate 7 125000
    tool site --seed 1 --version 3 --files 2500 --dir "$R/var/www/html"
    in_guest <<'G'
$APT install --no-install-recommends vim
cd /srv/app; for i in 6 7 8; do echo "line $i" >>README; git add -A; git commit -qm "change $i"; done; git gc -q
G
    web_close 7 "" boot
    qemu-img check -q "$d/vm-web.qcow2" || die "vm-web.qcow2 is not clean"

    for n in 1 2 3 4 5 6 7; do
        # shellcheck disable=SC2086
        scan vm-web/vm-web.qcow2 qcow2 "snapshot:night-$n" $prev
        prev=$(key vm-web/vm-web.qcow2 "snapshot:night-$n")
    done
    scan vm-web/vm-web.qcow2 qcow2 current "$prev"
    scan_flush
    status "vm-web DONE: 7 internal snapshots"
}

# ---- vm-db: MBR; ext4 root, XFS for PostgreSQL; base <- night1 <- night2 <- night3
DB_OFF1=1 DB_SIZE1=3584 DB_OFF2=3585 DB_SIZE2=4606
db_open() { disk_open db "$T/vm-db/$1.qcow2"; part_mount db $DB_OFF1 $DB_SIZE1 "$R"; part_mount db $DB_OFF2 $DB_SIZE2 "$R/var/lib/postgresql"; }
db_close() {
    echo "$1" >"$R/etc/corpus-night"
    sync -f "$R"
    part_umount "$R/var/lib/postgresql"; part_umount "$R"
    disk_close db
    status "vm-db $1  ($(stat -c %b "$T/vm-db/$1.qcow2" | awk '{printf "%d MiB", $1 / 2048}'))"
}
db_overlay() { (cd "$T/vm-db" && qemu-img create -q -f qcow2 -b "$1.qcow2" -F qcow2 "$2.qcow2"); db_open "$2"; }
PGFUN='
pg_start() { install -d -o postgres -g postgres -m 2775 /run/postgresql; pg_ctlcluster 15 main start -- -w; }
pg_stop() { pg_ctlcluster 15 main stop -- -m fast; }
as() { su postgres -s /bin/bash -c "$*"; }
# accounts in a window that moves night by night get most of the updates, the rest get few
cat >/tmp/hot.sql <<S
\\set aid random(:lo, :lo + :width)
\\set tid random(1, 10)
\\set delta random(-5000, 5000)
begin;
update pgbench_accounts set abalance = abalance + :delta where aid = :aid;
update pgbench_tellers set tbalance = tbalance + :delta where tid = :tid;
insert into pgbench_history (tid, bid, aid, delta, mtime) values (:tid, 1, :aid, :delta, current_timestamp);
end;
S
churn() { as "pgbench -n -f /tmp/hot.sql -D lo=$1 -D width=$2 -t $3 -c 2 --random-seed=$1 bench"; }
'
vm_db() {
    local d=$T/vm-db n p prev scale=90
    rm -rf "$d"; mkdir -p "$d"
    qemu-img create -q -f qcow2 "$d/base.qcow2" 8G
    disk_open db "$d/base.qcow2"
    printf 'label: dos\nstart=%dMiB,size=%dMiB,type=83,bootable\nstart=%dMiB,size=%dMiB,type=83\n' \
        $DB_OFF1 $DB_SIZE1 $DB_OFF2 $DB_SIZE2 | sfdisk -q "$W/db.raw"
    mke2fs -q -F -t ext4 -L db-root -E offset=$((DB_OFF1 << 20)) "$W/db.raw" $((DB_SIZE1 * 1024))k
    part_mkfs db $DB_OFF2 $DB_SIZE2 mkfs.xfs -q -L pgdata
    part_mount db $DB_OFF1 $DB_SIZE1 "$R"
    part_mount db $DB_OFF2 $DB_SIZE2 "$R/var/lib/postgresql"
    bootstrap vm-db linux-image-cloud-amd64 systemd-sysv udev dbus openssh-server python3 curl ca-certificates rsyslog logrotate \
        cron less iproute2 ifupdown xfsprogs postgresql postgresql-contrib zstd
    printf 'LABEL=db-root / ext4 errors=remount-ro 0 1\nLABEL=pgdata /var/lib/postgresql xfs defaults 0 2\n' >"$R/etc/fstab"
    printf "fsync = off\nmax_wal_size = 256MB\nmin_wal_size = 80MB\nwal_recycle = on\nshared_buffers = 256MB\n" \
        >"$R/etc/postgresql/15/main/conf.d/corpus.conf"
    in_guest <<<"$PGFUN"'
$APT clean
pg_start
as createdb bench
as pgbench -i -q -s '$scale' bench
as "psql -q bench -c \"create table events(id bigserial primary key, at timestamptz, kind text, body jsonb)\""
pg_stop'
    db_close base

    db_overlay base night1     # security updates (the same ones as vm-web's day 2) and transactions
    echo "deb $security $suite-security main" >>"$R/etc/apt/sources.list"
    in_guest <<<"$PGFUN"'
$APT update; $APT dist-upgrade --no-install-recommends; $APT clean
pg_start; churn 100000 400000 15000; churn 1 8999999 1500; pg_stop'
    db_close night1

    db_overlay night1 night2   # transactions elsewhere, a bulk load, a purge, VACUUM
    in_guest <<<"$PGFUN"'
pg_start; churn 600000 400000 15000; churn 1 8999999 1500
as "psql -q bench" <<S
insert into events(at, kind, body) select now() + i * interval '"'1s'"', (array['"'login','buy','view'"'])[1 + i % 3],
  jsonb_build_object('"'user'"', i % 5000, '"'ref'"', md5(i::text), '"'n'"', i) from generate_series(1, 250000) i;
delete from pgbench_history where ctid in (select ctid from pgbench_history limit 5000);
vacuum analyze;
S
pg_stop'
    db_close night2

    db_overlay night2 night3   # transactions, half the events go, an index is rebuilt, a dump is written
    in_guest <<<"$PGFUN"'
pg_start; churn 1100000 400000 15000; churn 1 8999999 1500
as "psql -q bench" <<S
delete from events where id % 2 = 0;
insert into events(at, kind, body) select now(), '"'late'"', jsonb_build_object('"'ref'"', md5((i * 7)::text)) from generate_series(1, 60000) i;
vacuum events;
reindex index events_pkey;
S
mkdir -p /var/backups/pg; chown postgres /var/backups/pg
as "pg_dump -t events -t pgbench_history -f /var/backups/pg/events.sql bench"
pg_stop'
    db_close night3
    for n in base night1 night2 night3; do qemu-img check -q "$d/$n.qcow2" || die "vm-db/$n.qcow2 is not clean"; done
    p=
    for n in base night1 night2 night3; do
        # shellcheck disable=SC2086
        scan vm-db/$n.qcow2 qcow2 current $p
        p=$(key vm-db/$n.qcow2 current)
    done
    scan_flush
    status "vm-db DONE: external chain of 4"
}

# ---- vm-big-binary: packages and game music on btrfs; 2 MiB clusters; two internal snapshots
vm_big() {
    local d=$T/vm-big-binary img
    rm -rf "$d"; mkdir -p "$d" "$W/dl"
    img=$d/vm-big-binary.qcow2
    (cd "$W/dl" && for p in supertuxkart-data wesnoth-1.16-music wesnoth-1.16-data firefox-esr chromium thunderbird libreoffice-core; do
        apt-get download -q -o APT::Sandbox::User=root "$p" >/dev/null 2>&1 || echo "no $p"; done) >&2
    qemu-img create -q -f qcow2 -o cluster_size=2M "$img" 8G
    disk_open big "$img"
    printf 'label: gpt\nstart=1MiB,size=8189MiB,type=linux\n' | sfdisk -q "$W/big.raw"
    part_mkfs big 1 8189 mkfs.btrfs -q -L media
    part_mount big 1 8189 "$R"
    mkdir -p "$R/debs" "$R/media"
    cp "$W"/dl/supertuxkart-data_* "$W"/dl/firefox-esr_* "$W"/dl/chromium_* "$W"/dl/thunderbird_* "$R/debs/" 2>/dev/null || true
    dpkg-deb -x "$W"/dl/wesnoth-1.16-music_*.deb "$R/media" || tool noise --seed 1 --bytes 150000000 --out "$R/media/noise"
    tool noise --seed 2 --bytes 200000000 --out "$R/media/capture-1.mp4"
    part_umount "$R"; disk_close big
    qemu-img snapshot -c state-1 "$img"
    disk_open big "$img"
    part_mount big 1 8189 "$R"
    rm -f "$R"/debs/thunderbird_*                                            # some go, some come, some move
    cp "$W"/dl/wesnoth-1.16-data_* "$W"/dl/libreoffice-core_* "$R/debs/" 2>/dev/null || true
    mkdir "$R/archive"; mv "$R"/debs/firefox-esr_* "$R/archive/" || true
    cp --reflink=never "$R"/debs/chromium_* "$R/archive/" || true                     # a second copy
    tool noise --seed 3 --bytes 20000000 --out "$W/more"; cat "$W/more" >>"$R/media/capture-1.mp4"; rm "$W/more"
    tar -cf "$R/archive/music.tar" --sort=name -C "$R/media" usr || true     # the same music, shifted inside a tar
    sync -f "$R"; part_umount "$R"; disk_close big
    qemu-img snapshot -c state-2 "$img"
    qemu-img check -q "$img" || die "vm-big-binary is not clean"
    rm -rf "$W/dl"
    scan vm-big-binary/vm-big-binary.qcow2 qcow2 snapshot:state-1
    scan vm-big-binary/vm-big-binary.qcow2 qcow2 snapshot:state-2 "$(key vm-big-binary/vm-big-binary.qcow2 snapshot:state-1)"
    scan_flush
    status "vm-big-binary DONE: 2 states"
}

# ---- vm-clone: vm-web's night-1 in other formats; vm-shift: its files in a fresh file system, its partition moved
vm_clone() {
    local web=$T/vm-web/vm-web.qcow2 d=$T/vm-shift S=$W/src
    clones -f qcow2 -l night-1 "$web"
    status "vm-clone: vdi, 3 x vmdk (all equal to vm-web night-1)"
    rm -rf "$d"; mkdir -p "$d"
    disk_open src "$T/vm-clone/vm-web-night1.vdi" vdi ro
    part_mount src $WEB_OFF $WEB_SIZE "$S" ro,noload
    qemu-img create -q -f qcow2 "$W/fresh.qcow2" 8G
    disk_open new "$W/fresh.qcow2"
    printf 'label: dos\nstart=1MiB,size=8190MiB,type=83\n' | sfdisk -q "$W/new.raw"
    mke2fs -q -F -t ext4 -L web-root -E offset=1048576 "$W/new.raw" $((8190 * 1024))k
    part_mount new 1 8190 "$R"
    tar --sort=name --one-file-system -C "$S" -cf - . | tar -C "$R" -xpf -    # another order than apt's
    sync -f "$R"; part_umount "$R"; disk_close new
    part_umount "$S"
    qemu-img convert -f qcow2 -O qcow2 -c -o compression_type=zstd -m 2 "$W/fresh.qcow2" "$d/reinstall-zstd.qcow2"
    rm "$W/fresh.qcow2"
    # the partition itself, byte for byte, but at sector 63 as old partitioning tools had it: nothing is 4 KiB-aligned
    qemu-img create -q -f qcow2 "$W/s63.qcow2" 8G
    disk_open new "$W/s63.qcow2"
    tool mbr --disk "$W/new.raw" --start 63 --sectors $((WEB_SIZE * 2048))
    tool copyat --src "$W/src.raw" --src-off $((WEB_OFF << 20)) --dst "$W/new.raw" --dst-off $((63 * 512)) --length $((WEB_SIZE << 20))
    disk_close new; disk_close src
    qemu-img convert -f qcow2 -O qcow2 -c -m 2 "$W/s63.qcow2" "$d/sector63-compressed.qcow2"
    rm "$W/s63.qcow2"
    scan vm-shift/reinstall-zstd.qcow2 qcow2 current
    scan vm-shift/sector63-compressed.qcow2 qcow2 current
    scan_flush
    status "vm-clone and vm-shift DONE"
}

full() {
    : >"$T/STATUS"
    rm -rf --one-file-system "$W"; mkdir -p "$W/rows" "$W/hash" "$R"
    local v
    for v in web db big clone; do case " $only " in *" $v "*) vm_$v ;; esac; done
    finish
}

case $scale in
small) small ;;
full) full ;;
*) die "scale is small or full" ;;
esac
