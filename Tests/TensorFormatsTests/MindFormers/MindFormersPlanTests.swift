import Testing

@testable import TensorFormats

struct MindFormersPlanTests {
    typealias Tensor = MindFormersPlan.Tensor

    /// What tools/python/mindformers_fixtures.py gave to MindSpore Transformers 1.9.0.
    private static func fixture() throws -> [Tensor] {
        let mesh = try DeviceMesh(parsing: "dp=2,tp=2")
        let model: [(String, DType, [UInt64], [[String]])] = [
            ("embedding.weight", .bf16, [8, 4], [["tp"], []]),
            ("layers.0.fc'1.weight", .f32, [8, 8], [[], ["tp"]]),
            ("layers.0.\"fc\"'2.weight", .f32, [16, 4], [["dp", "tp"], []]),
            ("norm \\ é\u{200B}\n.weight", .f16, [4], [[]]),
        ]
        let states: [(String, DType, [UInt64], [[String]])] =
            model.map { ("adam_m." + $0.0, .f32, $0.2, $0.3) } + [("global_step", .i32, [1], [[]])]
        return try model.map { try Tensor($0, mesh, .model) }
            + states.map { try Tensor($0, mesh, .optimizer) }
    }

    @Test func `the metadata is what the library writes`() throws {
        let tensors = try Self.fixture()
        let complete = try MindFormersPlan(tensors, rankCount: 4, prefix: "qwen3")
        #expect(try complete.metadata.serialized() == Fixtures.bytes("mindformers/complete.json"))
        #expect(complete.files.count == 8)
        let balanced = try MindFormersPlan(
            tensors, rankCount: 4, prefix: "qwen3", replicas: .balanced, style: .compact)
        #expect(try balanced.metadata.serialized() == Fixtures.bytes("mindformers/balanced-2.1.json"))
    }

    /// The real checkpoint, put together from the files of its ranks, and cut again.
    @Test func `a real checkpoint is written again byte for byte`() throws {
        let folder = "mindformers2/dp2tp2/checkpoint/iteration_00000002/"
        let metadata = try MindFormersMetadata(parsing: Samples.bytes(folder + "metadata.json"))
        var files: [String: [UInt8]] = [:]
        for path in try Samples.files(in: folder) where path.hasSuffix(".safetensors") {
            files[String(path.dropFirst(folder.count))] = try Samples.bytes(path)
        }
        var wholes: [Whole] = []
        for tensor in metadata.tensors {
            let dtype = try #require(DType(mindSporeName: tensor.dtype))
            var whole = Whole(shape: tensor.shape, elementLength: dtype.bitsPerElement / 8)
            for stored in metadata.slices where stored.tensor == tensor.name {
                let file = try #require(files[stored.places[0].fileName])
                let header = try SafetensorsHeader(file: file)
                let entry = try #require(header.tensors.first { $0.name == tensor.name })
                let start = header.headerLength + Int(entry.begin)
                whole.paste(
                    file[start..<start + Int(entry.byteCount)], at: try tensor.area(ofSlice: stored.slice))
            }
            wholes.append(whole)
        }
        let tensors = try metadata.tensors.map { tensor in
            let name = try #require(metadata.slices.first { $0.tensor == tensor.name }?.places[0].fileName)
            return Tensor(
                name: tensor.name, dtype: DType(mindSporeName: tensor.dtype)!, shape: tensor.shape,
                layout: try #require(tensor.layout),
                kind: try #require(MindFormersFileName(parsing: name)).kind)
        }
        let plan = try MindFormersPlan(tensors, rankCount: 4, prefix: "qwen3")
        #expect(plan.metadata == metadata)
        #expect(Set(plan.files.map(\.name.text)) == Set(files.keys))
        for file in plan.files {
            let data = file.pieces.flatMap { wholes[$0.tensor].cut(at: $0.area) }
            #expect(UInt64(data.count) == file.pieces.reduce(0) { $0 + $1.byteCount })
            #expect(file.header + data == files[file.name.text], "\(file.name.text)")
        }
    }

    @Test func `without redundancy each slice is stored once, and no file is empty`() throws {
        let mesh = try DeviceMesh(parsing: "dp=3,tp=2")
        let tensors = try (0..<5).map { number in
            try Tensor(
                ("t\(number)", .f32, [4, UInt64(number) + 1], [number % 2 == 0 ? ["tp"] : [], []]), mesh,
                .model)
        }
        let plan = try MindFormersPlan(tensors, rankCount: 6, replicas: .balanced)
        #expect(
            plan.metadata.slices.count == 3 * 2 + 2
                && plan.metadata.slices.allSatisfy { $0.places.count == 1 })
        #expect(plan.files.allSatisfy { !$0.pieces.isEmpty && $0.name.count == plan.files.count })
        #expect(plan.files.map(\.name.index) == Array(plan.files.indices))
        for stored in plan.metadata.slices {
            #expect(stored.places[0].holders?.contains(stored.places[0].rank) == true)
        }
        #expect(try MindFormersMetadata(parsing: plan.metadata.serialized()) == plan.metadata)
    }

