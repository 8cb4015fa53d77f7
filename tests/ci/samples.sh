#!/bin/bash
# Images written by other programs decode to the truth, or are refused for the reason given.
#
# KEDGE_SAMPLES names the folder of unpacked images; their list, MANIFEST.tsv, lies in it or beside it: path, source,
# format, digest:bytes as qemu-img gives them (digests may be cut short by an ellipsis) or its error, and the truth where
# that differs.  What isn't read yet must be refused under its name.
set -u
: "${KEDGE:?}"
samples=${KEDGE_SAMPLES:-}
[ -n "$samples" ] || { echo "SKIP: samples: KEDGE_SAMPLES names no folder of sample images"; exit 77; }
manifest=$samples/MANIFEST.tsv
[ -f "$manifest" ] || manifest=$(dirname "$samples")/MANIFEST.tsv
[ -f "$manifest" ] || { echo "no MANIFEST.tsv in or beside $samples"; exit 1; }
cd "$samples" || exit 1
command -v openssl >/dev/null || { echo "SKIP: openssl is not installed"; exit 77; }	# hashes 20 GiB a good deal faster than coreutils

base=d6f93e0d53238921ce2e73cfe202561df848c4d011607d303bf68ca1abbfce0a
snap1=74306dcea4085df2a85a69973eb678e9d7f0c6e5244db1870d63f2d6f21f385e
snap2=9382dd6df68d3fd6364a23e55832c3d25f8e8d3d2ea3efd141852a346da070b4
err=$(mktemp) out=$(mktemp) copy=$out.copy
trap 'rm -f "$err" "$out" "$copy"' EXIT
good=0 bad=0

wrong() { echo "WRONG $*"; bad=$((bad + 1)); }

# decodes WANTED-DIGEST(or prefix) WANTED-BYTES(or "") DUMP-ARGUMENT...
decodes() {
	local want=$1 size=$2 got len
	shift 2
	got=$("$KEDGE" dump --no-progress "$@" 2>"$err" | tee >(wc -c >"$out") | openssl dgst -sha256 -r | cut -c1-64
		exit "${PIPESTATUS[0]}") || { wrong "$*: $(cat "$err")"; return; }
	for _ in 1 2 3 4 5; do len=$(cat "$out"); [ -n "$len" ] && break; sleep 0.1; done
	: >"$out"
	[[ $got == "$want"* && ( -z $size || $size = "$len" ) ]] || { wrong "$*: $got:$len, wanted $want:$size"; return; }
	good=$((good + 1))
}

# refused REASON DUMP-ARGUMENT...: fails with exit 1 and says so
refused() {
	local reason=$1
	shift
	"$KEDGE" dump --no-progress --sink null "$@" 2>"$err"
	[ $? = 1 ] && grep -qi -- "$reason" "$err" || { wrong "$*: not refused for \"$reason\": $(cat "$err")"; return; }
	good=$((good + 1))
}

# describes FILE: a machine, whose disks are named
describes() {
	"$KEDGE" info --json "$1" 2>"$err" | jq -e '.kind == "ovf"' >/dev/null || { wrong "$1: $(cat "$err")"; return; }
	good=$((good + 1))
}

exercised=0
while IFS=$'\t' read -r path _ format seen truth; do
	case $path in
	path | '') continue ;;
	esac
	exercised=$((exercised + 1))
	digest=${seen%%:*} digest=${digest%%…*} size=${seen##*:}
	[[ $size =~ ^[0-9]+$ ]] || size=
	case $truth in
	TRUE=base*) digest=$base size=9438720 ;;
	TRUE=snap1*) digest=$snap1 size=9438720 ;;
	TRUE=snap2*) digest=$snap2 size=9438720 ;;
	TRUE=*:*)	truth=${truth#TRUE=} truth=${truth%% *} digest=${truth%%:*} size=${truth##*:} ;;
	esac
	case $format:$path in
	raw:*attack*)	decodes "$digest" "$size" "raw:$path"	# as raw it is just bytes
			refused 'outside the image' "$path" ;;
	raw:*)		decodes "$digest" "$size" "raw:$path"
			refused "raw:$path" "$path" ;;		# never by itself
	qcow*:*-passw0rd.*)	refused 'no secret was given' "$path"
			decodes "$digest" "$size" --image-secret <(printf passw0rd) "$path" ;;
	qcow2:*chain-missing*) refused 'missing.qcow2: No such file' "$path" ;;
	qcow2:*chain-json* | qcow2:*attack-datafile-json*) refused 'json: description, which is never followed' "$path" ;;
	qcow2:*chain-nbd*) refused 'protocol (nbd:), which is never followed' "$path" ;;
	qcow2:*chain-etc-hostname*) refused 'allow-path /etc' "$path" ;;
	qcow2:*)	decodes "$digest" "$size" "$path" ;;
	qcow:*child*)	refused "doesn't say which format its backing file" "$path"
			decodes "$digest" "$size" --backing-format qcow "$path" ;;
	qcow:*)		decodes "$digest" "$size" "$path" ;;
	luks:*)		refused 'LUKS image' "$path" ;;
	vdi:*)		decodes "$digest" "$size" "$path" ;;
	qed:*)		refused 'QED image' "$path" ;;
	parallels:*)	refused 'Parallels image' "$path" ;;
	vhdx:*dirtylog*) decodes 179cefe8b0587f123393eedf2aa7aa8d25798591178e6bc3950a09762f38f96f 10737418240 "$path" ;;
	vhdx:*differential*) decodes a538161f34bc44c12bf9a542ce9218741c62728723ea18d0e4f6ea92e9f32e93 4194304 "$path" ;;
	vhdx:*)		decodes "$digest" "$size" "$path" ;;
	ova:*)		refused 'say which of them is the image' "$path"
			for member in $(tar -tf "$path" | grep 'vmdk$'); do decodes $snap2 9438720 "$path//$member"; done
			describes "$path" ;;
	ovf:*)		describes "$path" ;;
	vpc:*afl5*)	refused 'dynamic header at 512 is outside' "$path" ;;
	vpc:*virtualpc-dynamic*)	# 127 GiB of nothing
			"$KEDGE" map --json "$path" 2>"$err" | tr -d ' 
