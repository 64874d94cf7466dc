import Platform
import Testing

@testable import ChunkStore

/// A collection that finds anything amiss stops, and frees nothing.
@Suite struct CautionTests {
    let toy: ToyStore
    let store: ChunkStore
    let kept = (0..<60_000).map { UInt8(truncatingIfNeeded: $0 / 251) }
    /// The iteration with `kept`; the one before it is deleted and not collected.
    let number: UInt64

    init() throws {
        toy = try ToyStore()
        store = try toy.open()
        let first = try ToyStore.save(store, step: 1, [[UInt8](repeating: 1, count: 60_000), [1]])
        number = try ToyStore.save(store, step: 2, [kept])
        try ToyStore.save(store, step: 3, [[3]])
        _ = try store.delete { _ in [.init(iteration: first, reason: "test")] }
    }

    private var chunk: ChunkID { .of([UInt8](kept[..<ToyStore.chunkSize])) }

    /// The journal and all packs.
    private func bytes() throws -> [[UInt8]] {
        let packs = toy.folder.appending("packs")
        let names = try FileSystem.names(in: packs).sorted { $0.lexicographicallyPrecedes($1) }
        return try ([toy.folder.appending("journal")] + names.map { packs.appending($0) }).map {
            try File($0, .read).readToEnd()
        }
    }

    /// Changes the index behind the journal's back.
    private func refuses(_ spoil: (IndexTransaction) throws -> Void) throws {
        try store.changeIndex(spoil)
        let before = try bytes()
        for dryRun in [true, false] {
            let error = #expect(throws: CairnError.self) { try toy.open().collect(dryRun: dryRun) }
            #expect(error?.code == .damage && error?.message.contains("`cairn repair`") == true)
        }
        #expect(try bytes() == before)
        try store.rebuild()
        #expect(try store.collect(dryRun: false).reclaimedBytes > 0)
        #expect(try ToyStore.read(store, number) == [kept])
        #expect(try store.checkStructure().problems.isEmpty)
    }

    @Test func whereTheIndexHasLostAnIteration() throws {
        try refuses { try $0.removeIteration(number) }
    }

    @Test func whereTheIndexHasAnotherPin() throws { try refuses { $0.setPin("gold", number) } }

    @Test func whereTheIndexHasLostAPack() throws {
        let pack = try #require(try store.read { try $0.chunk(chunk) }).pack
        try refuses { $0.removePack(pack) }
    }

    @Test func whereTheIndexHasLostAChunk() throws { try refuses { try $0.removeChunks([chunk]) } }

    @Test func whereAnIterationCanNotBeRead() throws {
        let head = ChunkID.of(try store.read { try $0.catalogEntry(number, store: store.id) }.head)
        let list = try ToyStore.blobs(
            try store.read { try $0.catalogEntry(number, store: store.id) }.head)[0].id
        #expect(list != head)
        let place = try #require(try store.locate([list])[0])
        let (pack, location) = (place.pack, place.location)
        let file = try File(store.packs.path(pack), .write)
        let payload = location.offset + UInt64(PackFormat.recordHeaderSize)
        let byte = try file.read(1, at: payload)
        try file.write([byte[0] ^ 1], at: payload)
        let before = try bytes()
        let error = #expect(throws: CairnError.self) { try toy.open().collect(dryRun: false) }
        #expect(error?.code == .damage && error?.message.contains("main@2 is damaged") == true)
        #expect(try bytes() == before)
    }

    /// What it says to be free is not: with a smaller record, or one in a place that is free.
    @Test(arguments: [0, 1 << 20] as [UInt64])
    func whereTheIndexHasAChunkInAnotherPlace(distance: UInt64) throws {
        try store.changeIndex { transaction in
            var location = try #require(try transaction.chunk(chunk))
            location.offset += distance
            if distance == 0 { (location.rawLength, location.storedLength) = (1, 1) }
            try transaction.updateChunk(chunk, location)
        }
        let packs = try bytes().dropFirst()
        let error = #expect(throws: CairnError.self) { try toy.open().collect(dryRun: false) }
        #expect(error?.code == .damage)
        // The sweep was journaled and the dead pack is gone; but nothing was punched.
        #expect(Set(try bytes().dropFirst()).isSubset(of: packs))
        try store.rebuild()
        #expect(try ToyStore.read(store, number) == [kept])
    }
}
