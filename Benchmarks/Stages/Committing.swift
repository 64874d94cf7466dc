import CLimits
import ChunkStore
import Glibc
import Platform

/// Saves of many new chunks into a store that has millions, and transactions of as many keys on LMDB alone.
final class Committing {
    private let store: ChunkStore
    private let bare: UnsafeMutableRawPointer
    /// Chunks so far: each is its own number.
    private var count: UInt64 = 0
    private var step: UInt64 = 0

    private static let batch = 4096

    init(in folder: Path, chunks: Int) throws {
        let path = folder.appending("store")
        let settings = ChunkStore.Settings(
            jobs: 1, memory: 512 << 20, version: "benchmark", onWait: { _ in }, trace: { _, _ in [] })
        try ChunkStore.create(path, chunkSize: Samples.chunkSize, settings: settings)
        store = try ChunkStore(path, settings: settings)
        let index = folder.appending("bare.mdb")
        guard let bare = index.withCString({ lm_makeIndex($0, UInt64(chunks)) }) else {
            throw CairnError.system(errno, "make", index)
        }
        self.bare = bare
        for start in stride(from: 0, to: chunks, by: 1 << 20) {
            _ = try commit(min(1 << 20, chunks - start))
        }
    }

    deinit { lm_freeIndex(bare) }

    /// - Returns: seconds of the commit alone: the pack's table and its sync, the journal's, and the index's.
    func commit(_ chunks: Int) throws -> Double {
        let session = try SaveSession(store, dryRun: false)
        let worker = try session.worker(key: nil)
        let numbers = [UInt64](count..<count + UInt64(chunks))
        count += UInt64(chunks)
        try numbers.withUnsafeBytes { bytes in
            for start in stride(from: 0, to: chunks, by: Self.batch) {
                let batch = (start..<min(start + Self.batch, chunks)).map { index in
                    let chunk = UnsafeRawBufferPointer(rebasing: bytes[8 * index..<8 * (index + 1)])
                    return SaveChunk(ChunkID(worker.hasher.digest(chunk)), chunk, tensor: 0)
                }
                try session.put(batch, with: worker)
            }
        }
        step += 1
        let manifest = SaveSession.Manifest(
            run: "benchmark", step: step, head: [UInt8]("step \(step)".utf8), origin: "", pins: [])
        let start = Clock.monotonic
        _ = try session.commit(manifest) { _ in .commit(replacing: nil) }
        return Clock.monotonic - start
    }

    /// - Returns: seconds of a transaction.
    func commitBare(_ chunks: Int) throws -> Double {
        let seconds = lm_commit(bare, UInt64(chunks))
        guard seconds >= 0 else {
            throw CairnError(.system, "LMDB failed (\(String(cString: strerror(errno))))", errno: errno)
        }
        return seconds
    }
}