' | grep -q '^.{"start":0,"length":136365211648,"kind":"zero"}.$' &&
				good=$((good + 1)) || wrong "$path: $(cat "$err")" ;;
	vpc:*.vhdf)	# by its current size; qemu-img 7.2 goes by the geometry
			decodes "$(head -c 5242880 "$path" | sha256sum | cut -c1-64)" 5242880 "$path" ;;
	vpc:*)		decodes "$digest" "$size" "$path" ;;
	vmdk:*afl9*)	refused 'line ends' "$path" ;;
	vmdk:*attack*)	refused 'outside the image' "$path" ;;
	vmdk:*-flat.vmdk | vmdk:*-f001.vmdk) refused 'no known image format' "$path" ;;	# data files are raw
	vmdk:*-s00?.vmdk) refused 'a part of a disk' "$path"
			"$KEDGE" dump --no-progress -q --force --sink null "$path" 2>"$err" && good=$((good + 1)) || wrong "$path: $(cat "$err")" ;;
	vmdk:*version3* | vmdk:*split5g.vmdk)	# 16 and 5 GiB of next to nothing: holes are compared, not hashed
			rm -f "$copy"
			"$KEDGE" dump --no-progress -q -o "$copy" "$path" 2>"$err" &&
				qemu-img compare -q -F raw -f vmdk "$path" "$copy" 2>>"$err" >&2 &&
				good=$((good + 1)) || wrong "$path: $(cat "$err")"
			rm -f "$copy" ;;
	vmdk:*)		[[ $digest =~ ^[0-9a-f]+$ ]] || wrong "$path: the list has no digest of it"
			decodes "$digest" "$size" "$path" ;;
	*)		exercised=$((exercised - 1)) ;;
	esac
done <"$manifest"

# What was stored compressed, as it is stored; the 10 GiB one would take a minute.
for i in d2v-zerofilled.vhd test-disk2vhd.vhdx; do
	want=$(grep "^qemu-iotests/$i" "$manifest" | cut -f4)
	decodes "${want%%:*}" "${want##*:}" "qemu-iotests/compressed/$i.bz2"
done

# Snapshots, at their own sizes: qemu-img convert -l gives each the current disk's.
for i in v3-snaps v3-snaps-zlib v2-snaps; do
	decodes $base 9438720 --state snap:first qemu-7.2/$i.qcow2
	decodes $snap1 9438720 --state snapid:2 qemu-7.2/$i.qcow2
done
decodes $base 9438720 --state snap:small qemu-7.2/v3-snaps-resized.qcow2
decodes "" 20971520 --state snap:big qemu-7.2/v3-snaps-resized.qcow2
# Its first bytes are those of the small one, and 64 KiB of 0x33 lie at 15 MiB: all that was written to it.
"$KEDGE" dump --state snap:big qemu-7.2/v3-snaps-resized.qcow2 2>/dev/null >"$out"
[ "$(head -c 9438720 "$out" | sha256sum | cut -c1-64)" = $base ] || wrong "snap:big: its beginning"
[ "$(tail -c +9438721 "$out" | tr -d '\0' | sha256sum)" = "$(head -c 65536 /dev/zero | tr '\0' 3 | sha256sum)" ] || wrong "snap:big: its end"
# A reference outside the folder is followed when the user says so.
decodes "" 1048576 --allow-path /etc qemu-7.2/chain-etc-hostname.qcow2

echo "$exercised rows; $good checks good, $bad wrong"
[ $bad = 0 ] && [ $exercised -ge 100 ]
