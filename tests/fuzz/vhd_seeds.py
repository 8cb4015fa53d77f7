#!/usr/bin/env python3
"""Makes the seeds of fuzz_vhd and fuzz_vhdx: vhd_seeds.py FOLDER (that of the corpora).  Checksums are left to the fuzzers."""
import os
import struct
import sys
import uuid

folder = sys.argv[1]


def save(kind, name, data):
    with open(os.path.join(folder, kind, name), "wb") as f:
        f.write(data)


# --- VHD ---

def footer(size, kind, header=512):
    return struct.pack(">8sIIQI4sI4sQQHBBII16sB427s", b"conectix", 2, 0x10000, 0xffffffffffffffff if kind == 2 else header, 1,
                       b"win ", 0, b"Wi2k", size, size, 1, 4, 17, kind, 0, b"A" * 16, 0, b"")


def header(table, entries, block, parent=b"", name="", locators=()):
    return struct.pack(">8sQQIIII16sII512s", b"cxsparse", 0xffffffffffffffff, table, 0x10000, entries, block, 0, parent, 1, 0,
                       name.encode("utf-16-be")) + b"".join(struct.pack(">4sIIIQ", *x) for x in locators).ljust(192 + 256, b"\0")


def dynamic(kind, block, blocks, used, names=()):
    table = 1536 + 512 * len(names)
    texts = b"".join(t.ljust(512, b"\0") for _, t in names)
    locators = [(c, 512, len(t), 0, 1536 + 512 * i) for i, (c, t) in enumerate(names)]
    at, bat, data = (table + 512) // 512, [], b""
    bitmap = max(512, block // 512 // 8)
    for i in range(blocks):
        if i in used:
            bat.append(at)
            data += (b"\xa5\x0f" * (bitmap // 2)) + bytes([i + 1]) * block
            at += (bitmap + block) // 512
        else:
            bat.append(0xffffffff)
    f = footer(blocks * block - 512, kind)
    bat = struct.pack(">%dI" % blocks, *bat).ljust(512, b"\xff")
    return f + header(table, blocks, block, b"P" * 16 if kind == 4 else b"", "p.vhd" if kind == 4 else "", locators) + texts + bat + data + f


save("vhd", "fixed", b"\1" + b"x" * 1024 + footer(1024, 2))
save("vhd", "fixed-511", b"\0" + b"x" * 1024 + footer(1024, 2)[:511])
save("vhd", "dynamic", b"\1" + dynamic(3, 4096, 4, {1, 3}))
save("vhd", "differencing", b"\1" + dynamic(4, 4096, 4, {0, 2}, [(b"W2ru", "p.vhd".encode("utf-16-le")), (b"W2ku", "C:\\p.vhd".encode("utf-16-le")),
                                                              (b"MacX", b"file://localhost/a%20b/p.vhd")]))
save("vhd", "copy-only", b"\1" + dynamic(3, 512, 8, {1, 2, 7})[:-512])

# --- VHDX ---


def guid(text):
    return uuid.UUID(text).bytes_le


LOG = guid("aaaabbbb-cccc-dddd-eeee-ffff00001111")


def hdr(sequence, log):
    return struct.pack("<4sIQ16s16s16sHHIQ", b"head", 0, sequence, b"F" * 16, b"D" * 16, log, 0, 1, 1 << 20, 1 << 20)


def regions():
    rows = [("8B7CA206-4790-4B9A-B8FE-575F050F886E", 2 << 20), ("2DC27766-F623-4200-9D64-115E9BFD4A08", 3 << 20)]
    return struct.pack("<4sIII", b"regi", 0, len(rows), 0) + b"".join(struct.pack("<16sQII", guid(g), o, 1 << 20, 1) for g, o in rows)


def locator():
    pairs = [("parent_linkage", "{44444444-4444-4444-4444-444444444444}"), ("relative_path", ".\\p.vhdx")]
    at, entries, texts = 20 + 12 * len(pairs), b"", b""
    for k, v in pairs:
        k, v = k.encode("utf-16-le"), v.encode("utf-16-le")
        entries += struct.pack("<IIHH", at, at + len(k), len(k), len(v))
        texts += k + v
        at += len(k) + len(v)
    return guid("B04AEFB7-D19E-4A81-B789-25B8E9445913") + struct.pack("<HH", 0, len(pairs)) + entries + texts


def metadata(size, block, sector, parent):
    items = [("CAA16737-FA36-4D43-B3B6-33F0AA44E76B", struct.pack("<II", block, 2 if parent else 0)),
             ("2FA54224-CD1B-4876-B211-5DBED83BF4B8", struct.pack("<Q", size)),
             ("8141BF1D-A96F-4709-BA47-F233A8FAAB5F", struct.pack("<I", sector)),
             ("BECA12AB-B2E6-4523-93EF-C309E000C746", b"I" * 16)]
    if parent:
        items.append(("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C", locator()))
    table, body = struct.pack("<8sHH20s", b"metadata", 0, len(items), b""), b""
    for g, v in items:
        table += struct.pack("<16sIII4s", guid(g), 65536 + len(body), len(v), 4, b"")
        body += v
    return table, body


def entry(sequence, tail, writes):
    """writes: (offset, zeros or None); a page's middle stays zeros."""
    heads = (64 + 32 * len(writes) + 4095) // 4096
    out, data = [], 0
    for off, zeros in writes:
        if zeros:
            out.append(struct.pack("<4sIQQQ", b"zero", 0, zeros, off, sequence))
        else:
            out.append(struct.pack("<4sIQQQ", b"desc", 7, (5 << 20) | 6, off, sequence))
            data += 1
    head = struct.pack("<4sIIIQII16sQQ", b"loge", 0, (heads + data) * 4096, tail, sequence, len(writes), 0, LOG, 5 << 20, 9 << 20)
    marks = [(heads * 4096 + i * 4096, struct.pack("<4sI", b"data", 0)) for i in range(data)]
    marks += [(heads * 4096 + i * 4096 + 4092, struct.pack("<I", sequence)) for i in range(data)]
    return [(0, head + b"".join(out))] + marks, (heads + data) * 4096


def vhdx(name, mib, size, block, sector, bat, parent=False, log=(), more=()):
    table, body = metadata(size, block, sector, parent)
    pieces = [(0, b"vhdxfile"), (65536, hdr(1, b"")), (131072, hdr(2, LOG if log else b"")), (196608, regions()), (262144, regions()),
              (2 << 20, table), ((2 << 20) + 65536, body)]
    pieces += [((3 << 20) + 8 * i, struct.pack("<Q", v)) for i, v in bat]
    at = 1 << 20
    for sequence, writes in log:
        marks, length = entry(sequence, 0, writes)
        pieces += [(at + o, d) for o, d in marks]
        at += length
    pieces += more
    save("vhdx", name, bytes([1, mib - 1]) + b"".join(struct.pack("<IH", o, len(d)) + d for o, d in pieces))


M = 1 << 20
vhdx("dynamic", 6, 4 * M, M, 512, [(0, 4 * M | 6), (1, 2), (2, 3), (3, 5 * M | 6)], more=[(4 * M, b"data")])
vhdx("large", 6, 16 << 40, 256 * M, 512, [(1000, 5 * M | 1)])
vhdx("partial", 7, 4 * M, M, 512, [(0, 4 * M | 7), (2, 5 * M | 6), (4096, 6 * M | 6)], parent=True, more=[(6 * M, b"\x0f\xf0\xaa" * 50)])
vhdx("sectors-4096", 7, 4 * M, 2 * M, 4096, [(0, 4 * M | 7), (16384, 6 * M | 6)], parent=True, more=[(6 * M, b"\x55" * 64)])
vhdx("log", 6, 4 * M, M, 512, [(0, 4 * M | 6)], log=[(1, [(3 * M, None), (4 * M, None), (4 * M, 8192)]), (2, [(4 * M + 4096, None)]), (3, [])])
