#!/usr/bin/env python3
"""differential_vmdk.py KEDGE IMAGES SEED PART: see differential-vmdk.sh.

Every other image is QEMU's: all its subformats, with backing files, written to by qemu-io.  The rest are made by
vmdk_model.py.  What each must read as is computed, not read.  Each is then written anew by kedge in some subformat, which must
pass qemu-img check and compare equal, and read equal in libvmdk (streams in 7-Zip too).
"""
import sys

from differential import KEDGE, KIB, MIB, change, each, qemu_reads, qemu_writes, run, same, save, seen, seven_zip
from vmdk_model import SECTOR, make_vmdk

LIBVMDK = '''
import pyvmdk, sys
h = pyvmdk.handle()
h.open(sys.argv[1])
h.open_extent_data_files()
left = h.get_media_size()
while left:
    data = h.read_buffer(min(left, 1 << 20))
    if not data:
        sys.exit('libvmdk ends early')
    sys.stdout.buffer.write(data)
    left -= len(data)
'''


def model_chain(r, where, log):
    content, parent = b'', None
    size = r.randrange(1, 6 * MIB // 512) * 512
    for i in range(r.choice([1, 1, 2, 3, 5])):
        below = content
        content = change(r, content, size, SECTOR)
        name = f'image-{i}.vmdk'
        parent = name, make_vmdk(r, where, name, content, below, parent)
        log.append(f'# {name}: layer {i} of {size} bytes')
        seen['layers'] += 1
        if r.random() < 0.3:
            size = r.randrange(1, 6 * MIB // 512) * 512
    return name, content


def qemu_image(r, where, log):
    size = r.randrange(1, 8 * MIB // 512) * 512
    kind = r.choice(['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat', 'streamOptimized'])
    more = ',zeroed_grain=on' if kind == 'monolithicSparse' and r.random() < 0.5 else ''
    name = 'q.vmdk'
    if kind == 'streamOptimized':
        with open(f'{where}/in.raw', 'wb') as f:
            f.write(change(r, b'', size, SECTOR))
        run(log, where, 'qemu-img', 'convert', '-f', 'raw', '-O', 'vmdk', '-o', f'subformat={kind}', 'in.raw', name)
    else:
        run(log, where, 'qemu-img', 'create', '-q', '-f', 'vmdk', '-o', f'subformat={kind}{more}', name, str(size))
        qemu_writes(r, log, where, 'vmdk', name, size, r.randrange(0, 8))
    for i in range(r.choice([0, 0, 1, 3]) if 'Flat' not in kind else 0):
        below, name = name, f'q{i}.vmdk'
        run(log, where, 'qemu-img', 'create', '-q', '-f', 'vmdk', '-o', f'subformat={r.choice(["monolithicSparse", "twoGbMaxExtentSparse"])}',
            '-b', below, '-F', 'vmdk', name)
        qemu_writes(r, log, where, 'vmdk', name, size, r.randrange(0, 8))
        seen['QEMU delta'] += 1
    seen[f'QEMU {kind}'] += 1
    return name, qemu_reads(log, where, 'vmdk', name)


def check(r, where, log, number):
    name, content = qemu_image(r, where, log) if number % 2 else model_chain(r, where, log)
    save(where, content)
    same(name, run(log, where, KEDGE, 'dump', '--no-progress', name), content)
    kind = r.choice(['monolithicSparse', 'monolithicFlat', 'twoGbMaxExtentSparse', 'streamOptimized', 'streamOptimized', 'vmfs'])
    more = r.choice([[], ['--seed-ids', 'x'], ['--threads', '3']])
    run(log, where, KEDGE, 'dump', '-q', '--no-progress', name, '-O', 'vmdk', '--subformat', kind, *more, '-o', 'new.vmdk')
    if kind != 'vmfs':
        run(log, where, 'qemu-img', 'check', '-q', '-f', 'vmdk', 'new.vmdk')
    run(log, where, 'qemu-img', 'compare', '-q', '-f', 'vmdk', '-F', 'raw', 'new.vmdk', 'want.raw')
    same('kedge', run(log, where, KEDGE, 'dump', '--no-progress', 'new.vmdk'), content)
    same('libvmdk', run(log, where, sys.executable, '-c', LIBVMDK, 'new.vmdk'), content)
    if kind == 'streamOptimized':       # 7-Zip has the whole grains of the header
        seven_zip(log, where, 'new.vmdk', content.ljust(-(-len(content) // (64 * KIB)) * 64 * KIB, b'\0'))
    seen[f'written {kind}'] += 1


each(check)
