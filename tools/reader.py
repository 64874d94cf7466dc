#!/usr/bin/env python3
"""Reads a Cairn store without Cairn: from packs and journal, never from the index. Written from Docs/format.md alone.

usage: reader.py STORE list                      the iterations
       reader.py STORE restore RUN@STEP DEST     the saved files, with modes, times and links
       reader.py STORE check                     the journal's chain, every table, every chunk that an iteration reaches

Planes that are compressed need compression.zstd (Python 3.14), zstandard from PyPI, or the command `zstd`.
"""
import array, hashlib, json, os, shutil, struct, subprocess, sys, tempfile


class Damage(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Damage(what)


def sha(data):
    return hashlib.sha256(data).digest()


class Reader:
    """The primitives of section 1."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, n):
        need(self.at + n <= len(self.data), "ends too early")
        self.at += n
        return self.data[self.at - n:self.at]

    def fixed(self, form):
        return struct.unpack("<" + form, self.raw(struct.calcsize("<" + form)))[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.raw(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                need(value < 1 << 64 and not (byte == 0 and shift), "a number out of form")
                return value
            shift += 7
            need(shift < 70, "a number out of form")

    def bytes(self):
        return self.raw(self.varint())

    def string(self):
        return self.bytes().decode()

    def expect(self, magic):
        need(self.raw(len(magic)) == magic, f"no {magic.decode()} where one should be")

    def zeros(self, n):
        need(not any(self.raw(n)), "other bytes than zero")

    def end(self):
        need(self.at == len(self.data), "goes on after its end")

    def map(self, value):
        result, last = {}, None
        for _ in range(self.varint()):
            key = self.bytes()
            need(last is None or last < key, "a map out of order")
            last = key
            result[key.decode()] = value()
        return result

    def blob(self):
        length = self.varint()
        return (length, self.raw(32) if length else None)


def checked(data, what):
    """A structure whose last 8 bytes are its check8."""
    need(sha(data[:-8])[:8] == data[-8:], f"{what} fails its checksum")
    return Reader(data)


def zstd_tools():
    """What reads zstd frames here, the best first: functions from a frame to its bytes, of which at most so many are wanted."""
    try:
        from compression import zstd
    except ImportError:
        zstd = None
    if zstd:
        def decompress(frame, limit):
            reader = zstd.ZstdDecompressor()
            data = reader.decompress(frame, limit + 1)
            need(reader.eof and not reader.unused_data, "a plane that is not one zstd frame")
            return data
        yield decompress
    try:
        import zstandard
    except ImportError:
        zstandard = None
    if zstandard:
        def decompress(frame, limit):
            need(zstandard.frame_content_size(frame) in (-1, limit), "a plane of another length")
            reader = zstandard.ZstdDecompressor().decompressobj()
            data = reader.decompress(frame)
            need(reader.eof and not reader.unused_data, "a plane that is not one zstd frame")
            return data
        yield decompress
    if shutil.which("zstd"):
        def decompress(frame, limit):
            with tempfile.TemporaryFile() as source:
                source.write(frame)
                source.seek(0)
                with subprocess.Popen(["zstd", "-dcq"], stdin=source, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL) as process:
                    return process.stdout.read(limit + 1)
        yield decompress


def plane_bytes(frame, count):
    """The bytes of a compressed plane."""
    tool = next(zstd_tools(), None)
    if tool is None:
        sys.exit("reader.py: this store holds compressed planes, and nothing here reads zstd frames; "
                 "install the command zstd, or zstandard from PyPI")
    need(frame[:4] == b"\x28\xb5\x2f\xfd", "a plane that is no zstd frame")
    data = tool(frame, count)
    need(len(data) == count, "a plane of another length")
    return data


def numbers(data, size):
    """Little-endian unsigned numbers of so many bytes each."""
    result = array.array({1: "B", 2: "H", 4: "I", 8: "Q"}[size])
    assert result.itemsize == size
    result.frombytes(data)
    if sys.byteorder == "big":
        result.byteswap()
    return result


def decoded(payload, length, base):
    """A chunk of so many bytes from the payload of planes, or of a delta where there is a base."""
    r = Reader(payload)
    size = r.raw(1)[0]
    need(size in (1, 2, 4, 8), "planes of no known size")
    count = length // size
    stored = [r.fixed("I") for _ in range(size)]
    merged = bytearray(size * count)
    for plane, n in enumerate(stored):
        need(n <= count, "a plane that is too long")
        data = r.raw(n)
        merged[plane::size] = data if n == count else plane_bytes(data, count)
    tail = r.raw(length - size * count)
    r.end()
    values, bits = numbers(bytes(merged), size), 8 * size
    mask = (1 << bits) - 1
    if base is not None:
        need(len(base) == length, "a base of another length")
        old = numbers(base[:size * count], size)
        for i, value in enumerate(values):
            values[i] = old[i] + (value >> 1 ^ -(value & 1)) & mask
    else:
        for i, value in enumerate(values):
            values[i] = value >> 1 | (value & 1) << bits - 1
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes() + tail


class Store:
    def __init__(self, path):
        self.path = path
        with open(os.path.join(path, "cairn.json"), "rb") as f:
            description = json.load(f)
        need(description["format"] == 1, f"format {description['format']} is not known here")
        self.id, self.chunk_size = bytes.fromhex(description["id"]), description["chunkSize"]
        size = self.chunk_size
        need(4096 <= size <= 4194304 and size & (size - 1) == 0, "no chunk size")
        self.iterations, self.pins, self.packs, self.removed, self.origins = {}, {}, [], set(), {}
        self.records = 0
        self.read_journal()
        self.locations = {}
        for name, table in self.packs:
            if name not in self.removed:
                self.read_table(name, *table)

    # Section 4

    def read_journal(self):
        with open(os.path.join(self.path, "journal"), "rb") as f:
            journal = f.read()
        at, previous = 0, bytes(32)
        while True:
            record = self.record(journal, at, self.records, previous)
            if record is None:
                break
            kind, payload, previous, size = record
            self.apply(kind, Reader(payload), self.records)
            at, self.records = at + size, self.records + 1
        need(self.records > 0, "the journal is empty")
        for later in range(at + 4096, len(journal) - 4095, 4096):
            sequence = struct.unpack_from("<Q", journal, later + 16)[0]
            if sequence > self.records and self.record(journal, later, sequence, journal[later + 48:later + 80]):
                raise Damage(f"record {self.records} of the journal, at byte {at}, is damaged")

    def record(self, journal, at, sequence, previous):
        header = Reader(journal[at:at + 112])
        try:
            header.expect(b"CAIRNJRN")
            need(header.fixed("H") == 1, "version")
            kind, length = header.fixed("H"), header.fixed("I")
            need(header.fixed("Q") == sequence, "sequence")
            header.raw(8)
            need(header.raw(16) == self.id and header.raw(32) == previous, "chain")
            digest = header.raw(32)
            padded = (112 + length + 4095) // 4096 * 4096
            need(at + padded <= len(journal), "short")
            payload = journal[at + 112:at + 112 + length]
            need(sha(journal[at:at + 80] + payload) == digest, "hash")
            need(not any(journal[at + 112 + length:at + padded]), "padding")
        except Damage:
            return None
        return kind, payload, digest, padded

    def pack_list(self, r):
        for _ in range(r.varint()):
            name = r.raw(16)
            offset, length, digest, size = r.fixed("Q"), r.fixed("Q"), r.raw(32), r.fixed("Q")
            voids, at = [], 0
            for _ in range(r.varint()):
                start = at + r.varint()
                at = start + r.varint()
                need(at > start, "an empty range")
                voids.append(range(start, at))
            self.packs.append((name, (offset, length, digest, size, voids)))

    def apply(self, kind, r, number):
        if kind == 1:
            r.string()
        elif kind == 2:
            run, step, head = r.string(), r.varint(), r.bytes()
            r.string()
            replaces = r.varint()
            if replaces:
                self.delete(replaces - 1)
            self.pack_list(r)
            stored = r.varint()
            self.iterations[number] = {"run": run, "step": step, "head": head, "stored": stored, "superseded": False}
            for _ in range(r.varint()):
                self.pins[r.string()] = number
            r.string()
        elif kind == 3:
            for _ in range(r.varint()):
                self.delete(r.varint())
                r.string()
        elif kind == 4:
            name = r.string()
            self.pins[name] = r.varint()
        elif kind == 5:
            self.pins.pop(r.string(), None)
        elif kind == 6:
            r.string(), r.bytes()
        elif kind == 7:
            r.raw(16)
            for _ in range(r.varint()):
                self.removed.add(r.raw(16))
        elif kind == 8:
            self.pack_list(r)
        elif kind == 9:
            r.varint(), r.map(lambda: r.fixed("d")), r.map(r.string), r.string()
        elif kind == 10:
            for _ in range(r.varint()):
                number = r.varint()
                if number in self.iterations:
                    self.iterations[number]["superseded"] = True
        else:
            raise Damage(f"a record of the unknown kind {kind}")
        r.end()

    def delete(self, number):
        self.iterations.pop(number, None)
        self.pins = {name: n for name, n in self.pins.items() if n != number}

    # Section 3

    def pack_path(self, name):
        return os.path.join(self.path, "packs", name.hex() + ".pack")

    def read_table(self, name, offset, length, digest, size, voids):
        with open(self.pack_path(name), "rb") as f:
            header = checked(f.read(64), "a pack's header")
            header.expect(b"CAIRNPAK")
            need(header.fixed("I") == 1, "an unknown version of packs")
            header.zeros(4)
            need(header.raw(16) == self.id and header.raw(16) == name, "another pack")
            need(os.fstat(f.fileno()).st_size == size and size % 4096 == 0, "a pack of another length")
            f.seek(size - 64)
            trailer = checked(f.read(64), "a pack's trailer")
            trailer.expect(b"CAIRNEND")
            need((trailer.fixed("Q"), trailer.fixed("Q"), trailer.raw(32)) == (offset, length, digest), "a trailer")
            f.seek(offset)
            table = f.read(length)
        need(sha(table) == digest, f"the table of {name.hex()} is damaged")
        r = Reader(table)
        r.expect(b"CTAB")
        void = {i for one in voids for i in one}
        for index in range(r.fixed("I")):
            chunk, at, raw, stored, codec = r.raw(32), r.fixed("Q"), r.fixed("I"), r.fixed("I"), r.raw(1)[0]
            r.zeros(3)
            base = r.raw(32) if codec >= 128 else bytes(32)
            if index not in void:
                self.locations[chunk] = (name, at, raw, stored, codec, base)
        r.end()

    def chunk(self, chunk):
        chain = [chunk]
        while True:
            need(chain[-1] in self.locations, f"the chunk {chain[-1].hex()} is nowhere")
            _, _, _, _, codec, base = self.locations[chain[-1]]
            if codec < 128:
                break
            need(len(chain) < 64, f"the chunk {chunk.hex()} leans on too many others")
            chain.append(base)
        data = None
        for one in reversed(chain):
            data = self.read_record(one, data)
            need(sha(data) == one, f"the chunk {one.hex()} is damaged")
        return data

    def read_record(self, chunk, base_bytes):
        name, at, raw, stored, codec, base = self.locations[chunk]
        with open(self.pack_path(name), "rb") as f:
            f.seek(at)
            header, payload = f.read(96), f.read(stored)
        r = checked(header, "a record's header")
        r.expect(b"CREC")
        need(r.raw(1)[0] == codec, "another codec")
        r.zeros(3)
        need((r.fixed("I"), r.fixed("I")) == (raw, stored) and r.raw(32) == chunk, "another record")
        need(r.raw(32) == base and r.fixed("Q") == at, "another record")
        need(codec in (0, 1, 128), f"codec {codec} is not known here")
        need(len(payload) == stored, "a record of another length")
        if codec == 0:
            need(stored == raw, "a raw record of another length")
            return payload
        need(raw <= self.chunk_size, "a chunk of more bytes than one has")
        return decoded(payload, raw, base_bytes if codec == 128 else None)

    # Section 5

    def blob_chunks(self, blob):
        length, root = blob
        if not length:
            return []
        counts = [-(-length // self.chunk_size)]
        while counts[-1] > 1:
            counts.append(-(-counts[-1] * 32 // self.chunk_size))
        level = [root]
        for count in reversed(counts[:-1]):
            data = b"".join(self.chunk(c) for c in level)
            need(len(data) == 32 * count, "a list of another length")
            level = [data[i:i + 32] for i in range(0, len(data), 32)]
        return level

    def blob_bytes(self, blob):
        for chunk in self.blob_chunks(blob):
            yield self.chunk(chunk)

    def whole(self, blob):
        data = b"".join(self.blob_bytes(blob))
        need(len(data) == blob[0], "a blob of another length")
        return data

    # Section 6

    def head(self, data):
        r = Reader(data)
        r.expect(b"CHD1")
        head = {"run": r.string(), "step": r.varint(), "created": r.fixed("q"), "parent": r.bytes(),
                "layout": r.string(), "tensors": r.varint(), "files": r.varint(), "bytes": r.varint(),
                "roots": r.blob(), "metrics": r.map(lambda: r.fixed("d")), "metadata": r.blob()}
        r.end()
        if head["metadata"][0]:
            m = Reader(self.whole(head["metadata"]))
            head["metadata"] = m.map(m.string)
            m.end()
        return head

    def schema(self, blob):
        r = Reader(self.whole(blob))
        r.expect(b"CSC1")
        r.string()
        lengths = [r.varint() for _ in range(r.varint())]
        tensors = []
        for _ in range(r.varint()):
            name, dtype, shape = r.string(), r.string(), [r.varint() for _ in range(r.varint())]
            tensors.append((name, dtype, shape, r.varint(), r.varint(), r.varint()))
        parts = []
        for _ in range(r.varint()):
            kind = r.varint()
            parts.append(r.bytes() if kind == 0 else kind - 1)
        r.end()
        return lengths, tensors, parts

    def entries(self, head):
        """Path, kind, mode, time, the pieces of a file or a link's target, and a file's tensors: name, dtype, shape, blob, offset, length."""
        r = Reader(self.whole(head["roots"]))
        r.expect(b"CRT1")
        last = None
        for _ in range(r.varint()):
            path, kind, mode = r.bytes(), r.raw(1)[0], r.varint()
            need(last is None or last < path, "paths out of order")
            last = path
            need(not path or all(p not in (b"", b".", b"..") for p in path.split(b"/")), "a path that leaves its folder")
            seconds = r.fixed("q")
            time = seconds * 10**9 + r.varint()
            tensors = []
            if kind == 0:
                if r.varint() == 0:
                    content = [r.blob()]
                else:
                    lengths, found, parts = self.schema(r.blob())
                    blobs = [(n, r.raw(32) if n else None) for n in lengths]
                    content = [blobs[p] if isinstance(p, int) else p for p in parts]
                    tensors = [(name, dtype, shape, blobs[blob], at, size) for name, dtype, shape, blob, at, size in found]
            elif kind == 2:
                content = r.bytes()
            else:
                need(kind == 1, "an unknown kind of entry")
                content = None
            yield path, kind, mode, time, content, tensors
        r.end()

    def tensors(self, iteration):
        """Name, dtype, shape and bytes of each tensor."""
        for *_, tensors in self.entries(self.head(iteration["head"])):
            for name, dtype, shape, blob, at, size in tensors:
                data = self.whole(blob)[at:at + size]
                need(len(data) == size, f"the tensor {name} reaches beyond its blob")
                yield name, dtype, shape, data

    def restore(self, iteration, destination):
        os.makedirs(destination)
        head = self.head(iteration["head"])
        need(self.chunk(sha(iteration["head"])) == iteration["head"], "the head's chunk differs from the journal")
        folders = []
        for path, kind, mode, time, content, _ in self.entries(head):
            target = os.path.join(os.fsencode(destination), path) if path else os.fsencode(destination)
            if kind == 1:
                if path:
                    os.mkdir(target)
                folders.append((target, mode, time))
            elif kind == 2:
                os.symlink(content, target)
                os.utime(target, ns=(time, time), follow_symlinks=False)
            else:
                with open(target, "xb") as f:
                    for part in content:
                        for data in [part] if isinstance(part, bytes) else self.blob_bytes(part):
                            f.write(data)
                os.chmod(target, mode)
                os.utime(target, ns=(time, time))
        for target, mode, time in reversed(folders):
            os.chmod(target, mode)
            os.utime(target, ns=(time, time))

    def check(self, iteration):
        count = 0
        need(self.chunk(sha(iteration["head"])) == iteration["head"], "the head's chunk differs from the journal")
        for _, kind, _, _, content, _ in self.entries(self.head(iteration["head"])):
            if kind == 0:
                for part in content:
                    if not isinstance(part, bytes):
                        count += sum(len(data) for data in self.blob_bytes(part))
        return count


def main(arguments):
    if len(arguments) < 2 or arguments[1] not in ("list", "restore", "check"):
        print(__doc__, file=sys.stderr)
        return 2
    store = Store(arguments[0])
    pins = {}
    for name, number in store.pins.items():
        pins.setdefault(number, []).append(name)
    if arguments[1] == "list":
        # Runs of that name hold parts of iterations that are still to be.
        shown = {number: one for number, one in store.iterations.items() if not one["run"].startswith(".part-")}
        for number, one in sorted(shown.items()):
            head = store.head(one["head"])
            print(f"{one['run']}@{one['step']}", sha(one["head"]).hex(), head["bytes"], one["stored"],
                  "superseded" if one["superseded"] else "-", ",".join(sorted(pins.get(number, []))) or "-")
    elif arguments[1] == "check":
        total = sum(store.check(one) for one in store.iterations.values())
        print(f"{store.records} records, {len(store.packs) - len(store.removed)} packs, "
              f"{len(store.iterations)} iterations, {total} bytes read and checked")
    else:
        run, _, step = arguments[2].rpartition("@")
        found = [one for one in store.iterations.values() if (one["run"], str(one["step"])) == (run, step)]
        need(len(found) == 1, f"there is no {arguments[2]}")
        store.restore(found[0], arguments[3])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Damage as damage:
        print(f"reader.py: {damage}", file=sys.stderr)
        sys.exit(3)
