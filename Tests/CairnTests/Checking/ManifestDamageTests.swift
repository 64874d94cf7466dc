import Foundation
import Testing

@testable import Cairn
@testable import ChunkStore

/// A flipped bit in each piece of a manifest is named and never passed on, and heals from what the piece was made of.
@Suite struct ManifestDamageTests {
    let bench: Workbench

    init() throws {
        bench = try Workbench()
        var generator = SeededGenerator(seed: 11)
        let frozen = generator.bytes(30_000)
        for step in 1...3 {
            let folder = try bench.write(
                "out/checkpoint-\(step)",
                [
                    // More chunks than one list holds, so that there is a list of lists.
                    "model.safetensors": Workbench.safetensors([
                        ("deep", generator.bytes(540_000)), ("frozen", frozen),
                    ]),
                    "sub/notes.txt": [UInt8]("step \(step)".utf8),
                ])
            try FileManager.default.createSymbolicLink(
                atPath: folder + "/link", withDestinationPath: "sub/notes.txt")
            var options = SaveOptions()
            options.metadata = ["lr": "0.1", "step": "\(step)"]
            try bench.store.save(folder, options: options)
        }
    }

    enum Piece: String, CaseIterable {
        case head, roots, schema, list, listOfLists

        /// The iterations that lose something with the piece of the second one: all have the same schema.
        var steps: [UInt64] { self == .schema ? [1, 2, 3] : [2] }
    }

    private func reopened(repairing: Bool = false) throws -> Store {
        try Store.open(at: bench.path("store"), repairing: repairing)
    }

    /// The chunk of a piece of the second iteration's manifest.
    private func chunk(_ piece: Piece) throws -> ChunkID {
        let info = try bench.store.resolve("2")
        let manifest = try bench.store.manifest(of: info).manifest
        let entry = try #require(manifest.roots[[UInt8]("model.safetensors".utf8)])
        guard case .file(.split(let schema, let blobs)) = entry.kind else { throw CancellationError() }
        var lists: [ChunkID] = []
        _ = try BlobTree(chunkSize: bench.store.chunkSize).chunkIDs(
            of: manifest.contentBlobs(of: entry)[0], list: { lists.append($0) },
            read: bench.store.chunks.chunk)
        #expect(blobs[0] == lists[0] && lists.count == 3)
        switch piece {
        case .head: return info.id
        case .roots: return manifest.head.roots.id
        case .schema: return schema.id
        case .list: return lists[2]
        case .listOfLists: return lists[0]
        }
    }

    private func flip(_ id: ChunkID) throws {
        let place = try #require(try bench.store.chunks.locate([id])[0])
        let path = bench.path("store/\(place.pack)")
        try bench.flip(path, Int(place.location.offset) + PackFormat.recordHeaderSize + 3)
    }

    private func restores(_ step: UInt64) -> CairnError.Code? {
        let place = bench.path("restored-\(UUID().uuidString)")
        return bench.code {
            _ = try reopened().restore("\(step)", to: place)
            for file in ["model.safetensors", "sub/notes.txt", "link"] {
                #expect(
                    FileManager.default.contentsEqual(
                        atPath: place + "/" + file, andPath: bench.path("out/checkpoint-\(step)/" + file)))
            }
        }
    }

    private func expectWhole() throws {
        let after = try reopened().verify()
        #expect(after.ok, "\(after.problems) \(after.damaged)")
        for step in 1...3 as ClosedRange<UInt64> { #expect(restores(step) == nil) }
    }

    @Test(arguments: Piece.allCases)
    func aDamagedPieceIsNamedAndHealed(piece: Piece) throws {
        try flip(try chunk(piece))
        let report = try reopened(repairing: true).verify()
        #expect(report.damaged.map(\.step) == piece.steps)
        switch piece {
        case .head, .roots: #expect(report.damaged[0].files.isEmpty)
        case .schema: #expect(report.damaged.allSatisfy { $0.files == ["model.safetensors"] })
        case .list, .listOfLists:
            #expect(report.damaged[0].files == ["model.safetensors"] && report.damaged[0].tensors == ["deep"])
        }
        if piece != .list, piece != .listOfLists {
            for step in piece.steps {
                #expect(
                    report.problems.contains { $0.hasPrefix("main@\(step): ") && $0.contains("cairn repair") }
                )
            }
        }
        for step in 1...3 as ClosedRange<UInt64> {
            #expect(restores(step) == (piece.steps.contains(step) ? .damage : nil))
        }
        // The head stands in the journal as well; everything else needs the files.
        let alone = try reopened(repairing: true).repair()
        #expect(alone.ok == (piece == .head))
        #expect(alone.damaged.map(\.step) == (piece == .head ? [] : piece.steps))
        let healed = try reopened(repairing: true).repair(from: [bench.path("out")])
        #expect(healed.ok, "\(healed)")
        #expect(alone.repairedChunks + healed.repairedChunks == 1)
        try expectWhole()
    }

    @Test func everyPieceAtOnceHealsFromTheCheckpointItself() throws {
        for id in try Piece.allCases.map({ try chunk($0) }) { try flip(id) }
        #expect(try reopened(repairing: true).verify().damaged.map(\.step) == [1, 2, 3])
        let report = try reopened(repairing: true).repair(from: [bench.path("out/checkpoint-2")])
        #expect(report.ok && report.repairedChunks == Piece.allCases.count, "\(report)")
        try expectWhole()
    }

    @Test func anotherStoreHealsEverything() throws {
        try FileManager.default.copyItem(atPath: bench.path("store"), toPath: bench.path("copy"))
        for id in try Piece.allCases.map({ try chunk($0) }) { try flip(id) }
        let metadata = try bench.store.chunks.read { try $0.catalog(store: bench.store.chunks.id) }
            .map { try Head(decoding: $0.head).metadata.id }
        try flip(metadata[1])
        #expect(try reopened(repairing: true).repair(from: [bench.path("copy")]).ok)
        try expectWhole()
        #expect(try reopened().show("2").info.metadata["step"] == "2")
    }

    @Test func damagedMetadataIsNamedThoughTheFilesAreWhole() throws {
        let manifest = try bench.store.manifest(of: try bench.store.resolve("2")).manifest
        try flip(manifest.head.metadata.id)
        let report = try reopened(repairing: true).verify()
        #expect(report.damaged.map(\.step) == [2] && report.damaged[0].files.isEmpty)
        #expect(report.problems.contains { $0.contains("main@2") && $0.contains("metadata") })
        #expect(restores(2) == nil)
        #expect(bench.code { _ = try reopened().show("2") } == .damage)
    }

    @Test(arguments: [Piece.roots, .schema])
    func whatNobodyHasIsGivenUp(piece: Piece) throws {
        try flip(try chunk(piece))
        let store = try reopened()
        #expect(bench.code { _ = try store.collect(dryRun: false) } == .damage)
        #expect(try store.deleteDamaged().deleted.map(\.step) == piece.steps)
        _ = try store.collect(dryRun: false)
        #expect(try reopened().verify().ok)
        #expect(try reopened().iterations().map(\.step) == [1, 2, 3].filter { !piece.steps.contains($0) })
    }
}
