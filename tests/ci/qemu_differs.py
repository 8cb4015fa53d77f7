#!/usr/bin/env python3
"""qemu_differs.py KEDGE: see qemu-differs.sh.

Each case makes its files in a folder of its own and returns Case objects: what to open, what must come out.  The images are qemu-img's where it
can make them, else the models'.
"""
import collections
import os
import random
import struct
import subprocess
import sys
import tempfile
import uuid

sys.argv += ['0', '1', '1/1']
from differential import KEDGE, KIB, MIB, change, seen  # noqa: E402
from vdi_model import make_vdi  # noqa: E402
from vhd_model import make_vhd, make_vhdx  # noqa: E402
from vmdk_model import SECTOR, hosted, make_vmdk, stream  # noqa: E402

# image: for kedge; truth: bytes, or text that the refusal must have; qemu: options of qemu-img convert, None: not asked
Case = collections.namedtuple('Case', 'image truth qemu args', defaults=(None, ()))
CASES = []


def case(fn):
    CASES.append(fn)
    return fn


def qemu_img(*args):
    subprocess.run(['qemu-img', *args], check=True, stdout=subprocess.DEVNULL)


def write(name, data):
    with open(name, 'wb') as f:
        f.write(data)


def read(name):
    with open(name, 'rb') as f:
        return f.read()


def patch(name, at, data):
    with open(name, 'r+b') as f:
        f.seek(at)
        f.write(data)


def made(feature, make):
    """make(r) with the first seed whose image has the feature."""
    for n in range(1000):
        before = seen[feature]
        result = make(random.Random(n))
        if seen[feature] > before:
            return result
    raise SystemExit(f'no seed makes an image with: {feature}')


def disk(n, size=3 * MIB + 1536):
    return change(random.Random(n), b'', size, SECTOR)


def descriptor(lines, more='', parent='ffffffff', kind='custom', cid=0x11111111):
    return (f'# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID={parent}\ncreateType="{kind}"\n' + '\n'.join(lines) +
            f'\n#DDB\nddb.adapterType = "ide"\n{more}').encode()


# --- wrong, and exit 0 ---

@case
def virtualbox_vmdk_delta():
    ids = [str(uuid.UUID(int=i)) for i in (11, 12, 13)]
    base = disk(1)
    top = change(random.Random(2), base, len(base), SECTOR)
    lines = [f'RW {len(base) // SECTOR} SPARSE "d.vmdk"']
    for name, content, below, own, parent in (('base.vmdk', base, b'', ids[0], None), ('top.vmdk', top, base, ids[1], ids[0])):
        more = f'ddb.uuid.image="{own}"\nddb.uuid.modification="{ids[2]}"\nddb.uuid.parent="{parent or uuid.UUID(int=0)}"\n'
        more += f'ddb.uuid.parentmodification="{ids[2] if parent else uuid.UUID(int=0)}"\n'
        link = '11111111' if parent else 'ffffffff'
        write(name, hosted(random.Random(3), content, below, descriptor(lines, more, link, 'monolithicSparse'))[1])
    yield Case('top.vmdk', top, ['-f', 'vmdk'])
    os.rename('base.vmdk', '../gone.vmdk')
    yield Case('top.vmdk', 'parent', None)


@case
def vhd_differencing():
    base = disk(1)
    top = change(random.Random(2), base, len(base), SECTOR)
    r = random.Random(4)
    make_vhd(r, '.', 'top.vhd', top, base, made('VHD dynamic, blocks 524288', lambda r: make_vhd(r, '.', 'base.vhd', base, b'', None)))
    yield Case('top.vhd', top, ['-f', 'vpc'])


@case
def vmdk_extents_of_other_access():
    content = disk(5, 2 * MIB)
    write('a-flat', content[:MIB])
    write('b-flat', content[MIB:])
    n = MIB // SECTOR
    write('d.vmdk', descriptor([f'RW {n} FLAT "a-flat" 0', f'RW {n} ZERO', f'RDONLY {n} FLAT "b-flat" 0']))
    yield Case('d.vmdk', content[:MIB] + bytes(MIB) + content[MIB:], ['-f', 'vmdk'])


