"""vhd_model.py - VHD and VHDX images made from the formats' descriptions, and from nothing of kedge.

make_vhd and make_vhdx write an image that turns the content below (the parent's, or nothing) into the content given: with
blocks in any order, gaps, sector bitmaps, all block states, and writes that are only in the log, as r chooses.
"""
import struct
import uuid

from differential import KIB, MIB, seen



def sectors_of(data, size):
    return [data[i:i + size] for i in range(0, len(data), size)]


# --- VHD by the model ---

def vhd_sum(b, at):
    b = b[:at] + bytes(4) + b[at + 4:]
    return b[:at] + struct.pack('>I', ~sum(b) & 0xffffffff) + b[at + 4:]


def vhd_footer(kind, size, ident, length=512):
    b = struct.pack('>8sIIQI4sI4sQQHBBII16sB427s', b'conectix', 2, 0x10000, (1 << 64) - 1 if kind == 2 else 512, 5, b'kdgt', 0, b'Wi2k',
                    size, size, 7, 4, 17, kind, 0, ident, 0, b'')
    return vhd_sum(b[:length], 64)


def vhd_locators(r, parent, at):
    """Names by which the parent is found, and their bytes at file offset at."""
    if not parent:
        return b'', b'', ''
    codes = {b'W2ru': f'.\\{parent[0]}'.encode('utf-16-le'), b'W2ku': f'C:\\old\\{parent[0]}'.encode('utf-16-le'),
             b'MacX': f'file://localhost/x/{parent[0]}'.encode()}
    chosen = r.sample(sorted(codes), r.randrange(0, 4))
    name = parent[0] if r.random() < 0.5 or (not chosen and parent[2] == 2) else ''
    rows, data = b'', b''
    for c in chosen:
        rows += struct.pack('>4sIIIQ', c, 512, len(codes[c]), 0, at + len(data))
        data += codes[c].ljust(512, b'\0')
    seen[f'VHD parent by {len(chosen)} locators' + (' and name' if name else '')] += 1
    return rows, data, name


