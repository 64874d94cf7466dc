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
}
