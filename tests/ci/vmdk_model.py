"""vmdk_model.py - VMDK images made from the format's description, and from nothing of kedge.

make_vmdk writes an image that turns the content below (the parent's, or nothing) into the content given: several extents of any kind in one
descriptor, grains and tables of any size, grains in any order, entries for zeros, streams of three kinds, COWD and SESparse, damage
that a copy makes good, deltas by CID, as r chooses.
"""
import struct
import zlib

from differential import seen

SECTOR = 512


def up(n, to):
    return -(-n // to) * to


class File:
    """Sectors that are given out one after the other, and what is in them."""

    def __init__(self, sectors):
        self.data = bytearray(sectors * SECTOR)

    def add(self, data, align=1):
        at = up(len(self.data), align * SECTOR)
        self.data = self.data.ljust(at, b'\0') + data
        self.data = self.data.ljust(up(len(self.data), SECTOR), b'\0')
        return at // SECTOR

    def put(self, sector, data):
        self.data[sector * SECTOR:sector * SECTOR + len(data)] = data


def grains_of(r, content, below, grain):
    """Numbers of the grains that the file must have, and those that may be entries for zeros."""
    data, zeros = [], []
    for i in range(-(-len(content) // grain)):
        want, under = content[i * grain:(i + 1) * grain], below[i * grain:(i + 1) * grain]
        if want == under.ljust(len(want), b'\0') and r.random() < 0.9:
            continue
        (data if any(want) or r.random() < 0.3 else zeros).append(i)
    return data, zeros


def header(version, flags, capacity, grain, entries, copy, dir_, overhead, compression, descriptor):
    h = struct.pack('<IIIQQQQIQQQB4sH', 0x564d444b, version, flags, capacity, grain, descriptor, 2 if descriptor else 0, entries,
                    copy, dir_, overhead, 0, b'\n \r\n', compression)
    return h.ljust(SECTOR, b'\0')


def hosted(r, content, below, descriptor):
    """A sparse extent; descriptor: text to embed."""
    grain, entries = r.choice([1, 8, 16, 128]), r.choice([4, 64, 512, 512])
    capacity = up(len(content) // SECTOR, r.choice([1, grain]))
    tables = -(-capacity // (grain * entries))
    data, zeros = grains_of(r, content, below, grain * SECTOR)
    zero_entry = bool(zeros) and r.random() < 0.7
    if not zero_entry:
        data = sorted(data + zeros)
    f = File(3 if descriptor else 1)
    dir_sectors, table_sectors = up(tables * 4, SECTOR) // SECTOR, up(entries * 4, SECTOR) // SECTOR
    copies = r.choice([1, 2, 2])
    places = []
    for _ in range(copies):
        first = len(f.data) // SECTOR
        f.add(bytes((dir_sectors + tables * table_sectors) * SECTOR))
        places.append(first)
    values = [0] * (tables * entries)
    r.shuffle(data)
    for i in data:
        piece = content[i * grain * SECTOR:(i + 1) * grain * SECTOR]
        values[i] = f.add(piece.ljust(grain * SECTOR, b'\x77'), r.choice([1, grain]))
    for i in zeros if zero_entry else []:
        values[i] = 1
    for first in places:
        for t in range(tables):
            at = first + dir_sectors + t * table_sectors
            row = values[t * entries:(t + 1) * entries]
            empty = not any(row) and r.random() < 0.5
            f.data[first * SECTOR + 4 * t:first * SECTOR + 4 * t + 4] = struct.pack('<I', 0 if empty else at)
            f.put(at, struct.pack(f'<{entries}I', *row))
    if copies == 2 and tables and any(values) and r.random() < 0.4:
        used = [t for t in range(tables) if any(values[t * entries:(t + 1) * entries])]
        t = r.choice(used)
        if r.random() < 0.5:        # the last place is the directory that counts
            at = places[1] * SECTOR + 4 * t
            seen['damaged directory'] += 1
        else:
            at = (places[1] + dir_sectors + t * table_sectors) * SECTOR + 4 * r.randrange(entries)
            seen['damaged table'] += 1
        f.data[at:at + 4] = struct.pack('<I', 0x7fffffff)
        # the copy must have what it stands in for
        for x in used:
            p = places[0] * SECTOR + 4 * x
            f.data[p:p + 4] = struct.pack('<I', places[0] + dir_sectors + x * table_sectors)
    f.put(0, header(2 if zero_entry else 1, 1 | (2 if copies == 2 else 0) | (4 if zero_entry else 0), capacity, grain, entries,
                    places[0] if copies == 2 else 0, places[-1], 1, 0, 1 if descriptor else 0))
    if descriptor:
        f.put(1, descriptor)
    seen['entries for zeros'] += zero_entry
    seen[f'grain {grain}'] += 1
    return 'SPARSE', bytes(f.data)


def stream(r, content, below, descriptor):
    """streamOptimized: directory behind the grains, or in front; with markers or without."""
    grain, entries = r.choice([16, 128]), 512
    capacity = up(len(content) // SECTOR, grain)
    tables = -(-capacity // (grain * entries))
    data, zeros = grains_of(r, content, below, grain * SECTOR)
    kind = r.choice(['end', 'end', 'front', 'bare'])
    dir_sectors, table_sectors = up(tables * 4, SECTOR) // SECTOR, 4
    f = File(3)
    front = f.add(bytes((dir_sectors + tables * table_sectors) * SECTOR)) if kind != 'end' else 0
    values = [0] * (tables * entries)
    order = sorted(data + zeros)
    if kind != 'end':
        r.shuffle(order)
    for i in order:
        piece = content[i * grain * SECTOR:(i + 1) * grain * SECTOR]
        if r.random() < 0.5:
            piece = piece.ljust(grain * SECTOR, b'\0')        # the last may be short
        packed = zlib.compress(piece, r.choice([0, 1, 9]))
        values[i] = f.add(packed if kind == 'bare' else struct.pack('<QI', i * grain, len(packed)) + packed)
    rows = [struct.pack(f'<{entries}I', *values[t * entries:(t + 1) * entries]) for t in range(tables)]
    flags = 0x10001 if kind == 'bare' else 0x30001
    head = lambda d: header(3, flags, capacity, grain, entries, 0, d, 8, 1, 1)
    marker = lambda value, type_: f.add(struct.pack('<QII', value, 0, type_))
    if kind == 'end':
        places = []
        for row in rows:
            if not any(row):
                places.append(0)
                continue
            marker(table_sectors, 1)
            places.append(f.add(row))
        marker(dir_sectors, 2)
        d = f.add(struct.pack(f'<{tables}I', *places))
        marker(1, 3)
        f.add(head(d))
        marker(0, 0)
        f.data += bytes(r.choice([0, 0, 10240, 777]))
        f.put(0, head((1 << 64) - 1))
    else:
        places = [front + dir_sectors + t * table_sectors for t in range(tables)]
        f.put(front, struct.pack(f'<{tables}I', *places))
        for at, row in zip(places, rows):
            f.put(at, row)
        f.put(0, head(front))
    if descriptor:
        f.put(1, descriptor)
    seen[f'stream, {kind}'] += 1
    return 'SPARSE', bytes(f.data)


def cowd(r, content, below, _):
    grain, entries = r.choice([1, 1, 8]), 4096
    capacity = len(content) // SECTOR
    tables = -(-capacity // (grain * entries))
    data, zeros = grains_of(r, content, below, grain * SECTOR)
    f = File(4)
    dir_ = f.add(bytes(tables * 4))
    places = [f.add(bytes(entries * 4)) for _ in range(tables)]
    order = data + zeros
    r.shuffle(order)
    for i in order:
        at = f.add(content[i * grain * SECTOR:(i + 1) * grain * SECTOR].ljust(grain * SECTOR, b'\x77'))
        p = places[i // entries] * SECTOR + i % entries * 4
        f.data[p:p + 4] = struct.pack('<I', at)
    f.put(dir_, struct.pack(f'<{tables}I', *places))
    f.put(0, struct.pack('<8I', 0x44574f43, 1, 3, capacity, grain, dir_, tables, len(f.data) // SECTOR))
    seen['COWD'] += 1
    return 'VMFSSPARSE', bytes(f.data)


def sesparse(r, content, below, _):
    grain, entries = 8, 4096
    capacity = up(len(content) // SECTOR, 8)
    tables = -(-capacity // (grain * entries))
    data, zeros = grains_of(r, content, below, grain * SECTOR)
    f = File(4)
    dir_ = f.add(bytes(tables * 8), 8)
    table = f.add(bytes((tables + 1) * 64 * SECTOR), 8)
    grains = up(len(f.data), 4096) // SECTOR
    f.data = f.data.ljust(grains * SECTOR, b'\0')
    order = list(range(tables))
    r.shuffle(order)
    values = [0] * (tables * entries)
    r.shuffle(data)
    for n, i in enumerate(data):
        f.add(content[i * 4096:(i + 1) * 4096].ljust(4096, b'\x77'))
        values[i] = 3 << 60 | (n & 0xfff) << 48 | n >> 12
    for i in zeros:
        values[i] = r.choice([1, 2]) << 60 | r.randrange(1000)
    for t in range(tables):
        f.put(table + order[t] * 64, struct.pack(f'<{entries}Q', *values[t * entries:(t + 1) * entries]))
        at = dir_ * SECTOR + 8 * t
        f.data[at:at + 8] = struct.pack('<Q', 0x10000000 << 32 | order[t])
    h = struct.pack('<10Q', 0xcafebabe, 0x200000001, capacity, grain, 64, 0, 0, 0, 0, 0)
    for at, n in ((1, 1), (2, 1), (3, 1), (dir_, up(tables * 8, SECTOR) // SECTOR), (table, (tables + 1) * 64), (0, 0), (0, 0),
                  (grains, 1 << 20)):
        h += struct.pack('<2Q', at, n)
    f.put(0, h)
    f.put(1, struct.pack('<4Q', 0xcafecafe, 1, 1, 0))
    seen['SESparse'] += 1
    return 'SESPARSE', bytes(f.data)


def flat(r, content, below, _):
    before = r.choice([0, 0, 1, 40])
    seen['flat'] += 1
    return r.choice(['FLAT', 'VMFS']), r.randbytes(before * SECTOR) + content + r.randbytes(r.choice([0, 700])), before


def text(cid, parent, hint, type_, lines, r):
    names = f'parentFileNameHint="{hint}"\n' if hint else ''
    t = f'# Disk DescriptorFile\nversion=1\n{r.choice(["", chr(10)])}CID={cid:08x}\nparentCID={parent}\n{names}createType="{type_}"\n'
    t += '\n'.join(lines) + '\n#DDB\nddb.adapterType = "ide"\n'
    return (t.replace('\n', '\r\n') if r.random() < 0.3 else t).encode()


def make_vmdk(r, where, name, content, below, parent):
    """Writes an image that makes content out of below; returns its CID.  parent: (name, CID)."""
    cid = r.randrange(1 << 31)
    link = (f'{parent[1]:08x}', r.choice(['', '/vmfs/volumes/x/', 'C:\\\\vm\\\\'.replace('\\\\', '\\')]) + parent[0]) if parent else ('ffffffff', '')
    if r.random() < 0.35:       # all in one file
        line = [f'RW {len(content) // SECTOR} SPARSE "{name}"']
        make = r.choice([hosted, stream]) if parent is None else hosted
        _, data = make(r, content, below, text(cid, *link, 'monolithicSparse', line, r))
        with open(f'{where}/{name}', 'wb') as f:
            f.write(data)
        return cid
    lines, at, n = [], 0, 0
    while at < len(content):
        size = min(len(content) - at, r.choice([1, 100, 3000, 9000, 1 << 30]) * SECTOR)
        piece, under = content[at:at + size], below[at:at + size]
        access = r.choice(['RW', 'RW', 'RDONLY'])
        if not any(piece) and r.random() < 0.7:
            lines.append(f'{r.choice([access, "NOACCESS"])} {size // SECTOR} ZERO')
            seen['zero extents'] += 1
        else:
            kinds = [flat, hosted, hosted, cowd, sesparse] + ([stream] if parent is None else [])
            kind, data, *offset = r.choice(kinds)(r, piece, under, None)
            file = f'{name}-{n}'
            with open(f'{where}/{file}', 'wb') as f:
                f.write(data)
            lines.append(f'{access} {size // SECTOR} {kind} "{file}"' + (f' {offset[0]}' if offset else ''))
        at += size
        n += 1
    with open(f'{where}/{name}', 'wb') as f:
        f.write(text(cid, *link, 'custom', lines, r))
    seen[f'{min(n, 5)}{"+" if n > 4 else ""} extents'] += 1
    return cid
