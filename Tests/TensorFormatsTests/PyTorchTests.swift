import Testing

@testable import TensorFormats

/// Files that torch wrote, and what torch says is in them (tools/python/pytorch_fixtures.py).
struct PyTorchTests {
    static let expected = try! Fixtures.json("pytorch/expected.json").members!
    static let accepted = expected.filter { $0.value["refused"] == nil }.map(\.key)
    static let refused = expected.filter { $0.value["refused"] != nil }.map(\.key)

    private static func map(_ file: String) throws -> TensorMap {
        try TensorMap(pyTorch: Fixtures.bytes("pytorch/\(file)"))
    }

    @Test(arguments: accepted)
    func `the tensors are those that torch loads`(_ file: String) throws {
        let bytes = try Fixtures.bytes("pytorch/\(file)")
        let map = try TensorMap(pyTorch: bytes)
        #expect(map.format == "pytorch" && map.isSound(fileSize: bytes.count))
        let all = try #require(Self.expected.first { $0.key == file }?.value["tensors"]?.array)
        #expect(Set(map.tensors.map(\.name)) == Set(all.map { $0["name"]!.stringValue! }))
        #expect(map.tensors.count == all.count)
        for tensor in map.tensors {
            let one = try #require(all.first { $0["name"]?.stringValue == tensor.name })
            #expect(one["dtype"]?.stringValue == tensor.dtype, "\(tensor.name)")
            #expect(one["shape"]?.array?.compactMap(\.uint64) == tensor.shape, "\(tensor.name)")
            #expect(one["bytes"]?.stringValue == hex(map.bytes(of: tensor, in: bytes)), "\(tensor.name)")
        }
    }

    @Test(arguments: refused)
    func `what is not certain is refused with a reason`(_ file: String) throws {
        let bytes = try Fixtures.bytes("pytorch/\(file)")
        let error = #expect(throws: TensorFileError.self) { try TensorMap(pyTorch: bytes) }
        let expected = Self.expected.first { $0.key == file }?.value["refused"]?.stringValue
        #expect(error?.code.rawValue == expected, "\(error?.message ?? "")")
        #expect(error?.message.hasSuffix(".") == true)
    }

    @Test func `there are fixtures of every kind`() {
        #expect(Self.accepted.count >= 30 && Self.refused.count >= 12)
        let dtypes = Set(
            Self.expected.flatMap { $0.value["tensors"]?.array ?? [] }.compactMap { $0["dtype"]?.stringValue }
        )
        // Nothing in PyTorch makes the two F6 types.
        #expect(Set(DType.allCases.map(\.name)).subtracting(dtypes) == ["F6_E2M3", "F6_E3M2"])
        #expect(dtypes.isSuperset(of: ["C128", "complex32", "qint8", "quint8"]))
    }

    // MARK: Cutting

    @Test func `tensors side by side are extents, and those of the same bytes share one`() throws {
        let map = try Self.map("views.pt")
        #expect(map.tensors.map(\.name) == ["rows.0", "rows.1", "same", "rest"])
        #expect(map.tensors.map(\.extent) == [0, 1, 1, 2])
        #expect(map.tensors.allSatisfy { $0.offset == 0 })
        #expect(map.extents.map(\.length) == [64, 96, 32] && map.extents.allSatisfy { $0.elementSize == 4 })
        let tied = try Self.map("tied.pt")
        #expect(tied.extents.count == 1 && tied.tensors.count == 3)
        #expect(tied.tensors.last?.shape == [48])
    }

    @Test func `a storage whose tensors overlap is one extent with views`() throws {
        let map = try Self.map("overlap.pt")
        #expect(map.extents.map(\.length) == [192])
        #expect(map.tensors.map(\.offset) == [0, 32, 64] && map.tensors.map(\.length) == [192, 64, 32])
    }

    @Test func `long gaps are extents and short ones are not`() throws {
        let map = try Self.map("gaps.pt")
        // 400 bytes in front and 4 between the last two are left to the template.
        #expect(map.extents.map(\.length) == [800, 6800, 400, 396, 7584])
        #expect(map.tensors.map(\.extent) == [0, 2, 3])
    }

    @Test func `a storage with a tensor that is not plain stays whole`() throws {
        let map = try Self.map("strided.pt")
        #expect(map.extents.map(\.length) == [192, 32] && map.extents.map(\.elementSize) == [4, 2])
        #expect(map.tensors.map(\.name) == ["plain", "alone"])
        let complex = try Self.map("complex.pt")
        #expect(complex.extents.map(\.elementSize) == [4, 4, 8])
        #expect(complex.tensors.map(\.name) == ["plain"])
    }

