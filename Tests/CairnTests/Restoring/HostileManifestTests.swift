import ChunkStore
import Foundation
import Testing

@testable import Cairn

/// Manifests that no save writes: what restore and export do with paths and links that would lead out of the destination.
@Suite struct HostileManifestTests {
    let bench: Workbench
    /// A file beside the destinations, which nothing may touch.
    let victim: String

    init() throws {
        bench = try Workbench()
        victim = bench.path("victim")
        try bench.write(".", ["victim": [UInt8]("untouched".utf8)])
    }

    /// Commits an iteration with these encoded roots, past all checks that a save makes.
    private func commit(step: UInt64, roots: (ManifestWriter) throws -> [UInt8]) throws {
        let session = try SaveSession(bench.store.chunks, dryRun: false)
        defer { session.abandon() }
        let writer = ManifestWriter(session: session, tree: BlobTree(chunkSize: bench.store.chunkSize))
        let head = Head(
            run: "main", step: step, createdAt: 0, parent: nil, layout: "", tensorCount: 0, fileCount: 1,
            logicalBytes: 4, roots: try writer.blob(try roots(writer)), metrics: [:], metadata: .empty)
        try writer.flush()
        let manifest = SaveSession.Manifest(
            run: "main", step: step, head: head.encoded(), origin: "", pins: [])
        guard case .committed = try session.commit(manifest, decide: { _ in .commit(replacing: nil) }) else {
            Issue.record("was not committed")
            return
        }
    }

    /// The encoded roots of a folder with one file at this path, as bytes, since `Roots` refuses to encode such.
    private func roots(fileAt path: String, _ writer: ManifestWriter) throws -> [UInt8] {
        let honest = Roots.Entry(
            path: [UInt8](repeating: UInt8(ascii: "x"), count: path.utf8.count),
            kind: .file(.opaque(try writer.blob([UInt8]("evil".utf8)))), mode: 0o644, mtime: 0, nanoseconds: 0
        )
        let folder = Roots.Entry(path: [], kind: .folder, mode: 0o755, mtime: 0, nanoseconds: 0)
        var bytes = Roots([folder, honest]).encoded()
        let place = try #require(bytes.firstRange(of: honest.path))
        bytes.replaceSubrange(place, with: path.utf8)
        return bytes
    }

    private func refuses(step: UInt64) throws {
        let before = try FileManager.default.contentsOfDirectory(atPath: bench.folder).sorted()
        #expect(bench.code { try bench.store.restore("\(step)", to: bench.path("deep")) } == .damage)
        #expect(try FileManager.default.contentsOfDirectory(atPath: bench.folder).sorted() == before)
        #expect(try Data(contentsOf: URL(fileURLWithPath: victim)) == Data("untouched".utf8))
    }

    @Test(arguments: [
        "../victim", "..", "a/../../victim", "./victim", "/victim", "a//b", "a/", "a/.", "a/..", "/",
        "/tmp/cairn-victim",
    ])
    func aPathThatCouldLeaveIsRefused(path: String) throws {
        try commit(step: 1) { try roots(fileAt: path, $0) }
        try refuses(step: 1)
        #expect(!FileManager.default.fileExists(atPath: "/tmp/cairn-victim"))
        #expect(try !bench.store.verify().ok)
        #expect(bench.code { try bench.store.cat("1", file: path) { _ in } } == .damage)
    }

    private func link(_ path: String, _ target: String) -> Roots.Entry {
        .init(
            path: [UInt8](path.utf8), kind: .link(target: [UInt8](target.utf8)), mode: 0o777, mtime: 0,
            nanoseconds: 0)
    }

    private func folder(_ path: String) -> Roots.Entry {
        .init(path: [UInt8](path.utf8), kind: .folder, mode: 0o755, mtime: 0, nanoseconds: 0)
    }

    @Test(arguments: [
        ("a", "../victim"), ("a", "/etc/passwd"), ("a", ".."), ("d/a", "../../victim"),
        ("d/a", "../d/../../x"),
        ("d/a", "./../../x"), ("a", "b/../../x"), ("a", "//x"), ("a", "d/up/../victim"), ("a", "d/up/x/.."),
    ])
    func aLinkThatLeavesIsRefused(path: String, target: String) throws {
        // `d/up` itself stays inside; what goes up again behind it does not.
        try commit(step: 1) { _ in
            Roots([folder(""), folder("d"), link("d/up", ".."), link(path, target)]).encoded()
        }
        try refuses(step: 1)
    }