@case
def vhd_size_is_not_its_geometry():
    content = disk(6, 9 * MIB + 1536)
    made('VHD dynamic, blocks 2097152', lambda r: make_vhd(r, '.', 'd.vhd', content, b'', None))
    yield Case('d.vhd', content, ['-f', 'vpc'])


@case
def fixed_vhd_is_probed():
    content = disk(7)
    made('VHD fixed, footer 512', lambda r: make_vhd(r, '.', 'd.vhd', content, b'', None))
    yield Case('d.vhd', content, [])


@case
def vmdk_size_is_the_descriptors():
    content = disk(8, 9 * MIB + 512)
    text = descriptor([f'RW {len(content) // SECTOR} SPARSE "d.vmdk"'], kind='monolithicSparse')
    write('d.vmdk', made('grain 128', lambda r: hosted(r, content, b'', text))[1])
    head = read('d.vmdk')
    patch('d.vmdk', 12, struct.pack('<Q', -(-struct.unpack_from('<Q', head, 12)[0] // 128) * 128))
    yield Case('d.vmdk', content, ['-f', 'vmdk'])


@case
def snapshots_have_their_own_size():
    qemu_img('create', '-q', '-f', 'qcow2', 'd.qcow2', '9M')
    subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -P 7 8M 1M', 'd.qcow2'], check=True, stdout=subprocess.DEVNULL)
    qemu_img('snapshot', '-c', 'large', 'd.qcow2')
    # A disk with snapshots can't be shrunk by qemu-img; QEMU's monitor can.  The size is at 24, the L1 table serves both.
    patch('d.qcow2', 24, struct.pack('>Q', 6 * MIB))
    yield Case('d.qcow2', bytes(8 * MIB) + bytes([7]) * MIB, ['-f', 'qcow2', '-l', 'snapshot.name=large'], ['--state', 'snap:large'])


@case
def qcow2_sizes_are_to_the_byte():
    qemu_img('create', '-q', '-f', 'qcow2', 'd.qcow2', '1M')
    subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -P 9 0 1M', 'd.qcow2'], check=True, stdout=subprocess.DEVNULL)
    patch('d.qcow2', 24, struct.pack('>Q', MIB - 100))
    yield Case('d.qcow2', bytes([9]) * (MIB - 100), ['-f', 'qcow2'])


@case
def vdi_sizes_are_rounded_down():
    content = disk(9, 2 * MIB)
    make_vdi(random.Random(1), 'd.vdi', content, b'', None)
    head = read('d.vdi')
    at = head.index(struct.pack('<Q', len(content)), 72)
    patch('d.vdi', at, struct.pack('<Q', len(content) - 100))
    yield Case('d.vdi', content[:-512], ['-f', 'vdi'])


@case
def what_vmdk_cannot_read_is_no_zeros():
    qemu_img('create', '-q', '-f', 'vmdk', 'd.vmdk', '4M')
    subprocess.run(['qemu-io', '-f', 'vmdk', '-c', 'write -P 9 0 4M', 'd.vmdk'], check=True, stdout=subprocess.DEVNULL)
    rgd, gd = struct.unpack_from('<QQ', read('d.vmdk'), 48)
    for d in (rgd, gd):
        table = struct.unpack_from('<I', read('d.vmdk'), d * SECTOR)[0]
        patch('d.vmdk', table * SECTOR + 8, struct.pack('<I', 0x7ffffff0))
    yield Case('d.vmdk', 'entry', ['-f', 'vmdk'])


@case
def vdi_blocks_with_extra_bytes():
    content = disk(10)
    made('extra bytes', lambda r: make_vdi(r, 'd.vdi', content, b'', None))
    yield Case('d.vdi', content, ['-f', 'vdi'])


@case
def raw_disk_with_a_qcow2_header():
    write('secret', b'the host\'s secret' * 100)
    qemu_img('create', '-q', '-f', 'qcow2', '-u', '-b', os.path.abspath('secret'), '-F', 'raw', 'guest.raw', '64K')
    os.mkdir('vm')
    os.rename('guest.raw', 'vm/guest.raw')
    yield Case('vm/guest.raw', '--allow-path', [])
    yield Case('raw:vm/guest.raw', read('vm/guest.raw'), None)
    write('vm/flat.vmdk', descriptor([f'RW 2 FLAT "{os.path.abspath("secret")}" 0'], kind='monolithicFlat'))
    yield Case('vm/flat.vmdk', '--allow-path', ['-f', 'vmdk'])


@case
def data_files_lie_beside_the_image():
    os.mkdir('vm')
    qemu_img('create', '-q', '-f', 'qcow2', '-o', 'data_file=d.data', 'd.qcow2', '1M')
    subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -P 5 0 1M', 'd.qcow2'], check=True, stdout=subprocess.DEVNULL)
    os.rename('d.qcow2', 'vm/d.qcow2')
    os.rename('d.data', 'vm/d.data')
    write('d.data', bytes([6]) * MIB)       # another one, where QEMU looks
    yield Case('vm/d.qcow2', bytes([5]) * MIB, ['-f', 'qcow2'])


# --- refused, and can be read ---

@case
def vdi_differencing():
    base = disk(11)
    top = change(random.Random(12), base, len(base), SECTOR)
    make_vdi(random.Random(2), 'top.vdi', top, base, make_vdi(random.Random(1), 'base.vdi', base, b'', None))
    yield Case('top.vdi', top, ['-f', 'vdi'])


@case
def vdi_blocks_of_other_sizes():
    for size in (4 * KIB, 512 * KIB, 8 * MIB):
        content = disk(size)
        made(f'block size {size}', lambda r: make_vdi(r, f'{size}.vdi', content, b'', None))
        yield Case(f'{size}.vdi', content, ['-f', 'vdi'])


@case
def vhdx_with_a_pending_log():
    content = disk(13)
    made('VHDX with a log', lambda r: make_vhdx(r, '.', 'd.vhdx', content, b'', None, 512))
    before = read('d.vhdx')
    yield Case('d.vhdx', content, ['-f', 'vhdx'])
    if read('d.vhdx') != before:
        raise SystemExit('the source was written to')


@case
def vhdx_differencing():
    base = disk(14)
    top = change(random.Random(15), base, len(base), SECTOR)
    make_vhdx(random.Random(2), '.', 'top.vhdx', top, base, make_vhdx(random.Random(1), '.', 'base.vhdx', base, b'', None, 512), 512)
    yield Case('top.vhdx', top, ['-f', 'vhdx'])


@case
def vhdx_sectors_of_4096():
    content = change(random.Random(16), b'', 3 * MIB + 4096, 4096)
    make_vhdx(random.Random(3), '.', 'd.vhdx', content, b'', None, 4096)
    yield Case('d.vhdx', content, ['-f', 'vhdx'])


@case
def vhd_with_one_footer():
    content = disk(17)
    made('VHD footer lost', lambda r: make_vhd(r, '.', 'start.vhd', content, b'', None))
    yield Case('start.vhd', content, ['-f', 'vpc'])
    made('VHD dynamic, blocks 2097152', lambda r: make_vhd(r, '.', 'end.vhd', content, b'', None))
    patch('end.vhd', 64, b'\0\0\0\0')
    yield Case('end.vhd', content, ['-f', 'vpc'])


@case
def vmdk_create_types():
    content = disk(18, MIB)
    write('d-flat', content)
    for kind in ('custom', 'fullDevice', 'partitionedDevice', 'vmfsThin', '2GbMaxExtentFlat'):
        write(f'{kind}.vmdk', descriptor([f'RW {MIB // SECTOR} FLAT "d-flat" 0'], kind=kind))
        yield Case(f'{kind}.vmdk', content, ['-f', 'vmdk'])
    write('device.vmdk', descriptor([f'RW {MIB // SECTOR} FLAT "/dev/null" 0'], kind='fullDevice'))
    yield Case('device.vmdk', '--allow-path', None)


@case
def stream_with_bytes_behind_its_end():
    content = disk(19)
    text = descriptor([f'RW {len(content) // SECTOR} SPARSE "d.vmdk"'], kind='streamOptimized')
    data = made('stream, end', lambda r: stream(r, content, b'', text))[1]
    for more in (512, 777, 20 * KIB):
        write(f'{more}.vmdk', data.rstrip(b'\0').ljust(-(-len(data.rstrip(b'\0')) // 512) * 512, b'\0') + bytes(more))
        yield Case(f'{more}.vmdk', content, ['-f', 'vmdk'])


@case
def vmdk_extent_alone():
    content = disk(20)
    write('in', content)
    qemu_img('convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse', 'in', 'd.vmdk')
    os.remove('d.vmdk')
    yield Case('d-s001.vmdk', 'a part of a disk', None)
    yield Case('d-s001.vmdk', content, ['-f', 'vmdk'], ['--force'])


# --- refused, and rightly ---

@case
def what_is_not_understood():
    write('crypt.vmdk', descriptor(['RW 2 FLAT "x" 0'], 'encryption.keySafe = "vmware:key/list/..."\n'))
    yield Case('crypt.vmdk', 'encrypted by VMware', ['-f', 'vmdk'])
    qemu_img('create', '-q', '-f', 'qcow2', 'bits.qcow2', '1M')
    patch('bits.qcow2', 72, struct.pack('>Q', 1 << 40))
    yield Case('bits.qcow2', "needs features", ['-f', 'qcow2'])


# --- what we write is read by those whom qemu-img's displeases ---

@case
def writers():
    content = disk(21, 9 * MIB + 1536)
    write('in', content)
    dump = lambda *args: subprocess.run([KEDGE, 'dump', '-q', '--no-progress', 'raw:in', *args], check=True)
    dump('-O', 'vhd', '-o', 'd.vhd')
    if struct.unpack_from('>Q', read('d.vhd'), 48)[0] != len(content):
        raise SystemExit('VHD: another size than the disk has')
    yield Case('d.vhd', content, None)
    dump('-O', 'vhdx', '-o', 'd.vhdx')
    required = [struct.unpack_from('<I', read('d.vhdx'), 192 * KIB + 16 + 32 * i + 28)[0] for i in (0, 1)]
    if required != [1, 1]:
        raise SystemExit(f'VHDX: regions marked as required: {required}')
    yield Case('d.vhdx', content, ['-f', 'vhdx'])
    dump('-O', 'vmdk', '--subformat', 'streamOptimized', '-o', 's.vmdk')
    data = read('s.vmdk')
    if struct.unpack_from('<I', data, 4)[0] != 3 or any(data[-512:]) or data[-1024:-1020] != b'KDMV':
        raise SystemExit('VMDK: a stream without footer and end of stream, or not of version 3')
    yield Case('s.vmdk', content, ['-f', 'vmdk'])
    dump('-O', 'vmdk', '-o', 'm.vmdk')
    if struct.unpack_from('<I', read('m.vmdk'), 4)[0] != 1:
        raise SystemExit('VMDK: a version that VirtualBox refuses')
    yield Case('m.vmdk', content, ['-f', 'vmdk'])


def what_qemu_does(c):
    if c.qemu is None:
        return '-'
    name = c.image
    p = subprocess.run(['qemu-img', 'convert', *c.qemu, '-O', 'raw', name, 'qemu.raw'], capture_output=True)
    if p.returncode:
        return 'refuses it' if isinstance(c.truth, bytes) else 'refuses it too'
    if isinstance(c.truth, str):
        return 'converts it'
    return 'right' if read('qemu.raw') == c.truth else 'WRONG'


def check(c):
    """What is wrong with kedge, or None."""
    p = subprocess.run([KEDGE, 'dump', '--no-progress', *c.args, c.image], capture_output=True)
    said = p.stderr.decode(errors='replace')
    if isinstance(c.truth, str):
        return None if p.returncode == 1 and c.truth in said else f'exit {p.returncode}, wanted a refusal with "{c.truth}": {said}'
    if p.returncode:
        return f'exit {p.returncode}: {said}'
    return None if p.stdout == c.truth else f'{len(p.stdout)} bytes, {len(c.truth)} wanted, or others'


bad = count = 0
for fn in CASES:
    with tempfile.TemporaryDirectory(dir='.') as folder:
        home = os.getcwd()
        os.chdir(folder)
        for c in fn():
            wrong, qemu = check(c), what_qemu_does(c)
            count += 1
            bad += wrong is not None
            print(f'{"ok" if wrong is None else "WRONG":6}{fn.__name__.replace("_", " ")}: {c.image}; qemu-img: {qemu}')
            if wrong is not None:
                print(f'      {wrong}')
        os.chdir(home)
print(f'{count - bad} of {count} right')
sys.exit(0 if bad == 0 and count else 1)
