import Testing

@testable import TensorFormats

struct DCPWriterTests {
    typealias Item = DCPWriter.Item

    private static func chunk(_ offsets: [UInt64], _ sizes: [UInt64], _ content: Int) -> DCPWriter.Chunk {
        .init(offsets: offsets, sizes: sizes, content: content)
    }

    /// A state dictionary with everything in it that DCP has a way for: types of all kinds, lists, and what is no tensor.
    static let tensors: [TorchFileWriter.Tensor] = [
        .init(name: "embed", dtype: .f32, shape: [6, 8], content: 0),
        .init(name: "grid", dtype: .i64, shape: [4, 5], content: 2),
        .init(name: "norm", dtype: .bf16, shape: [8], content: 6),
        .init(name: "float8", dtype: .f8E4M3, shape: [2, 4], content: 7),
        .init(name: "uint16", dtype: .u16, shape: [3], content: 8),
        .init(name: "empty", dtype: .f32, shape: [0, 3], content: 9),
        .init(name: "step", dtype: .f32, shape: [], content: 10),
        .init(name: "list.0", dtype: .u8, shape: [4], content: 11),
        .init(name: "list.1", dtype: .u8, shape: [2], content: 12),
    ]

    static let state = TorchValue.dictionary([
        (
            .text("model"),
            .orderedDictionary([
                (.text("embed.weight"), .tensor(0)), (.text("grid"), .tensor(1)), (.text("norm"), .tensor(2)),
                (.text("float8"), .tensor(3)), (.text("uint16"), .tensor(4)), (.text("empty"), .tensor(5)),
            ])
        ),
        (
            .text("optimizer"),
            .dictionary([
                (.text("state"), .dictionary([(.integer(0), .dictionary([(.text("step"), .tensor(6))]))])),
                (
                    .text("param_groups"),
                    .list([
                        .dictionary([
                            (.text("lr"), .float(0.001)),
                            (.text("betas"), .tuple([.float(0.9), .float(0.999)])),
                            (.text("foreach"), .none), (.text("params"), .list([.integer(0)])),
                        ])
                    ])
                ),
            ])
        ),
        (.text("list"), .list([.tensor(7), .tensor(8)])), (.text("step"), .integer(3)),
        (.text("né"), .text("a text")),
    ])

    /// The leaves of it, two of them in chunks: one along one axis, one along two.
    static let items: [Item] = {
        var items = try! DCPWriter.items(of: state, tensors: tensors)
        items[0].value = .tensor(
            dtype: .f32, shape: [6, 8], chunks: [chunk([0, 0], [4, 8], 0), chunk([4, 0], [2, 8], 1)])
        items[1].value = .tensor(
            dtype: .i64, shape: [4, 5],
            chunks: [
                chunk([0, 0], [2, 3], 2), chunk([0, 3], [2, 2], 3), chunk([2, 0], [2, 3], 4),
                chunk([2, 3], [2, 2], 5),
            ])
        return items
    }()

