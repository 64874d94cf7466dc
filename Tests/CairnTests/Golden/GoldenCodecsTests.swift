import Foundation
import Testing

@testable import Cairn
@testable import ChunkStore

/// A store of format 1 with planes and deltas, of numbers of every size; the first of what they lean on is no live iteration's.
@Suite struct GoldenCodecsTests {
    let golden: GoldenStore
    let references = (3...7).map { "golden@\($0)" }

    init() throws { golden = try GoldenStore("golden-store-1-codecs") }

    @Test func thisProgramReadsIt() throws {
        let store = try Store.open(at: golden.folder + "/golden-codecs")
        #expect(try store.iterations().map { "\($0.run)@\($0.step)" } == references)
        var codecs: Set<Codec> = []
        var depth = 0
        try store.chunks.read { transaction in
            let locate = store.chunks.locator(transaction)
            try transaction.scanChunks { id, location in
                codecs.insert(location.codec)
                depth = max(depth, try store.chunks.chain(try #require(try locate(id)), locate).count)
                return true
            }
        }
        #expect(codecs == [.raw, .planes, .delta] && depth == 4)
        #expect(try store.verify().ok)
        for reference in references { try store.restore(reference, to: golden.folder + "/" + reference) }
        #expect(try golden.hasRestored())
    }

    @Test func itsFingerprintsAreThoseOfToday() throws {
        let store = try Store.open(at: golden.folder + "/golden-codecs")
        let key = try #require(store.chunks.fingerprintKey(makes: false))
        let before = try #require(store.chunks.fingerprints(run: "golden", key: key))
        #expect(try before.manifest == store.resolve("golden@7").id)
        try store.restore("golden@7", to: golden.folder + "/checkpoint-8")
        #expect(
            try store.save(golden.folder + "/checkpoint-8", options: SaveOptions(run: "golden")).newBytes == 0
        )
        let after = try #require(store.chunks.fingerprints(run: "golden", key: key))
        #expect(after.count == before.count)
        #expect((0..<before.count).contains { before[$0].own != .none })
        for index in 0..<before.count where before[index].own != .none {
            #expect(after[index] == before[index])
        }
    }

    @Test func theReaderInPythonReadsItWithoutTheIndex() throws {
        #expect(!FileManager.default.fileExists(atPath: golden.folder + "/golden-codecs/index/data.mdb"))
        #expect(try golden.read("golden-codecs", "check") == 0)
        for reference in references {
            #expect(try golden.read("golden-codecs", "restore", reference, reference) == 0)
        }
        #expect(try golden.hasRestored())
        let store = try Store.open(at: golden.folder + "/golden-codecs")
        try store.restore(references[4], to: golden.folder + "/a")
        #expect(try golden.areSame("a", references[4]))
    }
}
