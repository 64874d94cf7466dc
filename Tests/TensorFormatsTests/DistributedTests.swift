import Testing

@testable import TensorFormats

/// Files of distributed checkpoints that torch wrote, and what torch says is in them (tools/python/dcp_fixtures.py).
struct DistributedTests {
    static let expected = try! Fixtures.json("dcp/expected.json").members!
    static let files = expected.map(\.key).filter { $0.hasSuffix(".distcp") && !$0.contains("/") }
    static let metadata = expected.map(\.key).filter { $0.hasSuffix(".metadata") && !$0.contains("/") }

    @Test(arguments: files)
    func `the tensors are those that torch loads from the items`(_ file: String) throws {
        try check(file, try Fixtures.bytes("dcp/\(file)"))
    }

    @Test(arguments: metadata)
    func `the metadata is what torch reads`(_ file: String) throws {
        try check(file, DCPMetadata(parsing: Fixtures.bytes("dcp/\(file)")))
    }

    /// Written by torch 2.15 on several ranks, and by Megatron-LM.
    @Test func `so are those of the samples, and each chunk is in its file, at its place`() throws {
        let names = Self.expected.map(\.key).filter { $0.contains("/") }
        let files = try Samples.files().filter { $0.hasSuffix(".distcp") || $0.hasSuffix(".metadata") }
        #expect(files == names.sorted() && names.count == 35)
        var maps: [String: TensorMap] = [:]
        for name in names where name.hasSuffix(".distcp") {
            let bytes = try Samples.bytes(name)
            try check(name, bytes)
            maps[name] = try TensorMap(distributed: bytes)
        }
        var chunks = 0
        for name in names where name.hasSuffix("/.metadata") {
            let metadata = try DCPMetadata(parsing: Samples.bytes(name))
            try check(name, metadata)
            let folder = name.dropLast(".metadata".count)
            #expect(metadata.problems { try? UInt64(Samples.bytes(folder + $0).count) } == [])
            for tensor in metadata.tensors {
                for chunk in tensor.chunks {
                    let place = try #require(chunk.place)
                    let map = try #require(maps[folder + metadata.files[place.file]])
                    let found = try #require(map.tensors.first { $0.name == "@\(place.offset)" })
                    #expect(found.dtype == tensor.dtype && found.shape == chunk.shape, "\(tensor.name)")
                    chunks += 1
                }
            }
        }
        #expect(chunks == 132)
    }

    @Test func `a file without items has an empty map, and its checkpoint is whole`() throws {
        #expect(try TensorMap(distributed: []).tensors.isEmpty)
        let metadata = try DCPMetadata(parsing: Fixtures.bytes("dcp/nothing.metadata"))
        #expect(metadata.tensors.isEmpty && metadata.problems { _ in nil } == [])
    }

