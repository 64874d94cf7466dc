internal import ChunkStore

/// A tensor's bytes, put together from stretches of blobs.
struct Gather: Sendable {
    /// Where the bytes of a source begin.
    struct Source: Sendable, Hashable {
        var blob: BlobRef
        /// Bytes of the blob before it.
        var offset: UInt64
    }

    /// The tensor's, for messages.
    let name: String
    let sources: [Source]
    private let bytes: Elements

    /// Bytes.
    let length: UInt64
    /// How many stretches are gone through by turns: 1 where one follows the other.
    let streams: Int

    /// - Parameter bytes: counted in bytes, each source from its beginning.
    init(name: String, sources: [Source], bytes: Elements) {
        self.name = name
        self.sources = sources
        self.bytes = bytes
        length = bytes.count
        streams = bytes.streams
    }

    /// Gives where a range of the bytes is, as runs of a blob, in their order. There may be very many: none is kept.
    func forEachRun(
        in range: Range<UInt64>, _ body: (_ source: Int, _ offset: UInt64, _ length: UInt64) throws -> Void
    ) rethrows {
        precondition(range.upperBound <= length)
        try bytes.forEachRun(in: range) { source, start, count in
            try body(source, sources[source].offset + start, count)
        }
    }
}