    @Test func `dictionaries are gone into, and lists of tensors or dictionaries`() throws {
        #expect(
            Self.items.map(\.name) == [
                "model.embed.weight", "model.grid", "model.norm", "model.float8", "model.uint16",
                "model.empty",
                "optimizer.state.0.step", "optimizer.param_groups.0.lr", "optimizer.param_groups.0.betas",
                "optimizer.param_groups.0.foreach", "optimizer.param_groups.0.params", "list.0", "list.1",
                "step",
                "né",
            ])
        #expect(Self.items[6].path == [.name("optimizer"), .name("state"), .name("0"), .name("step")])
        #expect(Self.items[11].path == [.name("list"), .index(0)])
    }

    @Test(
        arguments: [
            (.none, .invalidValue), (.list([]), .invalidValue),
            (.dictionary([(.float(1), .none)]), .invalidName),
            (.dictionary([(.text("a"), .tuple([.tensor(0)]))]), .invalidValue),
            (.dictionary([(.text("a"), .tensor(9))]), .invalidValue),
        ] as [(TorchValue, TensorFileError.Code)])
    func `what is no state dictionary is refused with a sentence`(
        _ value: TorchValue, _ code: TensorFileError.Code
    ) {
        let error = #expect(throws: TensorFileError.self) {
            try DCPWriter.items(of: value, tensors: Self.tensors)
        }
        #expect(error?.code == code)
        #expect(error?.message.hasSuffix(".") == true)
    }

    /// The bytes of each content of these items.
    static func contents(of items: [Item]) -> [[UInt8]] {
        var contents: [Int: [UInt8]] = [:]
        for item in items {
            guard case .tensor(let dtype, _, let chunks) = item.value else { continue }
            for chunk in chunks {
                let count = Int(dtype.byteCount(shape: chunk.sizes)!)
                contents[chunk.content] = GoldenFiles.content(chunk.content, count: count)
            }
        }
        return (0..<contents.count).map { contents[$0]! }
    }

    @Test func `the golden checkpoint is written`() throws {
        let writer = try DCPWriter(Self.items, maximumFileSize: 17_000)
        let contents = Self.contents(of: Self.items)
        #expect(writer.files.map(\.name) == ["__0_0.distcp", "__0_1.distcp"])
        for file in writer.files {
            #expect(file.parts.isSound)
            try GoldenFiles.check("dcp/\(file.name)", file.parts.bytes(of: contents))
        }
        try GoldenFiles.check("dcp/\(DCPWriter.metadataFileName)", writer.metadata)
    }

    @Test func `each item is a file of its own in a file`() throws {
        let writer = try DCPWriter(Self.items)
        #expect(writer.files.map(\.name) == ["__0_0.distcp"])
        let bytes = writer.files[0].parts.bytes(of: Self.contents(of: Self.items), withChecksums: false)
        #expect(UInt64(bytes.count) == writer.files[0].parts.length)
        var end: UInt64 = 0
        // Objects come first, then tensors, each in the order of the items.
        let objects = Self.items.indices.filter {
            if case .object = Self.items[$0].value { true } else { false }
        }
        for index in objects + Self.items.indices.filter({ !objects.contains($0) }) {
            var chunks: [DCPWriter.Chunk?] = [nil]
            if case .tensor(_, _, let all) = Self.items[index].value { chunks = all }
            #expect(writer.places[index].count == chunks.count)
            for (place, chunk) in zip(writer.places[index], chunks) {
                #expect(place.offset == end && place.file == 0)
                end += place.length
                let map = try TensorMap(pyTorch: place.length) {
                    Array(bytes[Int(place.offset + $0.lowerBound)..<Int(place.offset + $0.upperBound)])
                }
                #expect(map.tensors.map(\.shape) == (chunk.map { [$0.sizes] } ?? []))
            }
        }
        #expect(end == writer.files[0].parts.length)
    }

    @Test func `the metadata is a pickle that names no folder and no code but PyTorch's`() throws {
        let first = try DCPWriter(Self.items)
        #expect(try DCPWriter(Self.items).metadata == first.metadata)
        let tree = try Unpickler.read(first.metadata)
        let globals = Set(tree.nodes.indices.compactMap { tree.globalName(Pickle.Index($0)) })
        #expect(
            globals.subtracting([
                "torch.float32", "torch.int64", "torch.bfloat16", "torch.float8_e4m3fn", "torch.uint16",
                "torch.uint8",
            ]) == [
                "torch.distributed.checkpoint.metadata.Metadata",
                "torch.distributed.checkpoint.metadata.TensorStorageMetadata",
                "torch.distributed.checkpoint.metadata.BytesStorageMetadata",
                "torch.distributed.checkpoint.metadata.ChunkStorageMetadata",
                "torch.distributed.checkpoint.metadata.TensorProperties",
                "torch.distributed.checkpoint.metadata.MetadataIndex",
                "torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING",
                "torch.distributed.checkpoint.filesystem._StorageInfo",
                "torch.serialization._get_layout", "torch.Size",
            ])
    }

    @Test(arguments: [0, 1, 1500, 3000, 5000, 100_000] as [UInt64])
    func `files are as long as they may be`(_ maximum: UInt64) throws {
        let writer = try DCPWriter(Self.items, maximumFileSize: maximum)
        #expect(writer.files.map(\.name) == writer.files.indices.map { "__0_\($0).distcp" })
        for (number, file) in writer.files.enumerated() {
            let items = writer.places.flatMap { $0.filter { $0.file == number } }
            #expect(items.reduce(0) { $0 + $1.length } == file.parts.length)
            #expect(file.parts.length <= maximum || items.count == 1)
            guard number + 1 < writer.files.count else { continue }
            let next = writer.places.flatMap { $0.filter { $0.file == number + 1 && $0.offset == 0 } }[0]
            #expect(file.parts.length + next.length > maximum)
        }
    }

    @Test func `nothing makes a checkpoint without files`() throws {
        let writer = try DCPWriter([])
        #expect(writer.files.isEmpty && !writer.metadata.isEmpty)
    }

    private static func tensor(_ shape: [UInt64], _ chunks: [([UInt64], [UInt64])], _ dtype: DType = .f32)
        -> [Item]
    {
        let chunks = chunks.enumerated().map {
            DCPWriter.Chunk(offsets: $1.0, sizes: $1.1, content: $0)
        }
        return [.init(path: [.name("x")], value: .tensor(dtype: dtype, shape: shape, chunks: chunks))]
    }

    private static func named(_ paths: [[DCPWriter.Key]]) -> [Item] {
        paths.map { .init(path: $0, value: .object(.none)) }
    }

    static let refused: [(items: [Item], code: TensorFileError.Code)] = [
        (tensor([4], []), .invalidShape),
        (tensor([4], [([0], [3])]), .invalidShape),
        (tensor([4], [([0], [4]), ([0], [4])]), .invalidShape),
        (tensor([4], [([1], [4])]), .invalidShape),
        (tensor([4], [([UInt64.max], [4])]), .invalidShape),
        (tensor([4], [([0, 0], [4, 1])]), .invalidShape),
        (tensor([4], [([0], [])]), .invalidShape),
        (tensor([], [([], []), ([], [])]), .invalidShape),
        (tensor([1 << 60, 1 << 60], [([0, 0], [1 << 60, 1 << 60])]), .invalidShape),
        (tensor([2, 6], [([0, 0], [2, 3]), ([0, 3], [2, 3])], .f4), .invalidShape),
        (tensor([4], [([0], [4])], .f6E2M3), .unsupportedDType),
        (named([[]]), .invalidName),
        (named([[.name("a")], [.name("a")]]), .invalidName),
        (named([[.name("a.b")], [.name("a"), .name("b")]]), .invalidName),
        (named([[.name("a")], [.name("a"), .name("b")]]), .invalidName),
        (named([[.name(String(repeating: "a", count: 5000))]]), .invalidName),
        (named([.init(repeating: .index(0), count: 501)]), .invalidName),
        (named([[.index(-1)]]), .invalidName), (named([[.name("a"), .index(1)]]), .invalidName),
        ([.init(path: [.name("a")], value: .object(.tensor(0)))], .invalidValue),
    ]

    @Test(arguments: refused.indices)
    func `what can't be written is refused with a sentence`(_ number: Int) {
        let error = #expect(throws: TensorFileError.self) { try DCPWriter(Self.refused[number].items) }
        #expect(error?.code == Self.refused[number].code)
        #expect(error?.message.hasSuffix(".") == true)
    }

    @Test func `4-bit numbers are counted in pairs`() throws {
        let writer = try DCPWriter(Self.tensor([2, 8], [([0, 0], [2, 4]), ([0, 4], [2, 4])], .f4))
        #expect(
            writer.files[0].parts.parts.filter { if case .content(_, 4) = $0 { true } else { false } }.count
                == 2)
    }
}
