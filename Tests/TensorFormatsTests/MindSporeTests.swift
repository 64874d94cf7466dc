import Testing

@testable import TensorFormats

/// Files that MindSpore wrote, and what it says is in them (tools/python/mindspore_fixtures.py).
struct MindSporeTests {
    static let expected = ExpectedTensors("mindspore")

    private static func map(_ file: String) throws -> TensorMap {
        try TensorMap("ckpt", Fixture("mindspore/\(file)"))
    }

    @Test(arguments: expected.accepted)
    func `the tensors are those that MindSpore loads`(_ file: String) throws {
        try Self.expected.check(file) { try TensorMap("ckpt", $0) }
        #expect(TensorMap.isMindSpore(try Fixtures.bytes("mindspore/\(file)")))
    }

    @Test(arguments: expected.refused)
    func `what is not certain is refused with a reason`(_ file: String) throws {
        try Self.expected.checkRefusal(file) { try TensorMap("ckpt", $0) }
    }

    @Test func `a tensor in pieces has an extent for each, and the shape of the whole`() throws {
        let map = try Self.map("cut.ckpt")
        #expect(map.format == "mindspore")
        #expect(map.tensors.map(\.name) == ["a", "w", "w#2", "w#3", "w#4", "b"])
        #expect(map.tensors.map(\.length) == [24, 1024, 1024, 1024, 928, 24])
        #expect(map.tensors.dropFirst().dropLast().allSatisfy { $0.shape == [10, 100] })
        #expect(map.extents.allSatisfy { $0.elementSize == 4 })
        let rows = try Self.map("cut-along-axis.ckpt")
        #expect(rows.tensors.filter { $0.name.hasPrefix("v") }.map(\.length) == [1200, 1200])
    }

    @Test func `the slices of a map tensor have their own shapes`() throws {
        let tensors = try Self.map("map.ckpt").tensors
        #expect(
            tensors.map(\.name) == [
                "table.key", "table.value", "table.status", "table.key#2", "table.value#2", "table.status#2",
                "w",
            ])
        #expect(tensors.map(\.shape) == [[4], [4, 3], [4], [2], [2, 3], [2], [6]])
    }

    @Test func `the bytes of a tensor of unknown type are an extent`() throws {
        let map = try Self.map("unknown-type.ckpt")
        #expect(map.tensors.map(\.name) == ["b"] && map.extents.map(\.length) == [4, 4])
        #expect(map.extents.map(\.elementSize) == [1, 4])
    }

    @Test func `other files of that name are not taken for MindSpore's`() throws {
        for path in ["pytorch/memory.ckpt", "mindspore/ckpt_strategy_rank_0.ckpt", "mindspore/empty.ckpt"] {
            #expect(try !TensorMap.isMindSpore(Fixtures.bytes(path)), "\(path)")
        }
        #expect(!TensorMap.isMindSpore([0x0A]) && !TensorMap.isMindSpore([0x0A, 0x80]))
        #expect(!TensorMap.isMindSpore([0x0A] + [UInt8](repeating: 0x80, count: 15)))
        #expect(!TensorMap.isMindSpore(Array("\nsome text".utf8)))
    }

    // MARK: Strategies

    @Test func `a strategy says what MindSpore reads from it`() throws {
        let strategy = try ParallelStrategy(parsing: Fixtures.bytes("mindspore/ckpt_strategy_rank_0.ckpt"))
        #expect(strategy.stage == 1)
        #expect(strategy.parameters.map(\.name) == ["1-emb.weight", "norm", "head", "scalar"])
        let read = try Fixtures.json("mindspore/strategy.json")
        for (name, parameter) in zip(["emb.weight", "norm", "head", "scalar"], strategy.parameters) {
            let (layout, all) = (parameter.layout, try #require(read[name]?.array))
            let isNested = all[1].array?.first?.array != nil
            let map = isNested ? all[1].array!.map(integers) : integers(all[1]).map { [$0] }
            #expect(layout.deviceMatrix.map(Int64.init) == integers(all[0]), "\(name)")
            #expect(layout.tensorMap.map { $0.map(Int64.init) } == map, "\(name)")
            #expect(layout.splitShape == integers(all[2]), "\(name)")
            let numbers = [layout.field, layout.optimizerShardStep, layout.optimizerShardSize]
            #expect(numbers.map(Int64.init) == all[3..<6].map { Int64($0.int!) }, "\(name)")
        }
        #expect(strategy.parameters.map(\.layout.indicesOffset) == [[0, 0], [], [0], []])
    }

    @Test func `a strategy is written as MindSpore writes it`() throws {
        let bytes = try Fixtures.bytes("mindspore/ckpt_strategy_rank_0.ckpt")
        let strategy = try ParallelStrategy(parsing: bytes)
        #expect(try ParallelStrategy(parsing: strategy.serialized()) == strategy)
        // But for lists that are not there at all.
        let present = ParallelStrategy(
            stage: strategy.stage, parameters: strategy.parameters.filter { !$0.layout.indicesOffset.isEmpty }
        )
        let front = ParallelStrategy(stage: 0, parameters: []).serialized().count
        for parameter in present.parameters {
            let item = ParallelStrategy(stage: 0, parameters: [parameter]).serialized().dropFirst(front)
            #expect(bytes.firstRange(of: item) != nil, "\(parameter.name)")
        }
        // One dimension along two axes, which is not two dimensions.
        var layout = strategy.parameters[0].layout
        (layout.tensorMap, layout.splitShape) = ([[1, 0]], [4])
        let nested = ParallelStrategy(stage: 0, parameters: [.init(name: "w", layout: layout)])
        #expect(try ParallelStrategy(parsing: nested.serialized()) == nested)
    }

    private func integers(_ list: JSON) -> [Int64] { list.array!.map { Int64($0.int!) } }

    @Test func `what is no strategy is refused, wherever it is cut`() throws {
        let whole = try Fixtures.bytes("mindspore/ckpt_strategy_rank_0.ckpt")
        for length in 0..<whole.count {
            // Between two parameters the rest is a strategy as well.
            guard let strategy = try? ParallelStrategy(parsing: Array(whole[..<length])) else { continue }
            #expect(strategy.parameters.count < 4)
        }
        for path in ["mindspore/same.ckpt", "pytorch/memory.ckpt", "mindspore/empty.ckpt"] {
            #expect(throws: TensorFileError.self) { try ParallelStrategy(parsing: Fixtures.bytes(path)) }
        }
    }
}
