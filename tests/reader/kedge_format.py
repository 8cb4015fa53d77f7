"""The stored bytes of a kedge repository: docs/format.md, sections 1 to 8, as functions.

Written from that page alone, so that the page is known to suffice.  Nothing here knows policy: who may sign what, which
manifests count and where bytes come from is the business of kedge_reader.py and kedge_writer.py.
Needs python3-nacl and python3-zstandard.
"""
import hashlib
import json
import os
import re
import struct
from dataclasses import dataclass, field

import nacl.bindings as sodium
import zstandard
from nacl.exceptions import CryptoError

DRAFT = 2
FANOUT = 256
MAX_LEVEL = 8
MAX_SEGMENT = 4 << 20
MAX_COUNT = 4096            # frames in a segment, chunks in a segment
MAX_OBJECT = 256 << 20
MAX_PAYLOAD = 64 << 20
MAX_BASES = 4
MAX_BASES_BYTES = 16 << 20
MAX_DEPTH = 8
MAX_NEEDED = 16
AEAD_EXTRA = 40
BOX_BYTES = 80
TRAILER_BYTES = 48
BLOCK_BYTES = 65536
BLOCK_PLAIN = BLOCK_BYTES - AEAD_EXTRA
ENVELOPE_HEAD = 16
ENVELOPE_PLAIN_HEAD = 84
AUTHORITY = bytes(8)

INDEX_KEY, OBJECT_KEY = 1, 2
CONFIG, SLOT_RECORD, DATA_SEGMENT, NODE_SEGMENT, DIRECTORY, RUN_TAIL, BLOCK, MANIFEST = 1, 3, 4, 5, 6, 7, 8, 9
PROTOCOL = {"session": 10, "renewal": 11, "reading": 12, "end": 13, "collector": 14, "epoch": 15, "eviction": 16,
            "sweep": 17, "doomed": 18, "tombstone": 19, "restore": 20, "extension": 21, "removal": 25}
TYPE_NAME = {CONFIG: "config", SLOT_RECORD: "slot record", DIRECTORY: "pack directory", RUN_TAIL: "index run tail",
             MANIFEST: "manifest", **{t: n for n, t in PROTOCOL.items()}}
OWN_SIGNED = {"session", "renewal", "reading", "end"}       # the others need a maintain or full slot
ROLES = {1: "put", 2: "maintain", 3: "full"}
KDF_PASSPHRASE, KDF_KEYFILE, KDF_RECOVERY = 1, 2, 3
KDF_NAME = {1: "passphrase", 2: "keyfile", 3: "recovery"}
DATA_PACK, NODE_PACK, INDEX_RUN = 1, 2, 3
PACK_PREFIX = {DATA_PACK: "data", NODE_PACK: "nodes"}
RAW, ZSTD, ZSTD_PREFIX = 0, 1, 2

SESSION_PREFIXES = ("data", "nodes", "index", "manifests", "catalogue", "parity", "likeness", *PROTOCOL)
NAME_RE = re.compile(r"config|(?:keys|slots)/[0-9a-f]{16}/[0-9a-f]{64}|(?:%s)/[0-9a-f]{16}/[0-9a-f]{32}/[0-9a-f]{64}"
                     % "|".join(SESSION_PREFIXES))


class FormatError(Exception):
    """Stored bytes that are not what the format says."""


def check(condition, message, *args):
    if not condition:
        raise FormatError(message % args if args else message)


# --- section 1: conventions ------------------------------------------------------------------------------------------

def b2(key, personal, message, salt=b""):
    return hashlib.blake2b(message, digest_size=32, key=key, salt=salt, person=personal).digest()


def digest(message):
    return hashlib.sha256(message).digest()


def seal(key, plain, ad):
    nonce = os.urandom(24)
    return nonce + sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, ad, nonce, key)


def unseal(key, sealed, ad, what):
    check(len(sealed) >= AEAD_EXTRA, "%s: too short to be sealed", what)
    try:
        return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(bytes(sealed[24:]), ad, bytes(sealed[:24]), key)
    except CryptoError:
        raise FormatError(what + ": does not open (altered, or another key)") from None


