import Platform
import Testing

@testable import ChunkStore

@Suite struct EncodingTests {
    @Test(arguments: [0, 1, 127, 128, 300, 1 << 32, UInt64.max])
    func aNumberComesBack(number: UInt64) throws {
        var writer = ByteWriter()
        writer.varint(number)
        var reader = ByteReader(writer.bytes)
        #expect(try reader.varint() == number)
        try reader.expectEnd()
    }

    @Test(
        arguments: [[0x80, 0x00], [0x80], [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02]]
            as [[UInt8]])
    func aNumberOutOfFormIsRejected(bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        #expect(throws: FormatError.self) { try reader.varint() }
    }

    private let entry = PackEntry(
        id: .of([1, 2, 3]), offset: 64, rawLength: 3, storedLength: 3, codec: .raw)

    @Test func anyFlippedBitOfARecordHeaderIsFound() throws {
        let header = PackFormat.recordHeader(entry)
        #expect(try PackFormat.entry(fromRecordHeader: header) == entry)
        for bit in 0..<header.count * 8 {
            var flipped = header
            flipped[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: FormatError.self) { try PackFormat.entry(fromRecordHeader: flipped) }
        }
    }

    @Test func aTableListsRecordsThatDoNotOverlap() throws {
        var second = entry
        second.offset = entry.range.upperBound
        let table = PackFormat.table([entry, second])
        #expect(try PackFormat.entries(fromTable: table, tableOffset: 1000) == [entry, second])
        #expect(throws: FormatError.self) { try PackFormat.entries(fromTable: table, tableOffset: 200) }
        second.offset -= 1
        let overlapping = PackFormat.table([entry, second])
        #expect(throws: FormatError.self) {
            try PackFormat.entries(fromTable: overlapping, tableOffset: 1000)
        }
    }

    @Test func anyFlippedBitOfAJournalRecordIsFound() throws {
        let store = [UInt8](repeating: 7, count: 16)
        let record = JournalRecord(
            sequence: 3, time: 5, previous: .of([9]),
            event: .annotate(.init(iteration: 2, metrics: ["a": .nan], metadata: ["k": "1"], note: "n")))
        let (bytes, _) = record.encoded(store: store)
        _ = try JournalRecord(decoding: bytes, store: store)
        for bit in 0..<bytes.count * 8 {
            var flipped = bytes
            flipped[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: FormatError.self) { try JournalRecord(decoding: flipped, store: store) }
        }
    }

    @Test(arguments: [0, 1, 4096, 4097, 128 * 4096, 128 * 4096 + 1, 3_000_000])
    func aTreeGivesItsChunksBack(length: Int) throws {
        let tree = BlobTree(chunkSize: 4096)
        let ids = (0..<tree.chunkCount(UInt64(length))).map {
            ChunkID.of([UInt8](repeating: UInt8($0 & 255), count: $0))
        }
        var lists: [ChunkID: [UInt8]] = [:]
        let root = tree.root(over: ids) { lists[$0] = $1 }
        let blob = length == 0 ? BlobRef.empty : BlobRef(length: UInt64(length), id: root)
        #expect(try tree.chunkIDs(of: blob) { lists[$0]! } == ids)
    }

    /// By the numbers of statfs(2): ext4, xfs, btrfs, zfs, tmpfs, overlay.
    @Test(arguments: [0xEF53, 0x5846_5342, 0x9123_683E, 0x2FC1_2FC1, 0x0102_1994, 0x794C_7630] as [UInt64])
    func fileSystemsThatKeepPromisesAreTaken(magic: UInt64) throws {
        try FileSystems.check(magic, of: Path("/x"))
    }

    @Test(
        arguments: [
            (0x6969, "NFS"), (0x6573_5546, "FUSE"), (0x4D44, "FAT"), (0xFF53_4D42, "CIFS"),
            (0x0BD0_0BD0, "Lustre"), (0x8584_58F6, "0x858458f6"), (1, "0x1"),
        ] as [(UInt64, String)])
    func otherFileSystemsAreRefusedByName(magic: UInt64, name: String) {
        let error = #expect(throws: CairnError.self) { try FileSystems.check(magic, of: Path("/x")) }
        #expect(error?.message.contains(name) == true && error?.message.contains("ext4") == true)
    }
}
