"""vdi_model.py - VDI images made from the format's description, and from nothing of kedge.

make_vdi writes an image that turns the content below (the parent's, or nothing) into the content given: any block size, extra bytes before blocks,
header versions, blocks in any order, free and zero ones, as r chooses.
"""
import struct

from differential import KIB, MIB, seen

FREE, ZERO = 0xffffffff, 0xfffffffe


def guid(r):
    return r.randbytes(16)


def header1(r, v):
    size = r.choice([384, 400])
    minor = r.choice([1, 1, 0])
    h = b'<<< differential >>>'.ljust(64, b'\0') + struct.pack('<IHH', 0xbeda107f, minor, 1)
    h += struct.pack('<III', size, v['type'], 0) + b'a comment'.ljust(256, b'\0')
    h += struct.pack('<II', v['map'], v['data']) + struct.pack('<IIIII', 0, 0, 0, 512, 0)
    h += struct.pack('<QIIII', v['size'], v['block'], v['extra'], v['blocks'], v['allocated'])
    return h + v['uuid'] + v['modify'] + v['parent'] + v['parent_modify']


def header0(v):
    h = b'<<< old >>>'.ljust(64, b'\0') + struct.pack('<II', 0xbeda107f, 2)
    h += struct.pack('<II', v['type'], 0) + bytes(272)
    h += struct.pack('<QIII', v['size'], v['block'], v['blocks'], v['allocated'])
    return h + v['uuid'] + v['modify'] + v['parent']


def make_vdi(r, path, content, below, parent):
    """Writes an image that makes content out of below (the parent's content, or zeros); returns its two UUIDs."""
    block = r.choice([4 * KIB, 64 * KIB, 256 * KIB, 512 * KIB, MIB, 2 * MIB, 8 * MIB])
    old = parent is None and r.random() < 0.2
    v = {'type': 4 if parent else r.choice([1, 1, 2]), 'size': len(content), 'block': block,
         'extra': 0 if old else r.choice([0, 0, 512, 4096]), 'blocks': -(-len(content) // block) + r.choice([0, 0, 3]),
         'uuid': guid(r), 'modify': guid(r), 'parent': parent[0] if parent else bytes(16),
         'parent_modify': parent[1] if parent and r.random() < 0.9 else bytes(16)}
    entries, data = [FREE] * v['blocks'], []
    order = list(range(-(-len(content) // block)))
    if v['type'] != 2:
        r.shuffle(order)
    for i in order:
        want = content[i * block:(i + 1) * block]
        if v['type'] != 2 and want == below[i * block:(i + 1) * block].ljust(len(want), b'\0') and r.random() < 0.9:
            continue
        if v['type'] != 2 and not any(want) and r.random() < 0.8:
            entries[i] = ZERO
            seen['zero blocks'] += 1
            continue
        entries[i] = len(data)
        data.append(want.ljust(block, b'\x77'))        # behind the disk's end lies what nobody may see
    v['allocated'] = len(data)
    v['map'] = 420 if old else r.choice([472, 512, 4096, MIB])
    v['data'] = v['map'] + 4 * v['blocks']
    if not old:
        v['data'] = -(-v['data'] // 512) * 512 + r.choice([0, 512])
    with open(path, 'wb') as f:
        f.write(header0(v) if old else header1(r, v))
        f.seek(v['map'])
        f.write(struct.pack(f'<{len(entries)}I', *entries))
        f.truncate(max(v['data'], f.tell()))
        for i, d in enumerate(data):
            f.seek(v['data'] + i * (block + v['extra']))
            f.write(b'\x55' * v['extra'] + d)
    seen[f'block size {block}'] += 1
    seen['version 0' if old else 'version 1'] += 1
    seen['extra bytes'] += v['extra'] > 0
    seen['fixed'] += v['type'] == 2
    return v['uuid'], v['modify']
