# kedge info of machine descriptions, for people and programs; a raw disk that looks like one stays a disk.
. "$TOP/tests/e2e/lib.sh"
cat > web.vmx <<'E'
config.version = "8"
displayName = "web server"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "web-000001.vmdk"
ide1:0.present = "TRUE"
ide1:0.deviceType = "atapi-cdrom"
ide1:0.fileName = "x.iso"
nvram = "web.nvram"
E
cat > web.vmsd <<'E'
snapshot.current = "1"
snapshot0.uid = "1"
snapshot0.displayName = "before"
snapshot0.disk0.fileName = "web.vmdk"
snapshot0.disk0.node = "scsi0:0"
E
k info web.vmx > out
for want in '^kind  *vmware$' '^name  *web server$' 'scsi0-0 .*web-000001.vmdk' 'ide1-0 .*CD drive' 'nvram  *web.nvram' '1  *before .*scsi0-0' '^current on  *before$'; do
	grep -q "$want" out || die "info lacks $want: $(cat out)"
done
k info --json web.vmx | python3 -c '
import json, sys
m = json.load(sys.stdin)
assert m["kind"] == "vmware" and m["snapshots"][0]["disks"] == [{"disk": "scsi0-0", "image": "web.vmdk", "uuid": None}], m
assert [d["name"] for d in m["disks"]] == ["ide1-0", "scsi0-0"] and m["current_snapshot"] == "1", m'
echo 'scsi0:0.present = "TRUE"' >> web.vmx
expect 1 k info web.vmx
grep -q 'web.vmx: lines [0-9]* and [0-9]*: "scsi0:0.present" is there twice' err || die "no line is named: $(cat err)"
expect 2 k info --chain web.vmx
printf '<VirtualBox/>' > disk.raw
truncate -s 1M disk.raw
k info raw:disk.raw | grep -q '^format  *raw$' || die "a disk was taken for a machine"
