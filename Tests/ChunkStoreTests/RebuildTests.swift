import Platform
import Testing

@testable import ChunkStore

/// An index that is made anew, or replaced by an older copy, while others rely on what it said.
@Suite struct RebuildTests {
    let toy: ToyStore
    let store: ChunkStore
    let lost = (0..<40_000).map { UInt8(truncatingIfNeeded: $0 / 4096) }
    let kept = [UInt8](repeating: 100, count: 9000)

    /// `main@1`, which has chunks of its own in the pack of a chunk that `main@2` has too, is deleted and not collected.
    init() throws {
        toy = try ToyStore()
        store = try toy.open()
        let first = try ToyStore.save(store, step: 1, [lost, kept])
        try ToyStore.save(store, step: 2, [kept])
        _ = try store.delete { _ in [.init(iteration: first, reason: "test")] }
    }

    private var index: Platform.Path { toy.folder.appending("index/data.mdb") }

    private func check(_ number: UInt64, _ contents: [[UInt8]]) throws {
        let store = try toy.open()
        #expect(try ToyStore.read(store, number) == contents)
        #expect(try store.checkStructure().problems.isEmpty)
    }

    @Test(arguments: [false, true])
    func anIndexOfBeforeARebuildBringsNoFreedChunkBack(collects: Bool) throws {
        let old = try File(index, .read).readToEnd()
        try FileSystem.removeFile(index)
        // The rebuilt index leaves out what no iteration reaches, and the space of that is given back.
        let other = try toy.open()
        if collects {
            #expect(try other.collect(dryRun: false).reclaimedBytes > 0)
        } else {
            try other.removeLeftovers()
        }
        try FileSystem.removeFile(index)
        try FileSystem.publish(old, at: index)
        let number = try ToyStore.save(try toy.open(), step: 3, [lost])
        try check(number, [lost])
    }

    /// As after a commit that was taken back, and a rebuild that was killed before it put the new index in its place.
    @Test func anIndexWhoseLastRecordGaveWayToAnotherIsMadeAnew() throws {
        let number = try #require(try store.read { try $0.iterationNumber(run: "main", step: 2) })
        let position = try store.read { try $0.state().journal }
        try ToyStore.save(store, step: 3, [lost])
        try store.journal.cut(back: position)
        try store.journal.append(
            store.journal.prepare(.sweep(token: Random.bytes(16), removedPacks: []), at: position))
        let again = try toy.open()
        #expect(try again.read { try $0.iterationNumber(run: "main", step: 3) } == nil)
        try check(number, [kept])
    }

    /// Commits `main@3`, a blob of two chunks whose list is in a codec that belongs to a later version.
    private func saveOfLaterVersion() throws {
        let chunks = [kept, lost].map { [UInt8]($0.prefix(ToyStore.chunkSize)) }
        var list: [UInt8] = []
        let root = BlobTree(chunkSize: ToyStore.chunkSize).root(over: chunks.map { .of($0) }) { list = $1 }
        let head = ToyStore.head([BlobRef(length: UInt64(2 * ToyStore.chunkSize), id: root)], salt: 3)
        let writer = try PackWriter(
            folder: toy.folder.appending("packs"), store: store.id, memory: 16 << 20)
        for (bytes, codec) in [(chunks[0], 0), (chunks[1], 0), (list, 77), (head, 0)] as [([UInt8], UInt8)] {
            let entry = PackEntry(
                id: .of(bytes), offset: 0, rawLength: UInt32(bytes.count), storedLength: UInt32(bytes.count),
                codec: Codec(rawValue: codec))
            try bytes.withUnsafeBytes { try writer.append([(entry, $0)]) }
        }
        let (summary, entries) = try writer.finish()
        try store.transact { transaction, state, _ in
            let pack = CommittedPack(summary: summary, voids: [])
            try store.putChunks(pack, entries, into: transaction, &state)
            let commit = JournalEvent.Commit(
                run: "main", step: 3, head: head, origin: "", replaces: nil, packs: [pack], storedBytes: 0,
                pins: [], version: "9.8.7")
            return .init(event: .commit(commit), result: ())
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func manifestsOfALaterVersionStopNobody() throws {
        try saveOfLaterVersion()
        try FileSystem.removeFile(index)
        let store = try toy.open()
        let number = try #require(try store.read { try $0.iterationNumber(run: "main", step: 3) })
        let error = #expect(throws: CairnError.self) { try ToyStore.read(store, number) }
        #expect(error?.code == .newerVersion && error?.message.contains("9.8.7") == true)
        #expect(throws: CairnError.self) { try store.collect(dryRun: false) }
        let second = try #require(try store.read { try $0.iterationNumber(run: "main", step: 2) })
        #expect(try ToyStore.read(store, second) == [kept])
    }
}