def box(public, message):
    return sodium.crypto_box_seal(message, public)


def unbox(public, secret, sealed, what):
    try:
        message = sodium.crypto_box_seal_open(bytes(sealed), public, secret)
    except CryptoError:
        raise FormatError(what + ": the sealed key does not open") from None
    check(len(message) == 32, "%s: the sealed key has %d bytes", what, len(message))
    return message


def padme(n):
    if n < 2:
        return n
    e = n.bit_length() - 1
    step = 1 << (e - e.bit_length())
    return (n + step - 1) // step * step


def escape(raw):
    """Bytes that people gave, as escaped text."""
    out = []
    for ch in raw.decode("utf-8", "surrogateescape"):
        code = ord(ch)
        if 0xDC80 <= code <= 0xDCFF:
            out.append("%%%02X" % (code - 0xDC00))
        elif code < 0x20 or code == 0x7F or ch == "%":
            out.append("%%%02X" % code)
        else:
            out.append(ch)
    return "".join(out)


def unescape(text):
    check(not re.search("%(?![0-9A-F]{2})", text), "bad escape in text")
    return re.sub(b"%([0-9A-F]{2})", lambda m: bytes([int(m.group(1), 16)]), text.encode())


def zstd_prefix(prefix):
    return zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if prefix else None


def zstd_frame(frame, decoded, what, prefix=b""):
    """Decodes exactly one zstd frame to exactly `decoded` bytes."""
    try:
        claim = zstandard.get_frame_parameters(frame).content_size
        check(claim in (decoded, zstandard.CONTENTSIZE_UNKNOWN), "%s: zstd frame of another length", what)
        stream = zstandard.ZstdDecompressor(dict_data=zstd_prefix(prefix)).decompressobj()
        out = stream.decompress(frame)
        check(stream.eof and not stream.unused_data, "%s: not one whole zstd frame", what)
    except zstandard.ZstdError as e:
        raise FormatError("%s: zstd: %s" % (what, e)) from None
    check(len(out) == decoded, "%s: decoded to %d bytes instead of %d", what, len(out), decoded)
    return out


def zstd_compress(data, prefix=b"", level=3):
    return zstandard.ZstdCompressor(level=level, dict_data=zstd_prefix(prefix), write_content_size=True).compress(data)


class Cursor:
    """Reads fields from front to back; anything past the end is a FormatError."""

    def __init__(self, data, what):
        self.data, self.pos, self.what = data, 0, what

    def take(self, n):
        check(n <= len(self.data) - self.pos, "%s: ends early at offset %d", self.what, self.pos)
        self.pos += n
        return bytes(self.data[self.pos - n:self.pos])

    def unpack(self, layout):
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def u8(self):
        return self.take(1)[0]

    def u16(self):
        return self.unpack("H")[0]

    def u32(self):
        return self.unpack("I")[0]

    def u64(self):
        return self.unpack("Q")[0]

    def zero(self, n):
        at = self.pos
        check(not any(self.take(n)), "%s: must be zero at offset %d", self.what, at)

    def expect(self, value, field_name):
        got = self.take(len(value))
        check(got == value, "%s: wrong %s", self.what, field_name)

    def left(self):
        return len(self.data) - self.pos

    def end(self):
        check(not self.left(), "%s: %d bytes too many", self.what, self.left())


def object_name(prefix, slot, session, data):
    return "/".join([prefix, slot.hex(), session.hex(), digest(data).hex()])


def json_payload(payload, what):
    try:
        value = json.loads(payload.decode("utf-8"))
    except ValueError as e:
        raise FormatError("%s: not JSON: %s" % (what, e)) from None
    check(isinstance(value, dict), "%s: not a JSON object", what)
    return value


# --- section 2: keys -------------------------------------------------------------------------------------------------

@dataclass
class Generation:
    index: bytes
    shared: bytes
    nodes_public: bytes
    data_public: bytes
    nodes_secret: bytes         # zeros: not held
    data_secret: bytes


