import Foundation
import Testing

@testable import Cairn
@testable import ChunkStore

/// A store that a later version wrote: its format is this one's, but a chunk is encoded in a way that is not known here.
@Suite struct CodecTests {
    let bench: Workbench

    init() throws {
        bench = try Workbench()
        for step in 1...2 {
            try bench.store.save(
                try bench.write("checkpoint-\(step)", ["a.bin": [UInt8](repeating: UInt8(step), count: 9000)])
            )
        }
    }

    /// Says of a chunk, in its record and in the index, that it is encoded in this way.
    private func setCodec(_ codec: UInt8, of id: ChunkID) throws {
        let chunks = bench.store.chunks
        let place = try #require(try chunks.locate([id])[0])
        var (pack, location) = (place.pack, place.location)
        location.codec = Codec(rawValue: codec)
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: chunks.packs.path(pack).text))
        try file.seek(toOffset: location.offset)
        try file.write(contentsOf: Data(PackFormat.recordHeader(location.entry(id))))
        try file.close()
        try chunks.changeIndex { try $0.updateChunk(id, location) }
    }

    private func expectNewerVersion(_ body: () throws -> Void) {
        let error = #expect(throws: CairnError.self) { try body() }
        #expect(error?.code == .newerVersion)
        let version = bench.store.chunks.settings.version
        #expect(
            error?.message.contains("codec 77, ") == true
                && error?.message.contains("use Cairn \(version)") == true)
    }

    @Test func aChunkInAnUnknownCodecIsAnErrorThatNamesTheVersionThatWroteIt() throws {
        try setCodec(77, of: .of([UInt8](repeating: 1, count: 4096)))
        expectNewerVersion { try bench.store.restore("1", to: bench.path("to")) }
        #expect(!FileManager.default.fileExists(atPath: bench.path("to")))
        expectNewerVersion { try bench.store.cat("1", file: "a.bin") { _ in } }
        try bench.store.restore("2", to: bench.path("other"))
        // It is no damage, which could be given up.
        expectNewerVersion { _ = try bench.store.deleteDamaged() }
        #expect(try bench.store.iterations().count == 2)
    }

    @Test func aManifestInAnUnknownCodecIsSaidSoWhateverIsLocked() throws {
        let roots = try bench.store.manifest(of: try bench.store.resolve("2")).manifest.head.roots.id
        try setCodec(77, of: roots)
        expectNewerVersion { _ = try bench.store.show("2") }
        expectNewerVersion { _ = try bench.store.collect(dryRun: false) }
        // A sweep reads manifests in the midst of its transaction.
        let chunks = bench.store.chunks
        expectNewerVersion { _ = try chunks.read { try chunks.source($0).read(roots) } }
    }
}
