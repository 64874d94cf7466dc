import Platform
import Testing

@testable import ChunkStore

/// Packs whose records lean on each other as no save makes them: errors, and never a crash, a circle without end, or more memory.
@Suite(.timeLimit(.minutes(5))) struct ForgedChainTests {
    let toy: ToyStore
    let store: ChunkStore
    let sound: UInt64

    init() throws {
        toy = try ToyStore()
        store = try toy.open()
        sound = try ToyStore.save(store, step: 1, [[1, 2, 3]])
    }

    enum Forgery: CaseIterable {
        case itself, circle, tooLong, otherLength, unknownBase, manifestInACircle
    }

    private typealias Forged = (id: ChunkID, raw: Int, codec: Codec, base: ChunkID, payload: [UInt8])

    private func delta(_ chunk: [UInt8], _ base: ChunkID, over old: [UInt8]? = nil) -> Forged {
        let payload = PlaneCoderTests.plain(chunk, old ?? chunk, 1)
        return (.of(chunk), chunk.count, .delta, base, payload)
    }

    private func raw(_ chunk: [UInt8]) -> Forged { (.of(chunk), chunk.count, .raw, .zero, chunk) }

    private func chunk(_ number: Int) -> [UInt8] { [UInt8](repeating: UInt8(number), count: 1000) }

    /// The records, the first of which is an iteration's only chunk.
    private func records(_ forgery: Forgery) -> [Forged] {
        let ids = (0..<3).map { ChunkID.of(chunk($0)) }
        switch forgery {
        case .itself, .manifestInACircle: return [delta(chunk(0), ids[0])]
        case .circle: return [delta(chunk(0), ids[1]), delta(chunk(1), ids[2]), delta(chunk(2), ids[0])]
        case .tooLong:
            let links = (0..<PackFormat.chainLimit).map { number in
                delta(chunk(number), .of(chunk(number + 1)), over: chunk(number + 1))
            }
            return links + [raw(chunk(PackFormat.chainLimit))]
        case .otherLength:
            let base = [UInt8](repeating: 5, count: 999)
            return [delta(chunk(0), .of(base)), raw(base)]
        case .unknownBase: return [delta(chunk(0), ids[1])]
        }
    }

    /// Commits an iteration of one blob, `main@2`.
    private func commit(_ records: [Forged], headLeansOnItself: Bool) throws -> UInt64 {
        let head = ToyStore.head([BlobRef(length: 1000, id: records[0].id)], salt: 2)
        let own = headLeansOnItself ? delta(head, .of(head)) : raw(head)
        let writer = try PackWriter(
            folder: toy.folder.appending("packs"), store: store.id, memory: 16 << 20)
        for record in records + [own] {
            let entry = PackEntry(
                id: record.id, offset: 0, rawLength: UInt32(record.raw),
                storedLength: UInt32(record.payload.count), codec: record.codec, base: record.base)
            try record.payload.withUnsafeBytes { try writer.append([(entry, $0)]) }
        }
        let (summary, entries) = try writer.finish()
        return try store.transact { transaction, state, position in
            let pack = CommittedPack(summary: summary, voids: [])
            try store.putChunks(pack, entries, into: transaction, &state)
            let commit = JournalEvent.Commit(
                run: "main", step: 2, head: head, origin: "", replaces: nil, packs: [pack], storedBytes: 0,
                pins: [], version: "1")
            return .init(event: .commit(commit), result: position.sequence)
        }
    }

    private func expectDamage(_ body: () throws -> Void) {
        let error = #expect(throws: CairnError.self) { try body() }
        #expect(error?.code == .damage, "\(String(describing: error))")
    }

    @Test(arguments: Forgery.allCases)
    func isDamageAndNothingElse(forgery: Forgery) throws {
        let records = records(forgery)
        let number = try commit(records, headLeansOnItself: forgery == .manifestInACircle)
        for round in 0..<3 {
            let store = try toy.open()
            expectDamage { _ = try store.chunk(records[0].id) }
            expectDamage { _ = try ToyStore.read(store, number) }
            var failures: [CairnError.Code] = []
            try ChunkReader(store).read(
                [records[0].id], deliver: { _, _ in Issue.record("delivered") },
                failed: { failures.append($1.code) })
            #expect(failures == [.damage])
            // The structure is what the journal says; only the bytes are not to be had.
            _ = try store.checkStructure()
            _ = try store.damagedBases(of: [records[0].id])
            _ = try? store.collect(dryRun: true)
            _ = try? store.collect(dryRun: false)
            #expect(try ToyStore.read(store, sound) == [[1, 2, 3]])
            if round == 0 {
                // Nothing is to lean on it.
                let session = try SaveSession(store, dryRun: false, encoding: ToyStore.deltas)
                defer { session.abandon() }
                let changed = [UInt8](repeating: 77, count: 1000)
                _ = try ToyStore.manifest(step: 9, tensor: changed, over: chunk(0), session)
                let entries = try session.finishPacks().flatMap(\.entries)
                #expect(entries.allSatisfy { !$0.codec.hasBase })
                #expect(session.lostBases == (forgery == .otherLength ? [] : [records[0].id]))
            }
            if round == 1 { try store.rebuild() }
            if round == 2 { break }
            if round == 0 { try FileSystem.removeFile(toy.folder.appending("index/data.mdb")) }
        }
        // Salvage, too, takes them for what they are.
        for summary in try store.read({ try $0.packs().map(\.summary) }) {
            try File(store.packs.path(summary.name), .write).write([0], at: summary.tableOffset)
        }
        try FileSystem.removeFile(toy.folder.appending("index/data.mdb"))
        let salvaged = try toy.open()
        #expect(try ToyStore.read(salvaged, sound) == [[1, 2, 3]])
        expectDamage { _ = try salvaged.chunk(records[0].id) }
        // What is given up goes, whatever it leans on.
        try ToyStore.delete(salvaged, [number])
        try salvaged.replacePacks(try salvaged.checkStructure().damagedPacks)
        _ = try salvaged.collect(dryRun: false)
        #expect(try salvaged.locate([records[0].id])[0] == nil)
        #expect(try ToyStore.read(salvaged, sound) == [[1, 2, 3]])
        #expect(try salvaged.checkStructure().problems.isEmpty)
    }
}
