# A source that changes while it is read makes the backup incomplete: exit 3, listed so, never `latest`.
. "$TOP/tests/e2e/lib.sh"
needs jq
fresh_repo
truncate -s 400M a.raw
random_at a.raw 0 390000000 1
expect 0 k backup --vm a raw:a.raw
want=$(digest < a.raw)
cp --sparse=always a.raw keep.raw
random_at a.raw 0 390000000 2
# What it will read has been said, and so the file was looked at.
planned() { until grep -q 'to read' err 2>/dev/null; do sleep 0.02; done; }
rm -f err
( planned; for i in $(seq 40); do printf x | dd of=a.raw bs=1 seek=$((350000000 + i)) conv=notrunc status=none; sleep 0.1; done ) &
expect 3 k backup --vm a raw:a.raw
wait
says "a.raw"
expect 0 k list
prints incomplete
equal "$(k list --json | jq -r '.[1].complete')" false complete
equal "$(point_digest a)" "$want" "latest is the complete one"
id=$(k list --json | jq -r '.[1].id' | cut -c1-10)
expect 0 k show "a@$id"
prints "problem: disk0: changed while it was read" INCOMPLETE
# gone while it is read
cp keep.raw b.raw
rm -f err
( planned; : > b.raw ) &
expect 3 k backup --vm b raw:b.raw
wait
expect 1 k restore b -o x.raw		# no complete backup
