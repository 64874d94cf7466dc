import ChunkStore
import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// A saved iteration with made-up tensors in several files, from which assemblies are made.
final class GatherBench {
    struct Stored {
        var name: String
        var dtype: DType = .u8
        var shape: [UInt64]
        var bytes: [UInt8]
    }

    let bench: Workbench
    let info: IterationInfo
    let manifest: Manifest
    private let lock: ReaderLock

    /// - Parameters:
    ///   - files: safetensors files by their names.
    ///   - others: the bytes of other files.
    init(
        chunkSize: Int = 4096, _ files: [String: [Stored]], others: [String: [UInt8]] = [:]
    ) throws {
        bench = try Workbench(chunkSize: chunkSize)
        let all = files.mapValues { Self.safetensors($0) }.merging(others) { $1 }
        try bench.store.save(
            try bench.write("checkpoint-1", all), options: SaveOptions(run: "r", step: 1))
        info = try bench.store.resolve("r@1")
        (manifest, lock) = try bench.store.manifest(of: info)
    }

    static func safetensors(_ tensors: [Stored]) -> [UInt8] {
        let (header, order) = SafetensorsHeader.canonicalHeader(
            tensors: tensors.map { ($0.name, $0.dtype, $0.shape, UInt64($0.bytes.count)) })
        return header + order.flatMap { tensors[$0].bytes }
    }

    var assembler: Assembler { Assembler(bench.store.chunks, manifest) }

    /// The bytes of tensors, written one behind the other to one file.
    func bytes(_ tensors: [Assembly.Tensor], settings: Settings = Settings(jobs: 3)) throws -> [UInt8] {
        var assembler = assembler
        let gathered = try tensors.map { try assembler.tensor($0) }
        return try bytes(gathered, assembler.sources, settings: settings)
    }

    func bytes(
        _ tensors: [GatheredTensor], _ sources: [Gather.Source], settings: Settings = Settings(jobs: 3)
    ) throws -> [UInt8] {
        // Something in front, so that tensors begin anywhere in a segment.
        let literal = [UInt8](repeating: 0xA5, count: 13)
        let file = OutputFile(
            path: [UInt8]("out".utf8),
            parts: [.literal(literal)] + tensors.map { .gather($0.gather(sources)) })
        let damaged = try FolderWriter(
            bench.store.chunks, folder: Path(bench.folder), files: [file], settings: settings
        ).run(progress: .silent)
        #expect(damaged.isEmpty)
        let written = [UInt8](try Data(contentsOf: URL(fileURLWithPath: bench.path("out"))))
        try FileManager.default.removeItem(atPath: bench.path("out"))
        #expect(written.starts(with: literal) && written.count == Int(file.size))
        return [UInt8](written.dropFirst(literal.count))
    }

    /// The message of the error of a tensor that can't be put together.
    func failure(_ tensor: Assembly.Tensor) -> String? {
        var assembler = assembler
        do {
            _ = try assembler.tensor(tensor)
            return nil
        } catch {
            #expect((error as? CairnError)?.code == .inconsistent)
            return "\(error)"
        }
    }
}

extension Assembly.Piece {
    static func box(_ file: String, _ tensor: String, at offset: [UInt64], _ shape: [UInt64]) -> Self {
        .init(file: file, tensor: tensor, place: .box(offset: offset, shape: shape))
    }

    static func run(
        _ file: String, _ tensor: String, _ range: Range<UInt64>, from: UInt64 = 0
    ) -> Self {
        .init(
            file: file, tensor: tensor,
            place: .run(start: range.lowerBound, count: range.upperBound - range.lowerBound, from: from))
    }
}
