import CLimits
import ChunkStore
import Glibc
import Platform

/// A pack of noise, written as a save writes it, and a file of the same size.
enum Writing {
    /// What a worker of a save appends at once.
    private static let batch = 8

    /// - Parameter threads: that append; two more write.
    /// - Returns: seconds until the pack is durable.
    static func pack(in folder: Path, size: Int, threads: Int) throws -> Double {
        let noise = try Buffer(size: batch * Samples.chunkSize)
        var generator = Noise()
        generator.fill(noise.bytes)
        defer { withExtendedLifetime(noise) {} }
        let records = (0..<batch).map { index in
            let start = index * Samples.chunkSize
            let payload = UnsafeRawBufferPointer(
                rebasing: noise.bytes[start..<start + Samples.chunkSize])
            let length = UInt32(payload.count)
            let entry = PackEntry(id: .of(payload), rawLength: length, storedLength: length, codec: .raw)
            return Record(entry: entry, payload: payload)
        }
        let batches = size / noise.bytes.count
        let start = Clock.monotonic
        let writer = try PackWriter(
            folder: folder, store: [UInt8](repeating: 0, count: 16), memory: 128 << 20)
        defer { writer.abandon() }
        let left = Monitor((batches: batches, threads: threads))
        try WorkerPool.shared.run(threads + 2) { index in
            guard index < threads else { return try writer.writeBlocks() }
            defer {
                let isLast = left.change { left in
                    left.threads -= 1
                    return left.threads == 0
                }
                if isLast { writer.close() }
            }
            while left.change({ left in
                left.batches -= 1
                return left.batches >= 0
            }) {
                try writer.append(records.map { ($0.entry, $0.payload) })
            }
        }
        _ = try writer.finish()
        return Clock.monotonic - start
    }

    private struct Record: @unchecked Sendable {
        // Unchecked: nobody changes the bytes.
        let entry: PackEntry
        let payload: UnsafeRawBufferPointer
    }

    /// - Returns: seconds until the file is durable.
    static func file(in folder: Path, size: Int) throws -> Double {
        let path = folder.appending("direct")
        let seconds = path.withCString { lm_writeDirect($0, UInt64(size)) }
        let code = errno
        _ = try? FileSystem.removeFile(path)
        guard seconds >= 0 else { throw CairnError.system(code, "write", path) }
        return seconds
    }
}