@dataclass
class Keys:
    cipher: bytes
    slot: bytes
    role: str
    authority_public: bytes
    seed: bytes
    authority_seed: bytes       # zeros: not held
    generations: dict           # number -> Generation
    domains: dict               # name -> id key

    @property
    def newest(self):
        return max(self.generations)

    def generation(self, number, what):
        check(number in self.generations, "%s: key generation %d is not known", what, number)
        return self.generations[number]


RECOVERY_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def recovery_encode(raw):
    value = int.from_bytes(raw + b2(b"", b"kedge-recovery-c", raw)[:4], "big") << 12
    chars = "".join(RECOVERY_ALPHABET[value >> shift & 31] for shift in range(295, -1, -5))
    return "-".join(["kedge"] + [chars[i:i + 5] for i in range(0, 60, 5)])


def recovery_decode(text):
    chars = "".join(text.split()).replace("-", "").upper().translate(str.maketrans("ILO", "110"))
    if len(chars) == 65 and chars.startswith("KEDGE"):
        chars = chars[5:]
    check(len(chars) == 60 and all(c in RECOVERY_ALPHABET for c in chars), "not a recovery key")
    value = 0
    for c in chars:
        value = value << 5 | RECOVERY_ALPHABET.index(c)
    check(value & 0xFFF == 0, "recovery key: mistyped")
    raw = (value >> 12).to_bytes(36, "big")
    check(b2(b"", b"kedge-recovery-c", raw[:32])[:4] == raw[32:], "recovery key: mistyped")
    return raw[:32]


def kek(kdf, secret, salt, passes, memory_kib):
    if kdf == KDF_PASSPHRASE:
        return sodium.crypto_pwhash_alg(32, secret, salt, passes, memory_kib * 1024,
                                        sodium.crypto_pwhash_ALG_ARGON2ID13)
    return b2(b"", b"kedge-keyfile-v1" if kdf == KDF_KEYFILE else b"kedge-recovery-1", secret, salt)


def key_object(keys, kdf, secret, passes=1, memory_kib=8192):
    if kdf != KDF_PASSPHRASE:
        passes = memory_kib = 0
    salt = os.urandom(16)
    head = struct.pack("<8sBBB5x16s8sII16s", b"KEDGEKEY", 1, kdf, DRAFT, keys.cipher, keys.slot, passes, memory_kib, salt)
    role = {name: number for number, name in ROLES.items()}[keys.role]
    out = struct.pack("<BBHI32s32s32s", 1, role, len(keys.domains), len(keys.generations), keys.authority_public,
                      keys.seed, keys.authority_seed if keys.role == "full" else bytes(32))
    for number, g in sorted(keys.generations.items()):
        out += struct.pack("<I", number) + g.index + g.shared + g.nodes_public + g.data_public
        out += bytes(32) if keys.role == "put" else g.nodes_secret
        out += g.data_secret if keys.role == "full" else bytes(32)
    for name, key in keys.domains.items():
        out += bytes([len(name.encode())]) + name.encode() + key
    out += bytes(-len(out) % 256)
    return head + seal(kek(kdf, secret, salt, passes, memory_kib), out, head)


def key_object_head(data, what):
    c = Cursor(data, what)
    c.expect(b"KEDGEKEY", "magic")
    check(c.u8() == 1, "%s: unknown version", what)
    kdf, draft = c.unpack("BB")
    check(draft == DRAFT, "%s: of draft %d of the format", what, draft or 1)
    c.zero(5)
    cipher, slot = c.take(16), c.take(8)
    passes, memory = c.unpack("II")
    salt = c.take(16)
    if kdf == KDF_PASSPHRASE:
        check(1 <= passes <= 10 and 8192 <= memory <= 262144, "%s: Argon2id parameters out of range", what)
    else:
        check(kdf in (KDF_KEYFILE, KDF_RECOVERY) and not passes and not memory, "%s: bad kdf or parameters", what)
    check(slot != AUTHORITY, "%s: slot id is zero", what)
    return kdf, cipher, slot, passes, memory, salt