    @Test func `tensors without elements have an extent without bytes`() throws {
        let map = try Self.map("scalars.pt")
        let empty = map.tensors.filter { $0.length == 0 }
        #expect(empty.map(\.shape) == [[0], [3, 0], [0, 8]])
        #expect(empty.allSatisfy { map.extents[$0.extent].length == 0 })
        #expect(map.tensors.map(\.shape).prefix(2) == [[], []])
    }

    @Test func `numbers have their size`() throws {
        let map = try Self.map("dtypes.pt")
        for tensor in map.tensors {
            let size = map.extents[tensor.extent].elementSize
            switch tensor.dtype {
            case "C128": #expect(size == 8)
            case "complex32": #expect(size == 2)
            default: #expect(size == DType(rawValue: tensor.dtype)?.bytesPerNumber, "\(tensor.dtype)")
            }
        }
    }

    @Test func `what is in the file apart from tensors is read, and no tensor is`() throws {
        let bytes = try Fixtures.bytes("pytorch/gaps.pt")
        var read: UInt64 = 0
        let map = try TensorMap(pyTorch: UInt64(bytes.count)) { range in
            read += range.upperBound - range.lowerBound
            return Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)])
        }
        #expect(read < UInt64(bytes.count) - map.extents.reduce(0) { $0 + $1.length })
    }

    @Test func `what reading throws passes through`() throws {
        struct Broken: Error {}
        #expect(throws: Broken.self) { try TensorMap(pyTorch: 1000) { _ in throw Broken() } }
        let short = #expect(throws: TensorFileError.self) { try TensorMap(pyTorch: 1000) { _ in [1] } }
        #expect(short?.code == .otherFormat)
    }

    @Test func `a damaged pickle is known by its checksum`() throws {
        var bytes = try Fixtures.bytes("pytorch/alone.pt")
        let place = try #require(bytes.firstRange(of: "cpu".utf8))
        bytes[place.lowerBound] = UInt8(ascii: "d")
        let error = #expect(throws: TensorFileError.self) { try TensorMap(pyTorch: bytes) }
        #expect(error?.code == .invalidPickle)
    }

    @Test func `a safetensors file has an extent for each tensor`() throws {
        for file in try Fixtures.files(in: "written") {
            let bytes = try Fixtures.bytes("written/\(file)")
            let header = try SafetensorsHeader(file: bytes)
            let map = TensorMap(header)
            #expect(map.format == "safetensors" && map.isSound(fileSize: bytes.count))
            #expect(map.extents.count == header.tensors.count)
            #expect(map.extents.reduce(0) { $0 + $1.length } == header.dataLength)
            for (tensor, original) in zip(map.tensors, header.tensors) {
                #expect(map.bytes(of: tensor, in: bytes).count == Int(original.byteCount))
                #expect(tensor.dtype == original.dtype.name && tensor.shape == original.shape)
            }
        }
        #expect(DType.allCases.map(\.bytesPerNumber).filter { $0 == 4 }.count == 4)
    }
}

extension TensorMap {
    /// Of a whole file in memory. A range that is not in it would be a trap.
    init(pyTorch bytes: [UInt8]) throws {
        try self.init(pyTorch: UInt64(bytes.count)) { Array(bytes[Int($0.lowerBound)..<Int($0.upperBound)]) }
    }

    /// Whether the extents are in order and inside the file, and the tensors inside the extents.
    func isSound(fileSize: Int) -> Bool {
        var end: UInt64 = 0
        for extent in extents {
            guard extent.offset >= end, extent.length <= UInt64(fileSize),
                extent.offset <= UInt64(fileSize) - extent.length, [1, 2, 4, 8].contains(extent.elementSize)
            else { return false }
            end = extent.offset + extent.length
        }
        return Set(tensors.map { Array($0.name.utf8) }).count == tensors.count
            && tensors.allSatisfy {
                extents.indices.contains($0.extent) && $0.length <= extents[$0.extent].length
                    && $0.offset <= extents[$0.extent].length - $0.length
            }
    }

    func bytes(of tensor: Tensor, in file: [UInt8]) -> ArraySlice<UInt8> {
        let start = Int(extents[tensor.extent].offset + tensor.offset)
        return file[start..<start + Int(tensor.length)]
    }
}
