#!/usr/bin/env python3
"""differential_vdi.py KEDGE IMAGES SEED PART: see differential-vdi.sh.

Every other image is QEMU's: created dynamic or static, written to by qemu-io.  The rest are chains by vdi_model.py, whose files lie
together or apart.  What each must read as is computed, not read.  Each is then written anew by kedge, dynamic or fixed, which must
pass qemu-img check and compare equal and so in 7-Zip.
"""
import os

from differential import KEDGE, MIB, change, each, qemu_reads, qemu_writes, run, same, save, seen, seven_zip
from vdi_model import make_vdi

def model_chain(r, where, log):
    """A chain by the model; returns the top's name, its content and the options that find its parents."""
    content, parent, options = b'', None, []
    size = r.randrange(1, 6 * MIB // 512) * 512
    for i in range(r.choice([1, 1, 2, 3, 5])):
        folder, below = '', content
        content = change(r, content, size)
        if i == 0 and r.random() < 0.3:
            folder = 'apart/'
            os.mkdir(f'{where}/apart')
            options = ['--allow-path', 'apart']
        name = f'{folder}image-{r.randrange(10 ** 9)}.vdi'
        parent = make_vdi(r, f'{where}/{name}', content, below, parent)
        log.append(f'# {name}: layer {i} of {size} bytes')
        seen['layers'] += 1
        if r.random() < 0.3:
            size = r.randrange(1, 6 * MIB // 512) * 512
    return name, content, options


def qemu_image(r, where, log):
    size = r.randrange(1, 8 * MIB // 512) * 512
    static = r.random() < 0.4
    run(log, where, 'qemu-img', 'create', '-q', '-f', 'vdi', '-o', f'static={"on" if static else "off"}', 'q.vdi', str(size))
    qemu_writes(r, log, where, 'vdi', 'q.vdi', size, r.randrange(0, 8))
    seen['QEMU static' if static else 'QEMU dynamic'] += 1
    return 'q.vdi', qemu_reads(log, where, 'vdi', 'q.vdi'), []


def check(r, where, log, number):
    name, content, options = qemu_image(r, where, log) if number % 2 else model_chain(r, where, log)
    save(where, content)
    same(name, run(log, where, KEDGE, 'dump', '--no-progress', *options, name), content)
    how = r.choice([[], ['--subformat', 'dynamic'], ['--subformat', 'fixed'], ['--preallocation', 'metadata'],
                    ['--preallocation', 'falloc'], ['--seed-ids', 'x']])
    run(log, where, KEDGE, 'dump', '-q', '--no-progress', *options, name, '-O', 'vdi', *how, '-o', 'new.vdi')
    run(log, where, 'qemu-img', 'check', '-q', '-f', 'vdi', 'new.vdi')
    run(log, where, 'qemu-img', 'compare', '-q', '-f', 'vdi', '-F', 'raw', 'new.vdi', 'want.raw')
    if number % 4 < 2:
        seven_zip(log, where, 'new.vdi', content)
    seen[f'written {" ".join(how) or "by default"}'] += 1


each(check)