def open_key_object(data, secret, what):
    kdf, cipher, slot, passes, memory, salt = key_object_head(data, what)
    c = Cursor(unseal(kek(kdf, secret, salt, passes, memory), data[64:], data[:64], what), what)
    version, role, domains, generations = c.unpack("BBHI")
    check(version == 1 and role in ROLES, "%s: unknown version or role", what)
    check(1 <= domains <= 4096 and 1 <= generations <= 1024, "%s: bad counts", what)
    keys = Keys(cipher, slot, ROLES[role], c.take(32), c.take(32), c.take(32), {}, {})
    check(any(keys.authority_seed) == (role == 3), "%s: the authority's seed does not fit the role", what)
    last = 0
    for _ in range(generations):
        number = c.u32()
        check(number > last, "%s: generations do not rise", what)
        last = number
        g = keys.generations[number] = Generation(*(c.take(32) for _ in range(6)))
        check(any(g.nodes_secret) == (role > 1) and any(g.data_secret) == (role == 3),
              "%s: secrets do not fit the role", what)
    for _ in range(domains):
        name = c.take(c.u8()).decode()
        check(1 <= len(name.encode()) <= 64 and name not in keys.domains, "%s: bad domain name", what)
        keys.domains[name] = c.take(32)
    check("default" in keys.domains, "%s: no default domain", what)
    check(len(c.data) % 256 == 0 and c.left() < 256, "%s: bad padding", what)
    c.zero(c.left())
    return keys


def sign_public(seed):
    return sodium.crypto_sign_seed_keypair(seed)[0]


# --- section 3: envelopes --------------------------------------------------------------------------------------------

@dataclass
class Envelope:
    type: int
    generation: int
    signer: bytes
    signature: bytes
    payload: bytes
    what: str

    def verify(self, cipher, public):
        try:
            sodium.crypto_sign_open(self.signature + signed_bytes(cipher, self.type, self.signer, self.payload), public)
        except CryptoError:
            raise FormatError(self.what + ": the signature is not its signer's") from None


def signed_bytes(cipher, type_, signer, payload):
    return b"kedge-sign-v1\0\0\0" + cipher + bytes([type_]) + signer + payload


def sealing_of(type_):
    return OBJECT_KEY if type_ == MANIFEST else INDEX_KEY


def envelope(keys, type_, payload, signer, seed, compress=True, generation=None):
    """signer: a slot id or AUTHORITY; seed: what really signs."""
    number = generation or keys.newest
    g = keys.generations[number]
    sealing = sealing_of(type_)
    head = struct.pack("<8sBBBxI", b"KEDGEOBJ", 1, type_, sealing, number)
    key = g.index
    if sealing == OBJECT_KEY:
        r = os.urandom(32)
        head += box(g.nodes_public, r)
        key = b2(g.shared, b"kedge-objectkey1", r)
    stored, encoding = payload, 0
    if compress:
        packed = zstd_compress(payload)
        if len(packed) < len(payload):
            stored, encoding = packed, 1
    secret = sodium.crypto_sign_seed_keypair(seed)[1]
    signature = sodium.crypto_sign(signed_bytes(keys.cipher, type_, signer, payload), secret)[:64]
    plain = struct.pack("<III8s64s", encoding, len(stored), len(payload), signer, signature) + stored
    bare = len(head) + len(plain) + AEAD_EXTRA
    plain += bytes(padme(bare) - bare)
    return head + seal(key, plain, keys.cipher + struct.pack("<BI", type_, number))


def open_envelope(keys, data, type_, what):
    """The signature is the caller's to verify: it knows whose it must be."""
    c = Cursor(data, what)
    c.expect(b"KEDGEOBJ", "magic")
    version, got, sealing, zero, number = c.unpack("BBBBI")
    check(version == 1 and zero == 0, "%s: unknown version", what)
    check(got == type_, "%s: object of type %d instead of %d", what, got, type_)
    check(sealing == sealing_of(type_), "%s: wrong sealing", what)
    g = keys.generation(number, what)
    key = g.index
    if sealing == OBJECT_KEY:
        check(any(g.nodes_secret), "%s: this key may not read manifests (put)", what)
        key = b2(g.shared, b"kedge-objectkey1", unbox(g.nodes_public, g.nodes_secret, c.take(BOX_BYTES), what))
    head = c.pos
    plain = Cursor(unseal(key, data[head:], keys.cipher + struct.pack("<BI", type_, number), what), what)
    encoding, stored, decoded = plain.unpack("III")
    check(encoding in (0, 1) and decoded <= MAX_PAYLOAD, "%s: bad encoding or length", what)
    signer, signature, payload = plain.take(8), plain.take(64), plain.take(stored)
    check(len(data) == padme(len(data) - plain.left()), "%s: not padded as it must be", what)
    plain.zero(plain.left())
    if encoding == 1:
        payload = zstd_frame(payload, decoded, what)
    check(len(payload) == decoded, "%s: lengths of the payload differ", what)
    return Envelope(type_, number, signer, signature, payload, what)


