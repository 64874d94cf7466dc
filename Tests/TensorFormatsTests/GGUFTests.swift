import Testing

@testable import TensorFormats

/// Files that llama.cpp's library gguf wrote, and what it says is in them (tools/python/gguf_fixtures.py).
struct GGUFTests {
    static let expected = ExpectedTensors("gguf")

    private static func header(_ file: String) throws -> GGUFHeader {
        let file = try Fixture("gguf/\(file)")
        return try GGUFHeader(size: file.size, read: file.read)
    }

    @Test(arguments: expected.accepted)
    func `the tensors are those that the library finds`(_ file: String) throws {
        try Self.expected.check(file) { try TensorMap("gguf", $0) }
    }

    @Test(arguments: expected.refused)
    func `what is not certain is refused with a reason`(_ file: String) throws {
        try Self.expected.checkRefusal(file) { try TensorMap("gguf", $0) }
    }

    @Test func `there are fixtures of every type`() throws {
        let names = Set(try Self.header("types.gguf").tensors.map(\.type.name))
        let all = (0...255 as ClosedRange<UInt32>).compactMap { GGMLType(number: $0)?.name }
        #expect(Set(all).count == all.count && Set(all).subtracting(names) == ["Q8_1", "Q2_0"])
    }

    @Test func `the metadata is what was written`() throws {
        let header = try Self.header("metadata.gguf")
        #expect(header.architecture == "llama" && header.name == "é model" && header.quantization == "Q4_K_M")
        let expected: [String: GGUFHeader.Value] = [
            "general.architecture": .text("llama"), "general.name": .text("é model"),
            "general.file_type": .unsigned(15), "a.u8": .unsigned(255), "a.i8": .integer(-1),
            "a.u16": .unsigned(65535), "a.i16": .integer(-2), "a.i32": .integer(-3), "a.u64": .unsigned(.max),
            "a.i64": .integer(.min), "a.f32": .number(0.5), "a.f64": .number(-1.25), "a.bool": .bool(true),
            "a.words": .array(count: 3), "a.numbers": .array(count: 3),
            "a.floats": .array(count: 1), "a.flags": .array(count: 2),
        ]
        #expect(Dictionary(uniqueKeysWithValues: header.metadata.map { ($0.key, $0.value) }) == expected)
        #expect(header.version == 3 && header["a.none"] == nil)
        let shapes = try Self.header("shapes.gguf")
        #expect(shapes.quantization == nil && shapes.name == nil && shapes.alignment == 32)
        #expect(try Self.header("version-2.gguf").version == 2)
        #expect(try Self.header("only-metadata.gguf").name == "words")
    }

    @Test func `tensors begin at multiples of the alignment`() throws {
        let header = try Self.header("aligned.gguf")
        #expect(header.alignment == 256 && header.tensors.count == 6)
        #expect(header.tensors.allSatisfy { $0.offset % 256 == 0 })
    }

    @Test func `quantised blocks are bytes and other numbers have their size`() throws {
        let map = try TensorMap("gguf", Fixture("gguf/types.gguf"))
        for tensor in map.tensors {
            let size = DType(rawValue: tensor.dtype)?.bytesPerNumber ?? 1
            #expect(map.extents[tensor.extent].elementSize == size, "\(tensor.dtype)")
        }
    }

    @Test func `a long header is an extent, and its words are passed over`() throws {
        let words = 100_000
        var file = Array("GGUF".utf8) + little(UInt32(3)) + little(UInt64(1)) + little(UInt64(1))
        file += little(UInt64(1)) + [0x61] + little(UInt32(9)) + little(UInt32(8)) + little(UInt64(words))
        for _ in 0..<words { file += little(UInt64(2)) + [0x61, 0x62] }
        file += little(UInt64(1)) + [0x77] + little(UInt32(1)) + little(UInt64(4)) + little(UInt32(0))
        file += little(UInt64(0))
        file += [UInt8](repeating: 0, count: (32 - file.count % 32) % 32)
        let start = UInt64(file.count)
        let map = try TensorMap("gguf", Fixture(bytes: file + [UInt8](repeating: 1, count: 16)))
        #expect(map.extents.map(\.length) == [start, 16] && map.tensors.map(\.extent) == [1])
    }
}

/// The bytes of a little-endian number.
func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    withUnsafeBytes(of: number.littleEndian) { Array($0) }
}