    @Test(arguments: [
        ("a", "d/x"), ("d/a", "../x"), ("a", "./d/../d"), ("a", "d/up"), ("a", "nothing/at/all"),
    ])
    func aLinkThatStaysComesBack(path: String, target: String) throws {
        try commit(step: 1) { _ in
            Roots([folder(""), folder("d"), link("d/up", ".."), link(path, target)]).encoded()
        }
        try bench.store.restore("1", to: bench.path("to"))
        #expect(
            try FileManager.default.destinationOfSymbolicLink(atPath: bench.path("to/" + path)) == target)
    }

    @Test func aSaveRefusesTheSameLinksByName() throws {
        let folder = try bench.write("checkpoint-1", ["d/a.bin": [1]])
        try FileManager.default.createSymbolicLink(atPath: folder + "/d/up", withDestinationPath: "..")
        try bench.store.save(folder, options: SaveOptions(dryRun: true))
        try FileManager.default.createSymbolicLink(
            atPath: folder + "/out", withDestinationPath: "d/up/../victim")
        let error = #expect(throws: CairnError.self) { try bench.store.save(folder) }
        #expect(error?.code == .usage && error?.message.contains("/out ") == true)
    }

    @Test func aFileBelowALinkOrAFileIsRefused() throws {
        for kind in ["link", "file"] {
            let step: UInt64 = kind == "link" ? 1 : 2
            try commit(step: step) { writer in
                let blob = try writer.blob([UInt8]("evil".utf8))
                let file = { (path: String) in
                    Roots.Entry(
                        path: [UInt8](path.utf8), kind: .file(.opaque(blob)), mode: 0o644, mtime: 0,
                        nanoseconds: 0)
                }
                let upper = kind == "link" ? link("a", ".") : file("a")
                var bytes = Roots([folder(""), upper, file("a_victim")]).encoded()
                let place = try #require(bytes.firstRange(of: [UInt8]("a_victim".utf8)))
                bytes.replaceSubrange(place, with: "a/victim".utf8)
                return bytes
            }
            try refuses(step: step)
        }
    }

    /// A file that says it has more bytes, or fewer, than its only chunk.
    @Test(arguments: [3, 5, 4096])
    func aFileOfAnotherLengthThanItsChunkIsRefused(length: UInt64) throws {
        try commit(step: 1) { writer in
            let blob = BlobRef(length: length, id: try writer.blob([UInt8]("evil".utf8)).id)
            let file = Roots.Entry(
                path: [UInt8]("a".utf8), kind: .file(.opaque(blob)), mode: 0o644, mtime: 0, nanoseconds: 0)
            return Roots([folder(""), file]).encoded()
        }
        try refuses(step: 1)
        #expect(bench.code { try bench.store.cat("1", file: "a") { _ in } } == .damage)
        #expect(try bench.store.verify().damaged.map(\.files) == [["a"]])
        // What leans on it, or is compared with it, takes no harm.
        let next = try bench.write("checkpoint-2", ["a": [1, 2, 3]])
        try bench.store.save(next, options: SaveOptions(run: "main"))
        #expect(try bench.restores("2", as: next))
    }

    @Test func anExportRefusesALinkThatLeaves() throws {
        let header = Workbench.safetensors([("w", [1, 2, 3])])
        try bench.store.save(
            try bench.write("checkpoint-1", ["model.safetensors": header]), options: SaveOptions(step: 1))
        let info = try bench.store.resolve("1")
        let model = try bench.store.manifest(of: info).manifest.roots[[UInt8]("model.safetensors".utf8)]!
        try commit(step: 2) { _ in Roots([folder(""), model, link("README.md", "../victim")]).encoded() }
        let export = ExportOptions(layout: "hf")
        #expect(bench.code { try bench.store.export("2", to: bench.path("e"), options: export) } == .damage)
        #expect(!FileManager.default.fileExists(atPath: bench.path("e")))
        try refuses(step: 2)
    }

    @Test(arguments: ["to", "to/"])
    func aLinkAtTheDestinationIsReplacedAndNotFollowed(name: String) throws {
        let source = try bench.write("checkpoint-1", ["a.bin": [1, 2, 3]])
        try bench.store.save(source)
        try bench.write("elsewhere", ["a.bin": [9], "mine": [8]])
        try FileManager.default.createSymbolicLink(
            atPath: bench.path("to"), withDestinationPath: "elsewhere")
        #expect(bench.code { try bench.store.restore("1", to: bench.path(name)) } == .exists)
        let code = bench.code {
            try bench.store.restore("1", to: bench.path(name), options: RestoreOptions(force: true))
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: bench.path("elsewhere")).count == 2)
        #expect(try Data(contentsOf: URL(fileURLWithPath: bench.path("elsewhere/a.bin"))) == Data([9]))
        if name == "to" {
            #expect(code == nil)
            #expect(try FileManager.default.contentsOfDirectory(atPath: bench.path("to")) == ["a.bin"])
            let attributes = try FileManager.default.attributesOfItem(atPath: bench.path("to"))
            #expect(attributes[.type] as? FileAttributeType == .typeDirectory)
        }
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: bench.folder).filter { $0.hasPrefix(".") }
                == [])
    }
}