# --- section 6: packs ------------------------------------------------------------------------------------------------

@dataclass
class Chunk:
    id: bytes
    frame: int
    offset: int
    length: int
    bases: list = field(default_factory=list)
    depth: int = 0


@dataclass
class Segment:
    offset: int
    stored: int
    key: int                    # index into Directory.keys
    birth: int
    sealer: bytes
    flags: int
    frames: list                # (stored length, decoded length, codec)
    chunks: list


@dataclass
class Directory:
    kind: int
    slot: bytes
    session: bytes
    salt: bytes
    keys: list                  # (generation, sealed r)
    segments: list


def trailer(kind, envelope_length, envelope_offset, salt):
    return struct.pack("<8sBB2xIQ8x16s", b"KEDGEEND", 1, kind, envelope_length, envelope_offset, salt)


def open_trailer(data, size, kind, what):
    """data: the last 48 bytes of an object of size bytes.  Returns the envelope's offset and length, and the salt."""
    c = Cursor(data, what + ": trailer")
    c.expect(b"KEDGEEND", "magic")
    version, got = c.unpack("BB")
    c.zero(2)
    length, offset = c.unpack("IQ")
    c.zero(8)
    check(version == 1 and got == kind, "%s: trailer of another kind or version", what)
    check(length <= size - TRAILER_BYTES and offset == size - TRAILER_BYTES - length, "%s: bad trailer", what)
    check(size == padme(size) and size <= MAX_OBJECT, "%s: bad length of the object", what)
    return offset, length, c.take(16)


def segment_ad(cipher, kind, generation, birth):
    return cipher + struct.pack("<BIQ", DATA_SEGMENT if kind == DATA_PACK else NODE_SEGMENT, generation, birth)


def directory_bytes(d):
    out = [struct.pack("<BB2xIII8s16s16s", 1, d.kind, len(d.keys), len(d.segments),
                       sum(len(s.chunks) for s in d.segments), d.slot, d.session, d.salt)]
    out += [struct.pack("<I80s", *row) for row in d.keys]
    for s in d.segments:
        out.append(struct.pack("<QIIQ8sBxHH2x", s.offset, s.stored, s.key, s.birth, s.sealer, s.flags, len(s.frames),
                               len(s.chunks)))
        out += [struct.pack("<IIB3x", *f) for f in s.frames]
        for k in s.chunks:
            out.append(struct.pack("<32sHBBII", k.id, k.frame, len(k.bases), k.depth, k.offset, k.length))
            out += k.bases
    return b"".join(out)


def parse_directory(data, envelope_offset, chunk_size, what):
    c = Cursor(data, what + ": directory")
    version, kind = c.unpack("BB")
    c.zero(2)
    check(version == 1 and kind in PACK_PREFIX, "%s: unknown directory", what)
    keys, segments, chunks = c.unpack("III")
    check(1 <= keys <= 65536 and segments >= 1, "%s: bad counts", what)
    d = Directory(kind, c.take(8), c.take(16), c.take(16), [], [])
    d.keys = [(c.u32(), c.take(BOX_BYTES)) for _ in range(keys)]
    d.segments = [parse_segment(c, d, chunk_size, "%s: segment %d" % (what, i)) for i in range(segments)]
    c.end()
    check(sum(len(s.chunks) for s in d.segments) == chunks, "%s: count of chunks", what)
    end = 0
    for s in sorted(d.segments, key=lambda s: s.offset):
        check(s.offset >= end, "%s: segments overlap", what)
        end = s.offset + s.stored
    check(end <= envelope_offset, "%s: a segment reaches into the directory", what)
    return d


