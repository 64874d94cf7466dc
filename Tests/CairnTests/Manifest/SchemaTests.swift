import Cairn
import ChunkStore
import Testing

struct SchemaTests {
    static let schema = Schema(
        format: "safetensors", blobLengths: [8, 0, 300],
        tensors: [
            .init(name: "w", dtype: "F32", shape: [2], blob: 0, offset: 0, length: 8),
            .init(name: "empty", dtype: "BF16", shape: [0, 3], blob: 1, offset: 0, length: 0),
            .init(name: "é", dtype: "U8", shape: [], blob: 2, offset: 299, length: 1),
        ],
        parts: [.literal([1, 2, 3]), .blob(0), .blob(1), .blob(2), .literal([]), .blob(0)])

    @Test("has exactly the bytes that the format page describes")
    func golden() throws {
        let schema = Schema(
            format: "st", blobLengths: [300],
            tensors: [.init(name: "w", dtype: "U8", shape: [3, 100], blob: 0, offset: 0, length: 300)],
            parts: [.literal([9]), .blob(0)])
        var expected = [UInt8]("CSC1\u{2}st".utf8)
        expected += [1, 0xAC, 0x02]  // one blob of 300 bytes
        expected += "\u{1}\u{1}w\u{2}U8".utf8
        expected += [2, 3, 100, 0, 0, 0xAC, 0x02]
        expected += [2, 0, 1, 9, 1]  // a literal byte, then the blob
        #expect(schema.encoded() == expected)
        #expect(try Schema(decoding: expected, fileSize: 301) == schema)
    }

    @Test("knows the size of its file")
    func size() throws {
        #expect(Self.schema.fileSize == 3 + 8 + 0 + 300 + 8)
        let bytes = Self.schema.encoded()
        #expect(try Schema(decoding: bytes, fileSize: 319) == Self.schema)
        #expect(throws: FormatError.self) { try Schema(decoding: bytes, fileSize: 318) }
    }

    @Test("is refused or stands for itself, whatever byte changes")
    func mutations() {
        expectCanonical(Self.schema.encoded()) { try Schema(decoding: $0).encoded() }
    }

    @Test(
        "refuses what can't be put together",
        arguments: [
            Schema(format: "a blob that stands nowhere", blobLengths: [1], tensors: [], parts: []),
            Schema(format: "a part of no blob", blobLengths: [], tensors: [], parts: [.blob(0)]),
            Schema(
                format: "2^63 bytes", blobLengths: [1 << 62], tensors: [], parts: [.blob(0), .blob(0)]),
            Schema(
                format: "2^64 bytes", blobLengths: [.max], tensors: [], parts: [.blob(0), .literal([1])]),
            Schema(
                format: "a tensor beyond its blob", blobLengths: [4],
                tensors: [.init(name: "t", dtype: "U8", shape: [4], blob: 0, offset: 1, length: 4)],
                parts: [.blob(0)]),
            Schema(
                format: "a tensor whose end overflows", blobLengths: [4],
                tensors: [.init(name: "t", dtype: "U8", shape: [4], blob: 0, offset: 2, length: .max)],
                parts: [.blob(0)]),
            Schema(
                format: "a tensor in no blob", blobLengths: [],
                tensors: [.init(name: "t", dtype: "U8", shape: [0], blob: 0, offset: 0, length: 0)], parts: []
            ),
        ])
    func unsound(schema: Schema) {
        #expect(throws: FormatError.self) { try schema.check() }
    }

    @Test("refuses absurd counts without trying to hold them")
    func counts() {
        let start = [UInt8]("CSC1".utf8) + [0]
        let huge: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]
        for prefix in [start, start + [0], start + [0, 0]] {
            #expect(throws: FormatError.self) { try Schema(decoding: prefix + huge) }
        }
    }
}
