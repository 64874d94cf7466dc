import Foundation
import Platform

@testable import ChunkStore

/// SplitMix64: the same seed gives the same numbers, so that a failing test can be run again.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// A store whose manifests are lists of blobs and nothing else, so that tests of chunks need no tensors.
final class ToyStore: Sendable {
    let folder: Platform.Path
    static let chunkSize = 4096

    init() throws {
        folder = Platform.Path(NSTemporaryDirectory() + "cairn-chunks-" + UUID().uuidString)
        try ChunkStore.create(folder, chunkSize: Self.chunkSize, settings: Self.settings)
    }

    deinit { _ = try? FileSystem.removeTree(folder) }

    static let settings = ChunkStore.Settings(
        jobs: 4, memory: 64 << 20, version: "test", onWait: { _ in }, trace: { head, _ in try blobs(head) })

    /// - Parameter isLarge: works as where there are many chunks: with tables of them in the index, and filters.
    func open(isLarge: Bool = false) throws -> ChunkStore {
        var settings = Self.settings
        if isLarge { (settings.tableThreshold, settings.filterThreshold) = (2, 0) }
        return try ChunkStore(folder, settings: settings)
    }

    static func head(_ blobs: [BlobRef], salt: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.raw("TOY".utf8)
        writer.u64(salt)
        writer.varint(blobs.count)
        for blob in blobs { blob.write(to: &writer) }
        return writer.bytes
    }

    static func blobs(_ head: [UInt8]) throws -> [BlobRef] {
        var reader = ByteReader(head)
        try reader.expect("TOY")
        _ = try reader.u64()
        var blobs: [BlobRef] = []
        for _ in 0..<(try reader.items()) { blobs.append(try BlobRef(from: &reader)) }
        try reader.expectEnd()
        return blobs
    }

    /// Puts blobs into a session, from several threads, and returns what names them.
    static func put(_ contents: [[UInt8]], _ session: SaveSession) throws -> [BlobRef] {
        let tree = BlobTree(chunkSize: chunkSize)
        let result = Monitor([BlobRef](repeating: .empty, count: contents.count))
        try session.run(jobs: max(1, min(3, contents.count))) { worker in
            for index in stride(from: worker, to: contents.count, by: 3) {
                let bytes = contents[index]
                var ids: [ChunkID] = []
                for start in stride(from: 0, to: bytes.count, by: chunkSize) {
                    let chunk = [UInt8](bytes[start..<min(start + chunkSize, bytes.count)])
                    ids.append(.of(chunk))
                    try chunk.withUnsafeBytes { try session.put([(ids.last!, $0)], isContent: true) }
                }
                let root = try tree.root(over: ids) { id, list in
                    try list.withUnsafeBytes { try session.put([(id, $0)], isContent: false) }
                }
                let blob = bytes.isEmpty ? BlobRef.empty : BlobRef(length: UInt64(bytes.count), id: root)
                result.change { $0[index] = blob }
            }
        }
        return result.change { $0 }
    }

    /// Saves an iteration, as often as collections make it necessary. Returns its number.
    @discardableResult
    static func save(
        _ store: ChunkStore, run: String = "main", step: UInt64, _ contents: [[UInt8]], pins: [String] = [],
        replace: Bool = false, packLimit: UInt64 = 4 << 30
    ) throws -> UInt64 {
        let session = try SaveSession(store, dryRun: false, encoding: .raw, packLimit: packLimit)
        defer { session.abandon() }
        while true {
            let head = head(try put(contents, session), salt: step)
            let manifest = SaveSession.Manifest(run: run, step: step, head: head, origin: "", pins: pins)
            let outcome = try session.commit(manifest) { transaction in
                let old = try transaction.iterationNumber(run: run, step: step)
                guard old == nil || replace else { return .cancel }
                return .commit(replacing: old)
            }
            switch outcome {
            case .committed(let number, _): return number
            case .cancelled: throw CairnError(.exists, "step \(step) is there")
            case .mustRepeat: continue
            }
        }
    }

    /// The contents of an iteration, every chunk checked.
    static func read(_ store: ChunkStore, _ number: UInt64) throws -> [[UInt8]] {
        let lock = try store.reading(number)
        defer { withExtendedLifetime(lock) {} }
        let entry = try store.read { try $0.catalogEntry(number, store: store.id) }
        return try blobs(entry.head).map { try store.bytes(of: $0) }
    }
}
