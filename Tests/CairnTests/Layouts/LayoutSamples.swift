import Foundation
import Platform
import Synchronization
import TensorFormats
import Testing

@testable import Cairn

/// Real checkpoints, each archive unpacked once for all tests, which only read them.
final class LayoutSamples: Sendable {
    let folder: String

    /// Those of `Tests/Fixtures/checkpoints.tar.gz`.
    static let checkpoints = LayoutSamples(GoldenStore.project + "/Tests/Fixtures/checkpoints.tar.gz")

    /// The trees that a library wrote, with what it loads of them. (tools/python/libraries)
    static func library(_ name: String) -> LayoutSamples { libraries[name]! }

    static let names = [
        "mindspore", "orbax", "tensorflow", "gguf", "lightning", "torch", "accelerate", "llamafactory",
        "loops", "deepspeed", "megatron", "ranks-deepspeed", "ranks-megatron", "ranks-torch",
    ]

    private static let libraries = Dictionary(
        uniqueKeysWithValues: names.map { name in
            (name, LayoutSamples(GoldenStore.project + "/Tests/Fixtures/libraries/\(name).tar.zst"))
        })

    private init(_ archive: String) {
        folder = NSTemporaryDirectory() + "cairn-layouts-" + UUID().uuidString
        try! FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let process = Foundation.Process()
        process.executableURL = URL(fileURLWithPath: "/bin/tar")
        process.arguments = ["-xpf", archive, "-C", folder]
        try! process.run()
        process.waitUntilExit()
        precondition(process.terminationStatus == 0, "unpack \(archive)")
        Self.unpacked.withLock { folders in
            if folders.isEmpty {
                atexit {
                    LayoutSamples.unpacked.withLock {
                        $0.forEach { _ = try? FileManager.default.removeItem(atPath: $0) }
                    }
                }
            }
            folders.append(folder)
        }
    }

    /// What goes when the tests end.
    private static let unpacked = Mutex<[String]>([])

    func path(_ name: String) -> String { folder + "/" + name }

    func output(_ name: String) throws -> OutputFolder { try OutputFolder(Path(path(name))) }

    func view(_ name: String) throws -> CheckpointView { try CheckpointView(Path(path(name))) }

    func json(_ name: String) throws -> JSON {
        try JSON(parsing: [UInt8](Data(contentsOf: URL(fileURLWithPath: path(name)))), allowNonFinite: true)
    }
}

/// What a library says of a tensor that it loaded.
struct ExpectedTensor: Hashable {
    var dtype: String
    var shape: [UInt64]
    var sha256: String

    static func all(_ json: JSON?) -> [String: ExpectedTensor] {
        Dictionary(
            uniqueKeysWithValues: (json?.members ?? []).map { member in
                (
                    member.key,
                    ExpectedTensor(
                        dtype: member.value["dtype"]!.stringValue!,
                        shape: member.value["shape"]!.array!.map { $0.uint64! },
                        sha256: member.value["sha256"]!.stringValue!)
                )
            })
    }
}

extension CheckpointView {
    /// The tensors that an assembly describes, put together in the plainest way: that pieces tile each, and that those which overlap have
    /// the same bytes, is checked.
    func assembled(_ tensors: [Assembly.Tensor]) throws -> [String: ExpectedTensor] {
        var maps: [String: TensorMap] = [:]
        var found: [String: ExpectedTensor] = [:]
        for tensor in tensors {
            let bytes = try bytes(of: tensor, &maps)
            #expect(found[tensor.name] == nil, "\(tensor.name) is there twice")
            found[tensor.name] = ExpectedTensor(
                dtype: tensor.dtype, shape: tensor.shape,
                sha256: bytes.withUnsafeBytes { bytes in
                    SHA256Hasher().digest(bytes).withUnsafeBytes {
                        $0.map { String(format: "%02x", $0) }.joined()
                    }
                })
        }
        return found
    }

    private func bytes(of tensor: Assembly.Tensor, _ maps: inout [String: TensorMap]) throws -> [UInt8] {
        var canvas = Canvas(tensor)
        for piece in tensor.pieces.flatMap(\.ofOneRank) {
            if maps[piece.file] == nil { maps[piece.file] = try self.tensors(in: piece.file) }
            let stored = try #require(
                maps[piece.file]?.tensors.first { $0.name == piece.tensor },
                "\(piece.tensor) in \(piece.file)")
            #expect(stored.dtype == tensor.dtype, "\(tensor.name)")
            let start = maps[piece.file]!.extents[stored.extent].offset + stored.offset
            let bytes = try read(self[piece.file]!, start..<start + stored.length)
            try canvas.draw(piece.place, stored.shape, bytes)
        }
        for part in tensor.parts {
            let bytes = try bytes(of: part.tensor, &maps)
            for box in part.boxes { try canvas.draw(box, part.tensor.shape, bytes) }
        }
        #expect(canvas.isFull, "\(tensor.name) has holes")
        return canvas.bytes
    }
}