    /// As `remove_param_redundancy` of MindSpore does: test_mindformers_exports.py has it do so itself.
    @Test func `dealt slices go to their ranks by turns, in the order of their names`() throws {
        let mesh = try DeviceMesh(parsing: "dp=2,tp=2")
        var tensors = try ["c", "a", "d", "b", "e"].map { name in
            try Tensor((name, .f32, [4], [name == "b" ? ["tp"] : []]), mesh, .model)
        }
        tensors[4].isEverywhere = true
        let plan = try MindFormersPlan(
            tensors, rankCount: 4, replicas: .dealt,
            metadata: [("format", "ms"), ("remove_redundancy", "True")])
        // Of all ranks a, c, d; of ranks 0 and 2 the first slice of b, of ranks 1 and 3 the second.
        let names = plan.files.map { file in file.pieces.map { tensors[$0.tensor].name }.sorted() }
        #expect(names == [["a", "b", "e"], ["b", "c", "e"], ["d", "e"], ["e"]])
        #expect(plan.files.map(\.rank) == [0, 1, 2, 3])
        #expect(plan.files[1].pieces.first { tensors[$0.tensor].name == "b" }?.area == [2..<4])
        let text = String(decoding: plan.files[3].header.dropFirst(8), as: UTF8.self)
        #expect(text.hasPrefix(#"{"__metadata__":{"format":"ms","remove_redundancy":"True"},"e":"#))
    }

    @Test func `stages of a pipeline have files of their own tensors`() throws {
        let mesh = try DeviceMesh(parsing: "tp=2")
        let layouts = try [
            mesh.layout(cuts: [["tp"]], ranks: [0, 1]), mesh.layout(cuts: [["tp"]], ranks: [2, 3]),
        ]
        let tensors = layouts.enumerated().map { stage, layout in
            Tensor(name: "stage\(stage)", dtype: .i8, shape: [6], layout: layout, kind: .model)
        }
        let plan = try MindFormersPlan(tensors, rankCount: 4, prefix: "a-b")
        #expect(plan.files.map { $0.pieces.map(\.tensor) } == [[0], [0], [1], [1]])
        #expect(plan.files.map { $0.pieces[0].area } == [[0..<3], [3..<6], [0..<3], [3..<6]])
        #expect(plan.files[3].name.text == "a-b-model-0000003-0000004.safetensors")
    }

    @Test func `slices that too many ranks hold are to be stored once`() throws {
        let mesh = try DeviceMesh(parsing: "dp=4100")
        let x = try Tensor(("x", .f32, [4], [[]]), mesh, .model)
        let error = #expect(throws: TensorFileError.self) { try MindFormersPlan([x], rankCount: 4100) }
        #expect(error?.code == .tooLarge && error?.message.contains("redundancy") == true)
        #expect(try MindFormersPlan([x], rankCount: 4100, replicas: .balanced).files.count == 1)
        let many = try (0..<4100).map { try Tensor(("x\($0)", .f32, [4], [[]]), mesh, .model) }
        #expect(throws: TensorFileError.self) {
            try MindFormersPlan(many, rankCount: 4100, replicas: .balanced)
        }
    }

    @Test func `what can't be spread is refused with the tensor's name`() throws {
        let mesh = try DeviceMesh(parsing: "dp=2,tp=2")
        func code(_ tensors: [Tensor], rankCount: Int = 4) -> TensorFileError.Code? {
            let error = #expect(throws: TensorFileError.self) {
                try MindFormersPlan(tensors, rankCount: rankCount)
            }
            #expect(error?.message.contains("\"x\"") == true)
            return error?.code
        }
        let x = try Tensor(("x", .f32, [4], [["tp"]]), mesh, .model)
        #expect(code([x, x]) == .invalidName)
        #expect(code([x], rankCount: 3) == .invalidLayout)
        #expect(code([try Tensor(("x", .f32, [5], [["tp"]]), mesh, .model)]) == .invalidLayout)
        #expect(code([try Tensor(("x", .f8E8M0, [4], [["tp"]]), mesh, .model)]) == .unsupportedDType)
        #expect(
            code([try Tensor(("x", .f32, [1 << 40, 1 << 40], [[], []]), mesh, .model)]) == .invalidShape)
        for rankCount in [0, -1, 1 << 30] {
            #expect(throws: TensorFileError.self) { try MindFormersPlan([], rankCount: rankCount) }
        }
    }
}

extension MindFormersPlan.Tensor {
    fileprivate init(
        _ tensor: (name: String, dtype: DType, shape: [UInt64], cuts: [[String]]), _ mesh: DeviceMesh,
        _ kind: MindFormersFileName.Kind
    ) throws {
        self.init(
            name: tensor.name, dtype: tensor.dtype, shape: tensor.shape,
            layout: try mesh.layout(cuts: tensor.cuts),
            kind: kind)
    }
}

/// A tensor in memory.
private struct Whole {
    let shape: [UInt64]
    let elementLength: Int
    private(set) var bytes: [UInt8]

    init(shape: [UInt64], elementLength: Int) {
        self.shape = shape
        self.elementLength = elementLength
        bytes = .init(repeating: 0, count: elementLength * Int(shape.reduce(1, *)))
    }

    /// Where the elements of an area lie, in its order.
    private func places(_ area: [Range<UInt64>]) -> [Int] {
        zip(area, shape).reduce([0]) { places, axis in
            places.flatMap { place in axis.0.map { place * Int(axis.1) + Int($0) } }
        }
    }

    mutating func paste(_ data: ArraySlice<UInt8>, at area: [Range<UInt64>]) {
        for (number, place) in places(area).enumerated() {
            for byte in 0..<elementLength {
                bytes[place * elementLength + byte] = data[data.startIndex + number * elementLength + byte]
            }
        }
    }

    func cut(at area: [Range<UInt64>]) -> [UInt8] {
        places(area).flatMap { bytes[$0 * elementLength..<($0 + 1) * elementLength] }
    }
}
