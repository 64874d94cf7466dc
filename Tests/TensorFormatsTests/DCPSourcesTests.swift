import Testing

@testable import TensorFormats

/// What several files say of one distributed checkpoint.
struct DCPSourcesTests {
    private func header(_ tensors: [(String, DType, [UInt64])], _ info: String?) throws -> SafetensorsHeader {
        let (bytes, _) = SafetensorsHeader.canonicalHeader(
            tensors: tensors.map { ($0.0, $0.1, $0.2, $0.1.byteCount(shape: $0.2)!) },
            metadata: info.map { [("DCP_SHARDING_INFO", $0)] })
        let length = tensors.reduce(0) { $0 + $1.1.byteCount(shape: $1.2)! }
        return try SafetensorsHeader(parsing: bytes, fileSize: UInt64(bytes.count) + length)
    }

    @Test func `chunks of files make tensors as large as they reach`() throws {
        let metadata = try DCPMetadata(shards: [
            (
                "a",
                header(
                    [("w", .f32, [2, 3]), ("b", .f32, [2])],
                    "{\"w\": {\"saved_offsets\": [0, 0]}, \"b\": {\"saved_offsets\": [0]}, \"more\": 1}")
            ),
            ("b", header([("w", .f32, [1, 3])], "{\"w\": {\"saved_offsets\": [2, 0]}}")),
            ("c", header([("whole", .bf16, [])], nil)),
        ])
        #expect(metadata.tensors.map(\.name).sorted() == ["b", "w", "whole"])
        let weight = try #require(metadata.tensors.first { $0.name == "w" })
        #expect(weight.shape == [3, 3] && weight.chunks.map(\.offsets) == [[0, 0], [2, 0]])
        #expect(weight.chunks.map { metadata.files[$0.place!.file] } == ["a", "b"])
        #expect(metadata.problems { _ in 10_000 }.isEmpty)
        #expect(metadata.problems { $0 == "b" ? nil : 10_000 }.map(\.kind) == [.missingFile])
    }

    @Test func `what says no place, or contradicts the others, is refused`() throws {
        let one = try header([("w", .f32, [2])], "{\"w\": {\"saved_offsets\": [0]}}")
        for (tensor, info) in [
            (("w", DType.f32, [2] as [UInt64]), "{}"), (("w", .f32, [2]), "["),
            (("w", .f32, [2]), "{\"w\": {\"saved_offsets\": [1.5]}}"),
            (("w", .f32, [2]), "{\"w\": {\"saved_offsets\": []}}"),
            (("w", .f32, [2]), "{\"w\": {\"saved_offsets\": [18446744073709551615]}}"),
            (("w", .f16, [2]), "{\"w\": {\"saved_offsets\": [2]}}"),
            (("w", .f32, [2, 1]), "{\"w\": {\"saved_offsets\": [2, 0]}}"),
        ] {
            let other = try header([tensor], info)
            #expect(throws: TensorFileError.self, "\(info)") {
                try DCPMetadata(shards: [("a", one), ("b", other)])
            }
        }
    }

    @Test func `metadata of ranks are one, and what both have counts once`() throws {
        func rank(_ file: String, _ offset: UInt64, _ shape: [UInt64] = [4]) -> DCPMetadata {
            let place = DCPMetadata.Place(file: 0, offset: 10, length: 20, transforms: [])
            let chunk = DCPMetadata.Chunk(offsets: [offset], shape: [2], place: place)
            let copy = DCPMetadata.Chunk(offsets: [0], shape: [1], place: place)
            return DCPMetadata(
                tensors: [
                    .init(name: "w", path: nil, dtype: "F32", shape: shape, chunks: [chunk]),
                    .init(name: "b", path: nil, dtype: "F32", shape: [1], chunks: [copy]),
                ], objects: [.init(name: "o", path: nil, place: place)], files: [file], version: "1.0.0",
                checkpointID: nil, saveID: nil)
        }
        let merged = try DCPMetadata(merging: [rank("__0_0.distcp", 0), rank("__1_0.distcp", 2)])
        #expect(merged.tensors.map(\.chunks.count) == [2, 1] && merged.objects.count == 1)
        #expect(
            merged.tensors[0].chunks.map { merged.files[$0.place!.file] } == ["__0_0.distcp", "__1_0.distcp"])
        #expect(merged.problems { _ in 30 }.isEmpty)
        #expect(throws: TensorFileError.self) { try DCPMetadata(merging: [rank("a", 0), rank("b", 2, [5])]) }
        #expect(try DCPMetadata(merging: []).tensors.isEmpty)
    }
}
