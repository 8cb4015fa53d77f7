"""differential.py - what the differential tests of image formats share: images by number, each from a seed of its own, in a
folder that stays when it fails, with the commands that made it.

Arguments: KEDGE IMAGES SEED PART, where PART=i/n makes every n-th image, beginning with i.
"""
import collections
import hashlib
import os
import random
import shutil
import subprocess
import sys

# A model may be used without them.
KEDGE, IMAGES, SEED, PART = (sys.argv[1:] + ['', '0', '', '1/1'][len(sys.argv) - 1:])[:4]
KIB, MIB = 1 << 10, 1 << 20
seen = collections.Counter()    # what was exercised, printed at the end


class Failed(Exception):
    pass


def run(log, cwd, *args):
    """Notes the command in the log; its output."""
    log.append(' '.join(args))
    p = subprocess.run(args, cwd=cwd, capture_output=True)
    if p.returncode:
        raise Failed(f'exit {p.returncode}: {p.stderr.decode(errors="replace").strip()}')
    return p.stdout


def sha(data):
    return hashlib.sha256(data).hexdigest()


def same(who, got, content):
    """What `who` reads must be what the image holds."""
    if got != content:
        first = next((i for i, (a, b) in enumerate(zip(got, content)) if a != b), min(len(got), len(content)))
        raise Failed(f'{who} reads {len(got)} bytes, {len(content)} wanted, other ones from {first} on')


def seven_zip(log, where, name, content):
    same('7-Zip', run(log, where, '7zz', 'e', '-so', name), content)
    seen['read by 7-Zip'] += 1


def save(where, content):
    """As want.raw, for qemu-img compare."""
    with open(f'{where}/want.raw', 'wb') as f:
        f.write(content)


def change(r, content, size, unit=1):
    """Another state of the disk, of size bytes; changed in whole units."""
    out = bytearray(content[:size].ljust(size, b'\0'))
    for _ in range(r.randrange(1, 8)):
        off = r.randrange(0, size, unit)
        n = min(size - off, r.choice([1, 512, 4096, 70000, MIB, 3 * MIB]))
        n = max(n - n % unit, unit)
        out[off:off + n] = bytes(n) if r.random() < 0.3 else r.randbytes(min(n, 5000)).ljust(n, bytes([r.randrange(256)]))
    return bytes(out)


def qemu_writes(r, log, where, fmt, name, size, count, zeros='-z'):
    """So many writes by qemu-io of patterns and zeros at random places."""
    commands = []
    for _ in range(count):
        off = r.randrange(0, size, 512)
        n = min(size - off, r.choice([512, 4096, 65536, MIB, 3 * MIB]))
        commands += ['-c', f'write {zeros if r.random() < 0.2 else f"-P {r.randrange(1, 256)}"} {off} {n}']
    if commands:
        run(log, where, 'qemu-io', '-f', fmt, *commands, name)


def qemu_reads(log, where, fmt, name):
    """The content as QEMU has it."""
    run(log, where, 'qemu-img', 'convert', '-f', fmt, '-O', 'raw', name, 'q.raw')
    with open(f'{where}/q.raw', 'rb') as f:
        return f.read()


def each(check):
    """check(r, where, log, number) for every image of this part; ends the program."""
    part, parts = (int(x) for x in PART.split('/'))
    numbers, good = range(part, int(IMAGES) + 1, parts), 0
    for number in numbers:
        where, log = f'image-{number}', []
        os.mkdir(where)
        try:
            check(random.Random(f'{SEED}-{number}'), where, log, number)
        except Failed as e:
            print(f'FAILED: image {number} of seed {SEED}: {e}')
            print('\n'.join('    ' + line for line in log))
            continue
        shutil.rmtree(where)
        good += 1
    print(f'{good} of {len(numbers)} images good; ' + ', '.join(f'{k} {v}' for k, v in sorted(seen.items())))
    sys.exit(0 if good == len(numbers) and good else 1)
