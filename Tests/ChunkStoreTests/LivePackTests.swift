import Platform
import Testing

@testable import ChunkStore

/// What the index alone says never frees anything.
@Suite struct LivePackTests {
    let toy: ToyStore
    let store: ChunkStore
    let shared = [UInt8](repeating: 7, count: 9000)
    let gone = (0..<40_000).map { UInt8($0 / 4096) }

    /// The chunks of `main@1` live on in `main@2`, in a pack that has other chunks, which are dead.
    init() throws {
        toy = try ToyStore()
        store = try toy.open()
        let first = try ToyStore.save(store, step: 1, [shared, gone])
        try ToyStore.save(store, step: 2, [shared, [UInt8](repeating: 9, count: 9000)])
        _ = try store.delete { _ in [.init(iteration: first, reason: "test")] }
    }

    enum Lie: CaseIterable {
        case otherPack, otherRecord, betweenRecords, noPack, otherLength
    }

    @Test(arguments: Lie.allCases)
    func aWrongPlaceIsDamageAndFreesNothing(lie: Lie) throws {
        let second = try #require(try store.read { try $0.iterationNumber(run: "main", step: 2) })
        let live = ChunkID.of([UInt8](shared.prefix(ToyStore.chunkSize)))
        let dead = ChunkID.of([UInt8](gone.prefix(ToyStore.chunkSize)))
        let files = try FileSystem.names(in: toy.folder.appending("packs")).count
        try store.changeIndex { transaction in
            var location = try #require(try transaction.chunk(live))
            let other = try #require(try transaction.chunk(dead))
            switch lie {
            case .otherPack: location.pack = 1 - location.pack
            case .otherRecord: location.offset = other.offset
            case .betweenRecords: location.offset += 1
            case .noPack: location.pack = 99
            case .otherLength: location.storedLength -= 1
            }
            try transaction.updateChunk(live, location)
        }
        for dryRun in [true, false] {
            #expect {
                try store.collect(dryRun: dryRun)
            } throws: {
                ($0 as? CairnError)?.code == .damage
            }
        }
        try store.removeLeftovers()
        #expect(try FileSystem.names(in: toy.folder.appending("packs")).count == files)
        try store.rebuild()
        #expect(try ToyStore.read(store, second) == [shared, [UInt8](repeating: 9, count: 9000)])
        #expect(try store.collect(dryRun: false).reclaimedBytes > 0)
        #expect(try ToyStore.read(store, second) == [shared, [UInt8](repeating: 9, count: 9000)])
    }
}
