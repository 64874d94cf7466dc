internal import Platform

/// Bytes that are made while they are written: on any thread, stretch by stretch, in any order.
protocol ComputedBytes: Sendable {
    var length: UInt64 { get }

    /// Fills a buffer with the bytes from `offset` on.
    func fill(_ target: UnsafeMutableRawBufferPointer, from offset: UInt64) throws
}

/// Bytes of a file on disk.
struct FileBytes: ComputedBytes {
    let path: Path
    /// Of the first, in the file.
    let start: UInt64
    let length: UInt64

    func fill(_ target: UnsafeMutableRawBufferPointer, from offset: UInt64) throws {
        let count = try File(path, .read).read(into: target, at: start + offset)
        guard count == target.count else {
            throw CairnError(.changed, "\(path) became shorter while it was read", path: path.text)
        }
    }
}