def parse_segment(c, d, chunk_size, what):
    offset, stored, key, birth, sealer, flags, _, frames, chunks, _ = c.unpack("QIIQ8sBBHHH")
    check(key < len(d.keys), "%s: no such key", what)
    check(1 <= frames <= MAX_COUNT and 1 <= chunks <= MAX_COUNT, "%s: bad counts", what)
    s = Segment(offset, stored, key, birth, sealer, flags, [], [])
    for _ in range(frames):
        length, decoded, codec, _ = c.unpack("IIB3s")
        check(codec in (RAW, ZSTD, ZSTD_PREFIX) and (codec != RAW or length == decoded), "%s: bad frame", what)
        s.frames.append((length, decoded, codec))
    check(sum(f[0] for f in s.frames) + AEAD_EXTRA == stored, "%s: lengths of the frames", what)
    check(sum(f[1] for f in s.frames) <= MAX_SEGMENT, "%s: decodes to too much", what)
    per_frame = [0] * frames
    for _ in range(chunks):
        id_, frame, bases, depth, at, length = c.unpack("32sHBBII")
        k = Chunk(id_, frame, at, length, [c.take(32) for _ in range(min(bases, MAX_BASES))], depth)
        check(frame < frames, "%s: no such frame", what)
        _, decoded, codec = s.frames[frame]
        per_frame[frame] += 1
        check(at <= decoded and length <= decoded - at, "%s: a chunk outside its frame", what)
        check(d.kind == NODE_PACK or length == chunk_size, "%s: a chunk of %d bytes", what, length)
        check(bases <= MAX_BASES and bool(bases) == (codec == ZSTD_PREFIX) and bool(bases) == bool(depth) and
              depth <= MAX_DEPTH, "%s: bad bases or depth", what)
        check(codec != ZSTD_PREFIX or (at == 0 and length == decoded), "%s: a delta that is not its frame", what)
        s.chunks.append(k)
    check(all(n == 1 for n, f in zip(per_frame, s.frames) if f[2] == ZSTD_PREFIX), "%s: a delta frame with "
          "several chunks", what)
    return s


# --- section 7: the tree ---------------------------------------------------------------------------------------------

def chunk_id(keys, domain, plain):
    check(domain in keys.domains, "the key of domain '%s' is not in this key slot", domain)
    return b2(keys.domains[domain], b"kedge-chunk-v1", plain)


def node_id(keys, encoded):
    return b2(keys.domains["default"], b"kedge-node-v1", encoded)


def height_of(size, chunk_size):
    h = 1
    while chunk_size * FANOUT ** h < size:
        h += 1
    return h