    @Test func `what stands in front of the first item, behind the last or between two is refused`() throws {
        let bytes = try Fixtures.bytes("dcp/one.distcp")
        let metadata = try DCPMetadata(parsing: Fixtures.bytes("dcp/one.metadata"))
        let places = metadata.tensors.flatMap(\.chunks).compactMap { $0.place?.offset }
        let second = try #require(places.filter { $0 > 0 }.min())
        for place in [0, Int(second), bytes.count] {
            var file = bytes
            file.insert(contentsOf: Array("something".utf8), at: place)
            let error = #expect(throws: TensorFileError.self) { try TensorMap(distributed: file) }
            #expect(error?.code == .damaged)
            #expect(
                error?.message.contains("at byte \(place == bytes.count ? file.count : place + 9) ") == true)
        }
        // Whole items in another order are as good.
        let turned = Array(bytes[Int(second)...] + bytes[..<Int(second)])
        #expect(
            try TensorMap(distributed: turned).tensors.count == TensorMap(distributed: bytes).tensors.count)
    }

    @Test func `many small items are read together, and of large ones only a little`() throws {
        var small = VirtualFile()
        for _ in 0..<10_000 { small.append(.savedZeros(16)) }
        let clock = ContinuousClock()
        let start = clock.now
        let (map, reads) = try Self.reading(small)
        print("10,000 items: \(clock.now - start)")
        #expect(map.tensors.count == 10_000 && map.isSound(fileSize: Int(small.size)))
        #expect(map.tensors.map(\.shape) == [[UInt64]](repeating: [16], count: 10_000))
        #expect(map.tensors[1].name == "@\(small.size / 10_000)")
        #expect(reads.count < 100 && reads.bytes < 2 * small.size)

        // Also beyond 4 GiB, where the directory has fields of 64 bits.
        var large = VirtualFile()
        let counts: [UInt64] = [1 << 20, 5 << 28, 16, 3 << 30, 1 << 20]
        for count in counts { large.append(.savedZeros(count)) }
        let (mapOfLarge, readsOfLarge) = try Self.reading(large)
        #expect(mapOfLarge.tensors.map(\.shape) == counts.map { [$0] })
        #expect(mapOfLarge.extents.map(\.length) == counts.map { 4 * $0 })
        #expect(readsOfLarge.count <= 2 * counts.count && readsOfLarge.bytes <= 5 * 2 * 8192)
    }

    @Test func `what reading throws passes through`() throws {
        struct Broken: Error {}
        #expect(throws: Broken.self) { try TensorMap(distributed: 1000) { _ in throw Broken() } }
        #expect(throws: TensorFileError.self) { try TensorMap(distributed: 1000) { _ in [1] } }
    }

    // MARK: Comparing

    private func check(_ file: String, _ bytes: [UInt8]) throws {
        let expected = try #require(Self.expected.first { $0.key == file }?.value)
        if let code = expected["refused"]?.stringValue {
            let error = #expect(throws: TensorFileError.self) { try TensorMap(distributed: bytes) }
            #expect(error?.code.rawValue == code, "\(error?.message ?? "")")
            return
        }
        let map = try TensorMap(distributed: bytes)
        #expect(map.format == "distcp" && map.isSound(fileSize: bytes.count))
        let all = try #require(expected["tensors"]?.array)
        #expect(map.tensors.map(\.name) == all.map { $0["name"]?.stringValue }, "\(file)")
        for (tensor, one) in zip(map.tensors, all) {
            #expect(one["dtype"]?.stringValue == tensor.dtype, "\(file) \(tensor.name)")
            #expect(one["shape"]?.array?.compactMap(\.uint64) == tensor.shape, "\(file) \(tensor.name)")
            let crc = CRC32(Array(map.bytes(of: tensor, in: bytes))).value
            #expect(one["crc32"]?.uint64 == UInt64(crc), "\(file) \(tensor.name)")
        }
    }

    private func check(_ file: String, _ metadata: DCPMetadata) throws {
        let expected = try #require(Self.expected.first { $0.key == file }?.value)
        #expect(metadata.version == expected["version"]?.stringValue)
        #expect(metadata.checkpointID == expected["checkpoint"]?.stringValue)
        #expect(metadata.saveID == expected["save"]?.stringValue)
        let tensors = try #require(expected["tensors"]?.array)
        #expect(metadata.tensors.map(\.name) == tensors.map { $0["name"]?.stringValue }, "\(file)")
        for (tensor, one) in zip(metadata.tensors, tensors) {
            #expect(tensor.dtype == one["dtype"]?.stringValue, "\(file) \(tensor.name)")
            #expect(tensor.shape == one["shape"]?.array?.compactMap(\.uint64), "\(file) \(tensor.name)")
            #expect(shown(tensor.path) == shown(one["path"]), "\(file) \(tensor.name)")
            let chunks = try #require(one["chunks"]?.array)
            #expect(tensor.chunks.map(\.offsets) == chunks.map { $0["offsets"]?.array?.compactMap(\.uint64) })
            #expect(tensor.chunks.map(\.shape) == chunks.map { $0["shape"]?.array?.compactMap(\.uint64) })
            #expect(tensor.chunks.map { shown($0.place, metadata) } == chunks.map { shown($0["place"]) })
        }
        let objects = try #require(expected["objects"]?.array)
        #expect(metadata.objects.map(\.name) == objects.map { $0["name"]?.stringValue }, "\(file)")
        for (object, one) in zip(metadata.objects, objects) {
            #expect(shown(object.path) == shown(one["path"]), "\(file) \(object.name)")
            #expect(shown(object.place, metadata) == shown(one["place"]), "\(file) \(object.name)")
        }
    }

    private func shown(_ path: [DCPMetadata.Key]?) -> [String]? {
        path?.map { key in
            switch key {
            case .name(let name): "name " + name
            case .index(let index): "index \(index)"
            }
        }
    }

    private func shown(_ place: DCPMetadata.Place?, _ metadata: DCPMetadata) -> [String]? {
        place.map {
            ["name " + metadata.files[$0.file], "index \($0.offset)", "index \($0.length)"]
                + $0.transforms.map { "name " + $0 }
        }
    }

    private func shown(_ value: JSON?) -> [String]? {
        value?.array?.map { $0.stringValue.map { "name " + $0 } ?? "index \($0.uint64 ?? 0)" }
    }

    private static func reading(
        _ file: VirtualFile
    ) throws -> (map: TensorMap, reads: (count: Int, bytes: UInt64)) {
        var reads: (count: Int, bytes: UInt64) = (0, 0)
        let map = try TensorMap(distributed: file.size) { range in
            reads.count += 1
            reads.bytes += range.upperBound - range.lowerBound
            return file.read(range)
        }
        return (map, reads)
    }
}

extension TensorMap {
    /// Of a whole file in memory. A range that is not in it would be a trap.
    init(distributed bytes: [UInt8]) throws {
        try self.init(distributed: UInt64(bytes.count)) {
            Array(bytes[Int($0.lowerBound)..<Int($0.upperBound)])
        }
    }
}
