internal import Platform

/// What one record of the journal says. (Docs/format.md 4)
public enum JournalEvent: Sendable {
    case initialized(version: String)
    case commit(Commit)
    case delete([Deletion])
    case pin(name: String, iteration: UInt64)
    case unpin(name: String)
    /// `policy` is empty where the run has none any more.
    case policy(run: String, policy: [UInt8])
    case sweep(token: [UInt8], removedPacks: [PackName])
    case repair([CommittedPack])
    case annotate(Annotation)
    case rewind([UInt64])

    public struct Commit: Sendable {
        public var run: String
        public var step: UInt64
        /// The bytes whose SHA-256 is the manifest's id.
        public var head: [UInt8]
        /// The output folder that the checkpoint was saved from, or empty.
        public var origin: String
        public var replaces: UInt64?
        public var packs: [CommittedPack]
        /// Bytes of the packs, of this record, and what the index grew by.
        public var storedBytes: UInt64
        public var pins: [String]
        /// The version of the program that wrote it.
        public var version: String
    }

    public struct Deletion: Sendable {
        public var iteration: UInt64
        public var reason: String
        public init(iteration: UInt64, reason: String) {
            self.iteration = iteration
            self.reason = reason
        }
    }

    public struct Annotation: Sendable {
        public var iteration: UInt64
        public var metrics: [String: Double]
        /// Values are JSON texts.
        public var metadata: [String: String]
        public var note: String
        public init(iteration: UInt64, metrics: [String: Double], metadata: [String: String], note: String) {
            self.iteration = iteration
            self.metrics = metrics
            self.metadata = metadata
            self.note = note
        }
    }
}

/// A pack as the journal names it: with the entries of its table that do not count.
public struct CommittedPack: Sendable {
    public var summary: PackSummary
    /// Places in the table of the chunks that another save had committed first.
    public var voids: [Range<Int>]

    func write(to writer: inout ByteWriter) {
        summary.write(to: &writer)
        writer.varint(voids.count)
        var end = 0
        for range in voids {
            writer.varint(range.lowerBound - end)
            writer.varint(range.count)
            end = range.upperBound
        }
    }

    init(summary: PackSummary, voids: [Range<Int>]) {
        self.summary = summary
        self.voids = voids
    }

    init(from reader: inout ByteReader) throws(FormatError) {
        summary = try PackSummary(from: &reader)
        voids = []
        var end = 0
        for _ in 0..<(try reader.items(each: 2)) {
            let start = end + (try reader.count(limit: Int(UInt32.max)))
            end = start + (try reader.count(limit: Int(UInt32.max)))
            guard end > start else { throw FormatError("holds an empty range") }
            voids.append(start..<end)
        }
    }
}

/// One record: its place in the chain and what it says.
public struct JournalRecord: Sendable {
    public var sequence: UInt64
    /// Nanoseconds since 1970 UTC.
    public var time: Int64
    public var previous: ChunkID
    public var event: JournalEvent

    static let blockSize = 4096
    static let headerSize = 112

    init(sequence: UInt64, time: Int64, previous: ChunkID, event: JournalEvent) {
        self.sequence = sequence
        self.time = time
        self.previous = previous
        self.event = event
    }

    /// Bytes without padding, and the record's hash.
    func encoded(store: [UInt8]) -> (bytes: [UInt8], hash: ChunkID) {
        let (kind, payload) = event.encoded()
        var writer = ByteWriter(capacity: Self.headerSize + payload.count)
        writer.raw("CAIRNJRN".utf8)
        writer.u16(1)
        writer.u16(kind)
        writer.u32(UInt32(payload.count))
        writer.u64(sequence)
        writer.i64(time)
        writer.raw(store)
        writer.raw(previous)
        let hash = ChunkID.of(writer.bytes + payload)
        writer.raw(hash)
        writer.raw(payload)
        return (writer.bytes, hash)
    }

    /// Bytes that a record of this many bytes takes in the file.
    static func padded(_ count: Int) -> Int { (count + blockSize - 1) / blockSize * blockSize }

    /// From the bytes without padding.
    init(decoding bytes: [UInt8], store: [UInt8]) throws(FormatError) {
        let header = try Header(bytes, store: store)
        guard bytes.count == Self.headerSize + header.payloadLength else {
            throw FormatError("ends too early")
        }
        let payload = bytes[Self.headerSize...]
        guard ChunkID.of([UInt8](bytes[..<80]) + payload) == header.hash else {
            throw FormatError("fails its checksum")
        }
        sequence = header.sequence
        time = header.time
        previous = header.previous
        event = try JournalEvent(kind: header.kind, payload: ByteReader(payload))
    }

    /// The fixed part, whose hash is not checked yet.
    struct Header {
        var kind: UInt16
        var payloadLength: Int
        var sequence: UInt64
        var time: Int64
        var previous: ChunkID
        var hash: ChunkID

        init(_ bytes: [UInt8], store: [UInt8]) throws(FormatError) {
            var reader = ByteReader(bytes)
            try reader.expect("CAIRNJRN")
            let version = try reader.u16()
            guard version == 1 else { throw FormatError("has the unknown version \(version)") }
            kind = try reader.u16()
            payloadLength = Int(try reader.u32())
            sequence = try reader.u64()
            time = try reader.i64()
            guard try reader.raw(16) == store else { throw FormatError("belongs to another store") }
            previous = try reader.id()
            hash = try reader.id()
        }
    }
}
