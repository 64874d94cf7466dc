import Foundation
import Platform
import Testing

@testable import ChunkStore

/// The chain of records, and what stands behind its end.
@Suite struct JournalTests {
    let folder: Platform.Path
    private let store = [UInt8](repeating: 5, count: 16)

    init() throws {
        folder = Platform.Path(NSTemporaryDirectory() + "cairn-journal-" + UUID().uuidString)
        try FileSystem.makeFolder(folder)
    }

    /// A journal of its own with these runs' records, each of one block.
    private func journal(_ name: String, _ runs: [String]) throws -> (Journal, [Journal.Stored]) {
        let journal = try Journal(folder.appending(name), store: store, access: .create)
        var position = Journal.Position.start
        let records = try runs.map { run in
            let stored = journal.prepare(.unpin(name: run), at: position)
            try journal.append(stored)
            position = stored.next
            return stored
        }
        return (journal, records)
    }

    private func remove() { _ = try? FileSystem.removeTree(folder) }

    @Test func aWholeRecordOfAnotherChainIsNotTakenForTheNext() throws {
        defer { remove() }
        let (journal, records) = try journal("a", ["0", "1", "2"])
        let (_, others) = try self.journal("b", ["0", "other", "2"])
        #expect(try journal.records().records.count == 3)
        // At the end it is a torn tail; in the midst, damage.
        try journal.file.write(others[2].bytes, at: records[2].offset)
        #expect(try journal.records().records.count == 2)
        try journal.file.write(records[2].bytes, at: records[2].offset)
        try journal.file.write(others[1].bytes, at: records[1].offset)
        let error = #expect(throws: CairnError.self) { try journal.records() }
        #expect(error?.code == .damage && error?.message.contains("record 1 ") == true)
    }

    @Test func aRecordOfAnotherStoreIsNone() throws {
        defer { remove() }
        let (journal, records) = try journal("a", ["0", "1"])
        let record = JournalRecord(
            sequence: 2, time: 0, previous: records[1].next.previous, event: .unpin(name: "x"))
        try journal.file.write(
            record.encoded(store: [UInt8](repeating: 6, count: 16)).bytes, at: records[1].next.offset)
        #expect(try journal.records().records.count == 2)
        try journal.file.write(record.encoded(store: store).bytes, at: records[1].next.offset)
        #expect(try journal.records().records.count == 3)
    }

    @Test func whatADeadWriterLeftIsCutOffBeforeANewRecord() throws {
        defer { remove() }
        let (journal, records) = try journal("a", ["0", "1"])
        let (_, others) = try self.journal("b", ["0", "1", "2", "3", "4"])
        let end = records[1].next
        // Its first block is torn; those behind it are whole.
        for other in others[3...] { try journal.file.write(other.bytes, at: other.offset) }
        try journal.file.write([1, 2, 3], at: end.offset)
        let next = journal.prepare(.unpin(name: "x"), at: end)
        try journal.append(next)
        let (found, position) = try journal.records()
        #expect(found.count == 3 && position == next.next)
        #expect(try !journal.hasBytes(at: position.offset))
    }

    @Test func aTornRecordIsTheEndAndADamagedOneIsNot() throws {
        defer { remove() }
        let (journal, records) = try journal("a", ["0", "1", "2"])
        for length in [0, 1, 79, 112, records[2].bytes.count - 1] {
            let torn =
                records[2].bytes[..<length] + [UInt8](repeating: 0, count: records[2].bytes.count - length)
            try journal.file.write([UInt8](torn), at: records[2].offset)
            #expect(try journal.records().records.count == 2)
        }
        try journal.file.write(records[2].bytes, at: records[2].offset)
        try journal.file.write([0xFF], at: records[1].offset + 100)
        #expect(throws: CairnError.self) { try journal.records() }
    }
}
