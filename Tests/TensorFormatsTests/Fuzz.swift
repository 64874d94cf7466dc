import Foundation
import Testing

@testable import TensorFormats

/// What the tests with damaged files share.
enum Fuzz {
    /// Whether the environment has `CAIRN_TEST_LONG=1`.
    static let isLong = ProcessInfo.processInfo.environment["CAIRN_TEST_LONG"] == "1"

    /// How long each goes on.
    static let duration: Duration = isLong ? .seconds(600) : .seconds(3)

    /// Changes, leaves out or doubles a few bytes in a range.
    static func damage(_ file: inout [UInt8], in range: Range<Int>? = nil, _ random: inout SeededGenerator) {
        guard !file.isEmpty else { return }
        let place = Int.random(in: range ?? 0..<file.count, using: &random)
        switch Int.random(in: 0..<6, using: &random) {
        case 0: file[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: file[place] = [0, 1, 0x7F, 0xFF].randomElement(using: &random)!
        case 2: file[place] = file.randomElement(using: &random)!
        case 3: file.removeSubrange(place..<min(file.count, place + Int.random(in: 1...4, using: &random)))
        case 4:
            file.insert(contentsOf: file[place...].prefix(Int.random(in: 1...9, using: &random)), at: place)
        default: file.removeSubrange(place...)
        }
    }
}

/// Asks a tree for all that its interface gives, and counts what is there.
struct TreeProbe {
    /// Values that were looked at, and of those the tensors, and the distributed and sharded ones.
    private(set) var (values, tensors, distributed, refused) = (0, 0, 0, 0)
    private let size: UInt64
    private let source: TorchTree.Source

    /// - Parameters:
    ///   - size: bytes of the file; 0 for a pickle that stands alone.
    ///   - limit: values to look at: a tree may have cycles.
    init(_ tree: TorchTree, fileSize size: UInt64 = 0, limit: Int = 1000) {
        self.size = size
        source = tree.source
        var waiting = [tree.root]
        while let value = waiting.popLast(), values < limit {
            values += 1
            waiting += probe(value).prefix(limit)
        }
        for (path, tensor) in tree.tensors.prefix(limit) {
            check(tensor)
            let steps = path.map(\.name)
            expect(tensor.name == nil || tensor.name!.utf8.starts(with: steps.joined(separator: ".").utf8))
            for case .key(let key) in path { _ = probe(key) }
        }
    }

    /// - Returns: what the value leads to.
    private mutating func probe(_ value: TorchTree.Value) -> [TorchTree.Value] {
        let kind = value.kind
        expect((value.string != nil) == (kind == .text))
        expect((value.bytes != nil) == (kind == .bytes))
        expect((value.bool != nil) == (kind == .bool))
        expect(value.isNone == (kind == .none))
        expect(value.int == nil || kind == .integer)
        expect(value.double == nil || kind == .integer || kind == .float)
        expect((value.globalName == nil && value.dtype == nil) || kind == .global)
        expect(value.className == nil || source.pickle.object(value.index) != nil)
        expect(value.tensor == nil || kind == .tensor)
        expect(value.dimensions == nil || [.tuple, .list].contains(kind) || kind == .object)
        expect(kind != .dictionary || value.items != nil)
        _ = (value["a"], value[1], value.attribute("dim"), value.attribute("numel", position: 1))
        if let tensor = value.tensor {
            tensors += 1
            check(tensor)
        }
        do {
            if let tensor = try value.distributedTensor() {
                distributed += 1
                check(tensor.local)
                expect(tensor.placements.count == tensor.mesh.shape.count)
                expect(
                    tensor.mesh.ranks == nil || tensor.mesh.ranks!.count == tensor.mesh.shape.reduce(1, *))
                _ = tensor.mesh.rank
            }
            for shard in try value.shardedTensor()?.local ?? [] {
                distributed += 1
                check(shard.tensor)
            }
        } catch {
            refused += 1
            expect(error.message.hasSuffix("."))
        }
        let pairs = (value.items ?? []) + value.attributes
        return (value.elements ?? []) + pairs.flatMap { [$0.key, $0.value] } + value.arguments
            + [value.namedArguments, value.state].compactMap { $0 }
    }

    /// What `#expect` does, which would take most of the time.
    private func expect(_ condition: @autoclosure () -> Bool, line: Int = #line) {
        if !condition() { Issue.record("line \(line) of Fuzz.swift") }
    }

    private func check(_ tensor: TorchTree.Tensor) {
        expect(
            (tensor.name == nil) == (tensor.problem != nil) && (tensor.name == nil) == (tensor.range == nil))
        expect(tensor.range.map { $0.upperBound <= size } ?? true)
        expect(tensor.shape.count == tensor.stride.count)
    }
}
