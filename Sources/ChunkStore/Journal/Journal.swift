internal import Platform

/// The append-only file that is the truth. (Docs/format.md 4)
///
/// Whoever appends holds the commit lock.
final class Journal: Sendable {
    /// Where a record ends and the next begins.
    struct Position: Hashable, Sendable {
        var offset: UInt64
        var sequence: UInt64
        var previous: ChunkID
        static let start = Position(offset: 0, sequence: 0, previous: .zero)
    }

    /// A record as it stands in the file.
    struct Stored: Sendable {
        var record: JournalRecord
        var offset: UInt64
        /// Without padding.
        var bytes: [UInt8]
        var next: Position
    }

    /// Space is reserved in steps of this many bytes, so that a sync seldom has to write the file's size.
    private static let reservation: UInt64 = 256 << 10

    let file: File
    private let store: [UInt8]
    private let uncertain = Monitor(false)

    /// A record could not be taken back, so that it may or may not stay.
    var isUncertain: Bool { uncertain.change { $0 } }

    init(_ path: Path, store: [UInt8], access: File.Access) throws {
        file = try File(path, access)
        self.store = store
    }

    /// The record at a position, or nil at the journal's end.
    /// - Throws: `.damage` where an invalid record stands before a valid one.
    func record(at position: Position) throws -> Stored? {
        do {
            return try validRecord(at: position)
        } catch let invalid as FormatError {
            guard try !hasRecord(after: position) else {
                throw CairnError(
                    .damage,
                    "record \(position.sequence) of \(file.path) \(invalid); run `cairn repair` to bring it back",
                    path: file.path.text)
            }
            return nil
        }
    }

    /// - Throws: `FormatError` where the bytes are no record with this place in the chain.
    func validRecord(at position: Position) throws -> Stored {
        let available = try file.status().size
        guard position.offset + UInt64(JournalRecord.blockSize) <= available else {
            throw FormatError("is missing")
        }
        var bytes = try file.read(JournalRecord.blockSize, at: position.offset)
        let header = try JournalRecord.Header(bytes, store: store)
        guard header.sequence == position.sequence, header.previous == position.previous else {
            throw FormatError("does not follow the record before it")
        }
        let length = JournalRecord.headerSize + header.payloadLength
        let padded = JournalRecord.padded(length)
        guard position.offset + UInt64(padded) <= available else { throw FormatError("ends too early") }
        if padded > bytes.count { bytes = try file.read(padded, at: position.offset) }
        guard bytes[length...].allSatisfy({ $0 == 0 }) else {
            throw FormatError("is not padded with zero bytes")
        }
        bytes.removeLast(bytes.count - length)
        let record = try JournalRecord(decoding: bytes, store: store)
        let next = Position(
            offset: position.offset + UInt64(padded), sequence: position.sequence + 1, previous: header.hash)
        return Stored(record: record, offset: position.offset, bytes: bytes, next: next)
    }

    /// Whether these bytes, a record without its padding, stand at `offset`, with room for the padding behind them.
    func holds(_ bytes: [UInt8], at offset: UInt64) throws -> Bool {
        let end = offset + UInt64(JournalRecord.padded(bytes.count))
        guard try file.status().size >= end else { return false }
        return try file.read(bytes.count, at: offset) == bytes
    }

    /// Whether anything at all stands at `offset`.
    func hasBytes(at offset: UInt64) throws -> Bool {
        guard try file.status().size >= offset + UInt64(JournalRecord.blockSize) else { return false }
        return try file.read(JournalRecord.blockSize, at: offset).contains { $0 != 0 }
    }

    /// Whether any later block begins a record that is whole in itself and of a higher sequence number.
    private func hasRecord(after position: Position) throws -> Bool {
        var offset = position.offset + UInt64(JournalRecord.blockSize)
        let size = try file.status().size
        while offset + UInt64(JournalRecord.blockSize) <= size {
            let block = try file.read(JournalRecord.blockSize, at: offset)
            if let header = try? JournalRecord.Header(block, store: store),
                header.sequence > position.sequence,
                header.payloadLength <= Int(size - offset) - JournalRecord.headerSize,
                let bytes = try? file.read(JournalRecord.headerSize + header.payloadLength, at: offset),
                (try? JournalRecord(decoding: bytes, store: store)) != nil
            {
                return true
            }
            offset += UInt64(JournalRecord.blockSize)
        }
        return false
    }

    /// All records from a position on, and the position behind them.
    func records(from start: Position = .start) throws -> (records: [Stored], end: Position) {
        var position = start
        var records: [Stored] = []
        while let stored = try record(at: position) {
            position = stored.next
            records.append(stored)
        }
        return (records, position)
    }

    /// The record that says `event` at a position, not yet written.
    func prepare(_ event: JournalEvent, at position: Position) -> Stored {
        let record = JournalRecord(
            sequence: position.sequence, time: Clock.now, previous: position.previous, event: event)
        let (bytes, hash) = record.encoded(store: store)
        let end = position.offset + UInt64(JournalRecord.padded(bytes.count))
        return Stored(
            record: record, offset: position.offset, bytes: bytes,
            next: Position(offset: end, sequence: position.sequence + 1, previous: hash))
    }

    /// Writes a record at the journal's end and makes it durable. If that fails, cuts the journal back and throws.
    func append(_ stored: Stored) throws {
        let end = stored.next.offset
        let padding = [UInt8](repeating: 0, count: Int(end - stored.offset) - stored.bytes.count)
        do {
            try clearTail(from: stored.offset)
            if try file.status().size < end { try reserve(from: stored.offset, to: end) }
            try file.write(stored.bytes + padding, at: stored.offset)
            try file.syncData()
        } catch {
            let position = Position(
                offset: stored.offset, sequence: stored.record.sequence, previous: stored.record.previous)
            try cut(back: position)
            throw error
        }
    }

    /// Grows the file in large steps, or by just what is needed where the disk has no more.
    private func reserve(from start: UInt64, to end: UInt64) throws {
        let ample = (end + Self.reservation - 1) / Self.reservation * Self.reservation
        do {
            try file.allocate(to: ample)
        } catch  where error.errno != nil {
            try file.truncate(to: start)
            try file.allocate(to: end)
        }
        try file.sync()
    }

    /// Cuts off what a dead writer left behind the last record, so that no block of it can end up behind a new one.
    private func clearTail(from offset: UInt64) throws {
        let rest = try file.readToEnd(from: offset)
        if rest.contains(where: { $0 != 0 }) {
            try file.truncate(to: offset)
            try file.sync()
        }
    }

    /// Takes back what was written behind a position.
    func cut(back position: Position) throws {
        do {
            try file.truncate(to: position.offset)
            try file.sync()
        } catch {
            uncertain.change { $0 = true }
            throw CairnError(
                .system,
                "\(error) while taking back a commit that failed, so it may or may not have been kept; "
                    + "check with `cairn list`",
                path: file.path.text)
        }
    }
}
