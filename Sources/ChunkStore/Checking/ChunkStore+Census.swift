internal import Platform

extension ChunkStore {
    /// What there is, counted.
    public struct Census: Sendable {
        public struct Share: Sendable {
            public var chunks = 0
            public var rawBytes: UInt64 = 0
            /// Records, headers included.
            public var storedBytes: UInt64 = 0
        }

        /// By the number of the codec.
        public var codecs: [UInt8: Share] = [:]
        public var packs = 0
        /// On the disk.
        public var packBytes: UInt64 = 0
        public var journalBytes: UInt64 = 0
        public var indexBytes: UInt64 = 0

        public var chunks: Int { codecs.values.reduce(0) { $0 + $1.chunks } }
        public var rawBytes: UInt64 { codecs.values.reduce(0) { $0 + $1.rawBytes } }
        public var storedBytes: UInt64 { codecs.values.reduce(0) { $0 + $1.storedBytes } }
    }

    /// Counts all chunks and packs. Takes as long as the index is large.
    public func census() throws -> Census {
        var census = Census()
        let summaries = try read { transaction in
            try transaction.scanChunks { _, location in
                census.codecs[location.codec.rawValue, default: .init()].chunks += 1
                census.codecs[location.codec.rawValue]!.rawBytes += UInt64(location.rawLength)
                census.codecs[location.codec.rawValue]!.storedBytes += UInt64(location.range.count)
                return true
            }
            return try transaction.packs().map(\.summary)
        }
        census.packs = summaries.count
        for summary in summaries {
            census.packBytes += try FileSystem.status(packs.path(summary.name))?.allocated ?? 0
        }
        census.journalBytes = try FileSystem.status(folder.appending("journal"))?.allocated ?? 0
        census.indexBytes = try FileSystem.status(indexPath)?.allocated ?? 0
        return census
    }
}
