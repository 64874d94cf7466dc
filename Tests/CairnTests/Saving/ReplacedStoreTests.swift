import Cairn
import Foundation
import Testing

/// A store that somebody deletes, and perhaps makes again, while it is open.
@Suite struct ReplacedStoreTests {
    static let operations: [(name: String, body: @Sendable (Store, Workbench) throws -> Void)] = [
        ("list", { store, _ in _ = try store.iterations() }),
        ("show", { store, _ in _ = try store.show("1") }),
        ("save", { store, bench in _ = try store.save(bench.path("run"), options: SaveOptions(step: 2)) }),
        ("pin", { store, _ in _ = try store.pin("1", name: "gold") }),
        ("policy", { store, _ in try store.setPolicy(Policy(keepLast: 3), run: "main") }),
        ("verify", { store, _ in _ = try store.verify() }),
        ("collect", { store, _ in _ = try store.collect(dryRun: false) }),
    ]

    let bench: Workbench

    init() throws {
        bench = try Workbench()
        try bench.write("run", ["model.safetensors": Workbench.safetensors([("w", [1, 2, 3])])])
        _ = try bench.store.save(bench.path("run"), options: SaveOptions(step: 1))
    }

    private func error(_ number: Int, _ body: (Store, Workbench) throws -> Void) throws -> CairnError {
        try #require(throws: CairnError.self, "\(Self.operations[number].name)") {
            try body(bench.store, bench)
        }
    }

    @Test(arguments: operations.indices)
    func `one that was made again in its place is not taken for it`(number: Int) throws {
        let open = try bench.store.openIteration("1")
        try FileManager.default.removeItem(atPath: bench.path("store"))
        let other = try Store.create(at: bench.path("store"))
        _ = try other.save(bench.path("run"), options: SaveOptions(step: 1))
        let before = try FileManager.default.subpathsOfDirectory(atPath: bench.path("store")).sorted()
        let error = try error(number, Self.operations[number].body)
        #expect(error.code == .notAStore && error.message.contains("replaced by another since it was opened"))
        var bytes = [UInt8](repeating: 0, count: 3)
        let read = #expect(throws: CairnError.self) {
            try bytes.withUnsafeMutableBytes { try open.read([StateRead(name: "w", target: $0)]) }
        }
        #expect(read?.message == error.message)
        // Nothing of the new one has changed.
        #expect(
            try FileManager.default.subpathsOfDirectory(atPath: bench.path("store")).sorted() == before)
        #expect(try other.iterations().map(\.step) == [1] && other.pins().isEmpty)
        #expect(try other.verify().ok)
    }

    @Test(arguments: operations.indices)
    func `one that is gone is not made again in part`(number: Int) throws {
        try FileManager.default.removeItem(atPath: bench.path("store"))
        let error = try error(number, Self.operations[number].body)
        #expect(error.code == .notAStore && error.message.contains("gone since it was opened"))
        #expect(!FileManager.default.fileExists(atPath: bench.path("store")))
    }
}