extension Assembly.Piece {
    /// The same with a piece for each rank that has a share.
    var ofOneRank: [Assembly.Piece] {
        guard case .shares(let ranks, let start, let count, let share, let from) = place else {
            return [self]
        }
        return ranks.tensors.enumerated().compactMap { rank, tensor in
            let before = UInt64(rank) * share
            guard before < count else { return nil }
            return .init(
                file: tensor.file, tensor: tensor.tensor,
                place: .run(start: start + before, count: min(share, count - before), from: from))
        }
    }
}

extension [Assembly.Tensor] {
    /// To be compared: shares are equal where their ranks' tensors are.
    var plain: [Assembly.Tensor] {
        map { tensor in
            var copy = tensor
            copy.pieces = tensor.pieces.flatMap(\.ofOneRank)
            for index in copy.parts.indices {
                copy.parts[index].tensor = [copy.parts[index].tensor].plain[0]
            }
            return copy
        }
    }
}

/// The bytes of a tensor that is being put together.
private struct Canvas {
    private(set) var bytes: [UInt8]
    private var isSet: [Bool]
    private let shape: [Int]
    private let elementLength: Int

    init(_ tensor: Assembly.Tensor) {
        elementLength = DType(rawValue: tensor.dtype)!.bitsPerElement / 8
        shape = (tensor.partShape ?? tensor.shape).map { Int($0) }
        bytes = [UInt8](repeating: 0, count: shape.reduce(1, *) * elementLength)
        isSet = [Bool](repeating: false, count: shape.reduce(1, *))
    }

    var isFull: Bool { isSet.allSatisfy(\.self) }

    mutating func draw(_ place: Assembly.Piece.Place, _ stored: [UInt64], _ source: [UInt8]) throws {
        switch place {
        case .run(let start, let count, let from):
            for index in 0..<Int(count) { set(Int(start) + index, source, Int(from) + index) }
        case .shares: Issue.record("shares of ranks lie in several tensors, which are given one by one")
        case .box(let offset, let box):
            #expect(box == stored)
            try #require(box.count == shape.count && source.count == box.reduce(1, *) * UInt64(elementLength))
            for index in 0..<Int(box.reduce(1, *)) {
                var (rest, place, step) = (index, 0, 1)
                for axis in shape.indices.reversed() {
                    let position = rest % Int(box[axis]) + Int(offset[axis])
                    try #require(position < shape[axis])
                    place += position * step
                    step *= shape[axis]
                    rest /= Int(box[axis])
                }
                set(place, source, index)
            }
        }
    }

    /// A box of a part that was put together.
    mutating func draw(_ box: Assembly.Part.Box, _ part: [UInt64], _ source: [UInt8]) throws {
        try #require(box.region.count == shape.count && part.count == shape.count)
        for index in 0..<Int(part.reduce(1, *)) {
            var (rest, place, step, isInside) = (index, 0, 1, true)
            for axis in shape.indices.reversed() {
                let position = UInt64(rest % Int(part[axis]))
                rest /= Int(part[axis])
                guard box.region[axis].contains(position) else {
                    isInside = false
                    break
                }
                let own = Int(box.offset[axis] + position - box.region[axis].lowerBound)
                try #require(own < shape[axis])
                place += own * step
                step *= shape[axis]
            }
            if isInside { set(place, source, index) }
        }
    }

    private mutating func set(_ place: Int, _ source: [UInt8], _ index: Int) {
        let new = source[index * elementLength..<(index + 1) * elementLength]
        let range = place * elementLength..<(place + 1) * elementLength
        if isSet[place] { #expect(bytes[range] == new, "replicas differ") }
        bytes.replaceSubrange(range, with: new)
        isSet[place] = true
    }
}

/// A tensor for made-up files.
struct Stored {
    var name: String
    var dtype: DType
    var shape: [UInt64]
    var bytes: [UInt8]

    static func numbers(_ name: String, _ shape: [UInt64], _ values: [Int32]) -> Stored {
        Stored(name: name, dtype: .i32, shape: shape, bytes: values.withUnsafeBytes { [UInt8]($0) })
    }

    var sha256: String {
        bytes.withUnsafeBytes { bytes in
            SHA256Hasher().digest(bytes).withUnsafeBytes { $0.map { String(format: "%02x", $0) }.joined() }
        }
    }

    static func safetensors(_ tensors: [Stored], metadata: [(String, String)] = []) -> [UInt8] {
        let (header, order) = SafetensorsHeader.canonicalHeader(
            tensors: tensors.map { ($0.name, $0.dtype, $0.shape, UInt64($0.bytes.count)) }, metadata: metadata
        )
        return header + order.flatMap { tensors[$0].bytes }
    }
}

extension FileParts {
    /// The whole file, without checksums.
    func bytes(_ contents: [[UInt8]]) -> [UInt8] {
        parts.flatMap { part -> [UInt8] in
            switch part {
            case .literal(let bytes): return bytes
            case .content(let index, _): return contents[index]
            case .checksum: return [0, 0, 0, 0]
            }
        }
    }
}