def node_bytes(level, children):
    """children: {index: id}"""
    bitmap = bytearray(32)
    for i in children:
        bitmap[i // 8] |= 1 << i % 8
    return bytes([1, level]) + bytes(bitmap) + b"".join(id_ for _, id_ in sorted(children.items()))


def parse_node(data, level, what):
    c = Cursor(data, what)
    version, got = c.unpack("BB")
    check(version == 1, "%s: unknown version", what)
    check(got == level, "%s: a node of level %d instead of %d", what, got, level)
    bitmap = c.take(32)
    children = {i: c.take(32) for i in range(FANOUT) if bitmap[i // 8] >> i % 8 & 1}
    c.end()
    check(children, "%s: a node without children", what)
    return children


# --- section 8: index runs -------------------------------------------------------------------------------------------

@dataclass
class Entry:
    id: bytes
    pack: int
    segment: int
    chunk: int
    bases: list
    depth: int


@dataclass
class RunPack:
    kind: int
    generation: int
    slot: bytes
    session: bytes
    hash: bytes
    size: int
    offset: int
    length: int
    segments: list              # (slot that sealed it first, verified)
    class_: int = 0
    retain_until: int = 0

    @property
    def name(self):
        return "/".join([PACK_PREFIX[self.kind], self.slot.hex(), self.session.hex(), self.hash.hex()])


def index_run(keys, packs, entries, signer, seed, generation=None):
    """entries: Entry sorted by id.  Returns the bytes of the whole run."""
    number = generation or keys.newest
    key = keys.generations[number].index
    ad = keys.cipher + struct.pack("<BI", BLOCK, number)
    blocks, fences, current, count, first = [], [], b"", 0, None

    def flush():
        if count:
            sealed = seal(key, (struct.pack("<I", count) + current).ljust(BLOCK_PLAIN, b"\0"), ad)
            blocks.append(sealed)
            fences.append(first + digest(sealed))

    for e in entries:
        row = struct.pack("<32sIIHBB", e.id, e.pack, e.segment, e.chunk, len(e.bases), e.depth) + b"".join(e.bases)
        if 4 + len(current) + len(row) > BLOCK_PLAIN:
            flush()
            current, count = b"", 0
        if not count:
            first = e.id
        current += row
        count += 1
    flush()
    slots = sorted({p.slot for p in packs} | {s[0] for p in packs for s in p.segments})
    tail = [struct.pack("<IIIIIIQ", 1, number, len(slots), len(packs), len(blocks), 0, len(entries)), *slots]
    for p in packs:
        tail.append(struct.pack("<BB2xIII16s32sQQI4xQ", p.kind, p.class_, p.generation, slots.index(p.slot),
                                len(p.segments), p.session, p.hash, p.size, p.offset, p.length, p.retain_until))
    tail += [struct.pack("<I", 2 * slots.index(slot) + verified) for p in packs for slot, verified in p.segments]
    sealed = envelope(keys, RUN_TAIL, b"".join(tail + fences), signer, seed, generation=number)
    return finish_object(b"".join(blocks), sealed, INDEX_RUN, os.urandom(16))


def finish_object(body, sealed, kind, salt):
    """body, padding, envelope, trailer: the common shape of packs and index runs."""
    bare = len(body) + len(sealed) + TRAILER_BYTES
    body += os.urandom(padme(bare) - bare)
    return body + sealed + trailer(kind, len(sealed), len(body), salt)


def parse_run_tail(payload, envelope_offset, what):
    """Returns (generation of the blocks, packs, [(first id, hash)], count of entries)."""
    c = Cursor(payload, what + ": tail")
    version, number, n_slots, n_packs, n_blocks = c.unpack("IIIII")
    check(version == 1, "%s: unknown version", what)
    c.zero(4)
    n_entries = c.u64()
    check(n_blocks * BLOCK_BYTES <= envelope_offset, "%s: more blocks than bytes", what)
    slots = [c.take(8) for _ in range(n_slots)]
    packs = []
    for _ in range(n_packs):
        kind, class_, zero, generation, writer, segments = c.unpack("BBHIII")
        check(kind in PACK_PREFIX and not zero and writer < n_slots, "%s: bad pack row", what)
        session, hash_, size, offset, length = c.unpack("16s32sQQI")
        c.zero(4)
        check(length <= size - TRAILER_BYTES and offset == size - TRAILER_BYTES - length, "%s: bad pack row", what)
        packs.append(RunPack(kind, generation, slots[writer], session, hash_, size, offset, length, [None] * segments,
                             class_, c.u64()))
    for p in packs:
        for i in range(len(p.segments)):
            value = c.u32()
            check(value // 2 < n_slots, "%s: no such slot", what)
            p.segments[i] = (slots[value // 2], value & 1)
    fences = [(c.take(32), c.take(32)) for _ in range(n_blocks)]
    c.end()
    return number, packs, fences, n_entries


def parse_block(plain, packs, what):
    c = Cursor(plain, what)
    entries, last = [], b""
    for _ in range(c.u32()):
        id_, pack, segment, chunk, bases, depth = c.unpack("32sIIHBB")
        check(id_ > last, "%s: entries are not sorted", what)
        check(pack < len(packs) and segment < len(packs[pack].segments), "%s: no such pack or segment", what)
        check(bases <= MAX_BASES and depth <= MAX_DEPTH and bool(bases) == bool(depth), "%s: bad bases or depth", what)
        last = id_
        entries.append(Entry(id_, pack, segment, chunk, [c.take(32) for _ in range(bases)], depth))
    c.zero(c.left())
    check(entries, "%s: an empty block", what)
    return entries