def make_vhd(r, where, name, content, below, parent):
    """Writes an image that makes content out of below; returns its name, UUID and type."""
    ident = r.randbytes(16)
    if not parent and r.random() < 0.25:
        length = r.choice([512, 512, 511])
        with open(f'{where}/{name}', 'wb') as f:
            f.write(content + vhd_footer(2, len(content), ident, length))
        seen[f'VHD fixed, footer {length}'] += 1
        return name, ident, 2
    kind = 4 if parent else 3
    block = r.choice([4 * KIB, 64 * KIB, 512 * KIB, 2 * MIB, 8 * MIB])
    count = -(-len(content) // block)
    bitmap_len = -(-(block // 512 // 8) // 512) * 512
    rows, names, plain = vhd_locators(r, parent, 1536)
    table = 1536 + len(names)
    at = table + -(-4 * (count + r.choice([0, 0, 5])) // 512) * 512
    entries, out = [0xffffffff] * ((at - table) // 4), {}
    order = list(range(count))
    r.shuffle(order)
    for i in order:
        want = content[i * block:(i + 1) * block]
        old = below[i * block:(i + 1) * block].ljust(len(want), b'\0')
        if want == old and r.random() < 0.9:
            continue
        bits, data = bytearray(bitmap_len), b''
        if kind == 3:
            bits[:block // 4096] = r.choice([b'\0', b'\xff']) * (block // 4096)
            data = want
        else:
            for k, (new, was) in enumerate(zip(sectors_of(want, 512), sectors_of(old, 512))):
                here = new != was or r.random() < 0.2
                bits[k // 8] |= here << (7 - k % 8)
                data += new if here else b'\x77' * len(new)
        entries[i] = at // 512
        out[at] = bytes(bits) + data.ljust(block, b'\x66')      # behind the disk's end lies what nobody may see
        at += bitmap_len + block + r.choice([0, 0, 512, 4096])
    header = struct.pack('>8sQQIIII16sII512s', b'cxsparse', (1 << 64) - 1, table, 0x10000, len(entries), block, 0,
                         parent[1] if parent else b'', 9, 0, plain.encode('utf-16-be')) + rows.ljust(448, b'\0')
    footer = vhd_footer(kind, len(content), ident)
    with open(f'{where}/{name}', 'wb') as f:
        f.write((footer if r.random() < 0.9 else vhd_footer(kind, len(content), ident)[:300].ljust(512, b'?')))
        f.write(vhd_sum(header, 36) + names + struct.pack(f'>{len(entries)}I', *entries))
        for o, d in out.items():
            f.seek(o)
            f.write(d)
        f.seek(at)
        if f.seek(at) and r.random() < 0.95 or f.tell() % 512:
            f.write(footer)
        else:       # the copy has to do
            f.write(b'broken'.ljust(512, b'\0'))
            f.seek(0)
            f.write(footer)
            seen['VHD footer lost'] += 1
    seen[f'VHD {"differencing" if parent else "dynamic"}, blocks {block}'] += 1
    return name, ident, kind


# --- VHDX by the model ---

CRC = []
for _i in range(256):
    _c = _i
    for _ in range(8):
        _c = _c >> 1 ^ (0x82f63b78 if _c & 1 else 0)
    CRC.append(_c)


def vhdx_sum(b):
    c = 0xffffffff
    for x in b[:4] + bytes(4) + b[8:]:
        c = CRC[(c ^ x) & 255] ^ c >> 8
    return b[:4] + struct.pack('<I', c ^ 0xffffffff) + b[8:]


def guid(text):
    return uuid.UUID(text).bytes_le


def vhdx_locator(r, parent):
    linkage = '{' + str(uuid.UUID(bytes_le=parent[1])) + '}'
    wrong = '{' + str(uuid.UUID(bytes=r.randbytes(16))) + '}'
    pairs = {'parent_linkage': linkage}
    if r.random() < 0.3:
        pairs = {'parent_linkage': wrong, 'parent_linkage2': linkage}
    paths = {'relative_path': f'.\\{parent[0]}', 'absolute_win32_path': f'C:\\old\\{parent[0]}', 'volume_path': f'\\\\?\\Volume{{1}}\\{parent[0]}'}
    for k in r.sample(sorted(paths), r.randrange(1 if len(pairs) > 1 else 0, 4)):
        pairs[k] = paths[k]
    at, entries, texts = 20 + 12 * len(pairs), b'', b''
    for k, v in pairs.items():
        k, v = k.encode('utf-16-le'), v.encode('utf-16-le')
        entries += struct.pack('<IIHH', at, at + len(k), len(k), len(v))
        texts += k + v
        at += len(k) + len(v)
    return guid('B04AEFB7-D19E-4A81-B789-25B8E9445913') + struct.pack('<HH', 0, len(pairs)) + entries + texts


def vhdx_metadata(r, size, block, sector, fixed, parent):
    items = [('CAA16737-FA36-4D43-B3B6-33F0AA44E76B', struct.pack('<II', block, (2 if parent else 0) | fixed)),
             ('2FA54224-CD1B-4876-B211-5DBED83BF4B8', struct.pack('<Q', size)),
             ('8141BF1D-A96F-4709-BA47-F233A8FAAB5F', struct.pack('<I', sector)),
             ('CDA348C7-445D-4471-9CC9-E9885251C556', struct.pack('<I', 4096)),
             ('BECA12AB-B2E6-4523-93EF-C309E000C746', r.randbytes(16))]
    if parent:
        items.append(('A8D35F2D-B30B-454D-ABF7-D3D84834AB0C', vhdx_locator(r, parent)))
    r.shuffle(items)
    table, body = struct.pack('<8sHH20s', b'metadata', 0, len(items), b''), b''
    for g, v in items:
        table += struct.pack('<16sIIII', guid(g), 65536 + len(body), len(v), 4, 0)
        body += v
    return table.ljust(65536, b'\0') + body


def vhdx_entry(ring, pos, sequence, tail, ident, pages, size):
    """Puts an entry that writes pages (offset: bytes) into the ring; returns the place behind it."""
    heads = (64 + 32 * len(pages) + 4095) // 4096
    descriptors, data = b'', b''
    for off, p in pages.items():
        if not any(p):
            descriptors += struct.pack('<4sIQQQ', b'zero', 0, 4096, off, sequence)
            seen['log: zeros'] += 1
        else:
            descriptors += struct.pack('<4s4s8sQQ', b'desc', p[4092:], p[:8], off, sequence)
            data += struct.pack('<4sI', b'data', sequence >> 32) + p[8:4092] + struct.pack('<I', sequence & 0xffffffff)
            seen['log: pages'] += 1
    b = struct.pack('<4sIIIQII16sQQ', b'loge', 0, heads * 4096 + len(data), tail, sequence, len(pages), 0, ident, 0, size) + descriptors
    b = vhdx_sum(b.ljust(heads * 4096, b'\0') + data)
    for i in range(0, len(b), 4096):
        at = (pos + i) % len(ring)
        ring[at:at + 4096] = b[i:i + 4096]
    return (pos + len(b)) % len(ring)


def pend(r, image, ring, ident, places):
    """Takes pages out of the file and into the log."""
    pages = {}
    for at, n in r.sample(places, min(len(places), r.randrange(1, 12))):
        at += r.randrange(0, n, 4096)
        pages[at] = bytes(image[at:at + 4096])
        image[at:at + 4096] = r.choice([bytes(4096), r.randbytes(4096), pages[at]])
    pos = start = r.choice([0, r.randrange(0, len(ring), 4096)])
    sequence = r.choice([1, (1 << 32) - 2, 77])
    if r.random() < 0.5:        # done already, behind the tail
        pos = start = vhdx_entry(ring, pos, sequence, pos, ident, {places[0][0]: r.randbytes(4096)}, len(image))
        sequence += 1
    todo = list(pages.items())
    while todo:
        n = r.randrange(1, len(todo) + 1)
        now, todo = dict(todo[:n]), todo[n:]
        if todo and r.random() < 0.5:    # written again later on
            now[todo[0][0]] = r.randbytes(4096)
        pos = vhdx_entry(ring, pos, sequence, start, ident, now, len(image))
        sequence += 1
    if r.random() < 0.4:        # the last one was being written when the power failed
        vhdx_entry(ring, pos, sequence, start, ident, {places[0][0]: r.randbytes(4096)}, len(image))
        ring[(pos + 4096 + 999) % len(ring)] ^= 1
        seen['log: torn'] += 1
    seen['VHDX with a log'] += 1


def make_vhdx(r, where, name, content, below, parent, sector):
    block = r.choice([MIB, MIB, 2 * MIB, 4 * MIB])
    count, chunk = -(-len(content) // block), (1 << 23) * sector // block
    data_write, ident = r.randbytes(16), bytes(16)
    regions = [1, 2, 3]
    r.shuffle(regions)
    log_at, meta_at, bat_at = (x * MIB for x in regions)
    total = -(-count // chunk) * (chunk + 1) if parent else count + (count - 1) // chunk
    entries, at, out, bitmap_at = [0] * total, 4 * MIB, {}, 0
    bitmap = bytearray(MIB)
    order = list(range(count))
    fixed = not parent and r.random() < 0.2
    if not fixed:
        r.shuffle(order)
    for i in order:
        want = content[i * block:(i + 1) * block]
        old = below[i * block:(i + 1) * block].ljust(len(want), b'\0')
        index = i + i // chunk
        if not fixed and not any(want) and r.random() < 0.7:
            state = r.choice([1, 2, 3])
            entries[index] = state | r.choice([0, 5 * MIB])
            seen[f'VHDX block state {state}'] += 1
            continue
        if not fixed and want == old and r.random() < 0.9:
            continue
        data, state = want, 6
        if parent and r.random() < 0.7:
            data, state, first = b'', 7, i % chunk * (block // sector)
            for k, (new, was) in enumerate(zip(sectors_of(want, sector), sectors_of(old, sector))):
                here = new != was or r.random() < 0.2
                bitmap[(first + k) // 8] |= here << (first + k) % 8
                data += new if here else b'\x77' * len(new)
        entries[index] = at | state
        out[at] = data.ljust(block, b'\x66')
        at += block + r.choice([0, 0, MIB])
        seen[f'VHDX block state {state}'] += 1
    if parent:
        bitmap_at = at
        entries[chunk] = at | 6
        out[at] = bytes(bitmap)
        at += MIB
    image = bytearray(at)
    for o, d in out.items():
        image[o:o + len(d)] = d
    if not parent and not fixed and count and at > 4 * MIB and entries[(count - 1) + (count - 1) // chunk] & 7 == 6 and r.random() < 0.3:
        last = entries[(count - 1) + (count - 1) // chunk] >> 20 << 20
        if last == max(out):    # the file may end where the disk does
            del image[last + len(content) - (count - 1) * block:]
    image[bat_at:bat_at + 8 * total] = struct.pack(f'<{total}Q', *entries)
    meta = vhdx_metadata(r, len(content), block, sector, fixed, parent)
    image[meta_at:meta_at + len(meta)] = meta
    image[:8] = b'vhdxfile'
    table = struct.pack('<4sIII', b'regi', 0, 2, 0)
    for g, o in r.sample([('8B7CA206-4790-4B9A-B8FE-575F050F886E', meta_at), ('2DC27766-F623-4200-9D64-115E9BFD4A08', bat_at)], 2):
        table += struct.pack('<16sQII', guid(g), o, MIB, r.choice([0, 1]))
    table = vhdx_sum(table.ljust(65536, b'\0'))
    image[192 * KIB:256 * KIB] = table if r.random() < 0.8 else bytes(65536)
    image[256 * KIB:320 * KIB] = table
    if r.random() < 0.4:
        ident = r.randbytes(16)
        places = [(bat_at, 4096), (meta_at, 4096), (meta_at + 65536, 4096)] + [(o, min(block, len(image) - o) // 4096 * 4096) for o in out
                                                                            if len(image) - o >= 4096]
        if bitmap_at:
            places.append((bitmap_at, 4096))
        ring = bytearray(MIB)
        pend(r, image, ring, ident, places)
        image[log_at:log_at + MIB] = ring
    newer = r.choice([0, 1])
    for which in (0, 1):
        h = struct.pack('<4sIQ16s16s16sHHIQ', b'head', 0, 8 + (which == newer), r.randbytes(16), data_write if which == newer else r.randbytes(16),
                        ident if which == newer else r.choice([bytes(16), r.randbytes(16)]), 0, 1, MIB, log_at)
        at = 65536 << which
        image[at:at + 4096] = vhdx_sum(h.ljust(4096, b'\0')) if which == newer or r.random() < 0.8 else r.randbytes(4096)
    with open(f'{where}/{name}', 'wb') as f:
        f.write(image)
    seen[f'VHDX {"differencing" if parent else "fixed" if fixed else "dynamic"}, sectors {sector}'] += 1
    return name, data_write
