import Cairn
import ChunkStore
import Testing

struct HeadTests {
    static let head = Head(
        run: "qwen3-sft", step: 500, createdAt: -2, parent: id(7), layout: "hf-trainer", tensorCount: 311,
        fileCount: 9, logicalBytes: 300, roots: blob(1000), metrics: ["loss": 0.5, "acc": .nan],
        metadata: blob(20, 3))

    @Test("has exactly the bytes that the format page describes")
    func golden() throws {
        var expected = [UInt8]("CHD1".utf8)
        expected += [1] + "r".utf8 + [0xF4, 0x03]  // run, step 500
        expected += [0xFE] + [UInt8](repeating: 0xFF, count: 7)  // time -2
        expected += [0] + [1] + "l".utf8 + [2, 3, 0xAC, 0x02]  // no parent, layout, tensors, files, 300 bytes
        expected += [0xE8, 0x07] + id(1).bytes  // roots of 1000 bytes
        expected += [2, 1] + "a".utf8 + [0, 0, 0, 0, 0, 0, 0xE0, 0x3F] + [1] + "b".utf8
        expected += [UInt8](repeating: 0, count: 8)  // a: 0.5, b: 0
        expected += [0]  // no metadata
        var head = Self.head
        (head.run, head.parent, head.layout, head.tensorCount) = ("r", nil, "l", 2)
        (head.fileCount, head.metrics, head.metadata) = (3, ["b": 0, "a": 0.5], .empty)
        #expect(head.encoded() == expected)
        #expect(try Head(decoding: expected) == head)
    }

    @Test("decodes to what was encoded, NaN included")
    func roundTrip() throws {
        let again = try Head(decoding: Self.head.encoded())
        #expect(again == Self.head)
        #expect(again.metrics["acc"]?.isNaN == true)
        #expect(again.parent == id(7))
        #expect(again.createdAt == -2)
    }

    @Test("is refused or stands for itself, whatever byte changes")
    func mutations() {
        expectCanonical(Self.head.encoded()) { try Head(decoding: $0).encoded() }
    }

    @Test(
        "keeps the bits of every NaN", arguments: [0x7FF8_0000_0000_0001, 0xFFF0_0000_0000_0001] as [UInt64])
    func nan(bits: UInt64) throws {
        var head = Self.head
        head.metrics = ["x": Double(bitPattern: bits)]
        #expect(try Head(decoding: head.encoded()).metrics["x"]?.bitPattern == bits)
    }

    @Test(
        "refuses a run whose name could leave its folder",
        arguments: ["../x", "..", "", "123", "latest", "a b"])
    func runs(name: String) {
        var writer = ByteWriter()
        writer.raw("CHD1".utf8)
        writer.string(name)
        let rest = [UInt8](Self.head.encoded()[(4 + 1 + 9)...])
        #expect(throws: FormatError.self) { try Head(decoding: writer.bytes + rest) }
    }

    @Test("refuses two metrics that Unicode calls equal, of which a dictionary would lose one")
    func normalisation() {
        var head = Self.head
        head.metrics = [:]
        head.metadata = .empty
        var bytes = [UInt8](head.encoded().dropLast(2))
        var writer = ByteWriter()
        writer.varint(2)
        for key in ["e\u{301}", "\u{E9}"] {
            writer.string(key)
            writer.f64(1)
        }
        bytes += writer.bytes + [0]
        #expect(throws: FormatError.self) { try Head(decoding: bytes) }
    }

    @Test("counts heads as equal only where names have the same bytes")
    func equality() {
        var (a, b) = (Self.head, Self.head)
        (a.layout, b.layout) = ("e\u{301}", "\u{E9}")
        #expect(a.layout == b.layout)
        #expect(a != b)
    }
}

struct MetadataTests {
    @Test("is no bytes at all where there is none, and a sorted map otherwise")
    func encoding() throws {
        #expect(Metadata().encoded().isEmpty)
        #expect(try Metadata(decoding: []).values.isEmpty)
        let metadata = Metadata(["lr": "0.1", "git": "\"abc\""])
        var expected: [UInt8] = [2, 3]
        expected += "git\u{5}\"abc\"".utf8
        expected += "\u{2}lr\u{3}0.1".utf8
        #expect(metadata.encoded() == expected)
        #expect(try Metadata(decoding: metadata.encoded()) == metadata)
        #expect(throws: FormatError.self) { try Metadata(decoding: [0]) }
    }

    @Test("is refused or stands for itself, whatever byte changes")
    func mutations() {
        let bytes = Metadata(["a": "1", "b": "\"é\""]).encoded()
        // Cut to nothing it is a value of its own, so one byte stays in front.
        expectCanonical([0xFF] + bytes) { bytes in
            guard bytes.first == 0xFF, bytes.count > 1 else { throw FormatError("no first byte") }
            return [0xFF] + (try Metadata(decoding: [UInt8](bytes.dropFirst())).encoded())
        }
    }
}
