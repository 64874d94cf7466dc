import Cairn
import Foundation
import Testing

/// PyTorch's data loaders fork: a store that was opened before is of no use in the child, and says so.
@Suite struct ForkTests {
    /// fork(2), which Swift hides as it knows no use for it.
    private static func fork() -> pid_t {
        typealias Fork = @convention(c) () -> pid_t
        return unsafeBitCast(dlsym(nil, "fork"), to: Fork.self)()
    }

    /// Runs `body` in a forked child, and ends it with 0 where all went well. Only for a process of its own.
    private static func inChild(_ body: () throws -> Bool) -> Int32 {
        let child = fork()
        if child == 0 {
            let isFine = (try? body()) ?? false
            _exit(isFine ? 0 : 1)
        }
        var status: Int32 = 0
        guard child > 0, waitpid(child, &status, 0) == child else { return -1 }
        return status
    }

    private static func isRefused(_ body: () throws -> Void) -> Bool {
        do {
            try body()
            return false
        } catch {
            let error = error as? CairnError
            return error?.code == .usage && error?.message.contains("open it in the child") == true
        }
    }

    @Test func aStoreThatWasOpenedBeforeAForkIsAnErrorInTheChild() async {
        await #expect(processExitsWith: .success) {
            let bench = try Workbench()
            let source = try bench.write("checkpoint-1", ["a.bin": [UInt8](repeating: 1, count: 50_000)])
            let store = bench.store
            // The threads that this save made are gone in the child.
            try store.save(source)
            // What a dead process left makes a save take the lock, whose descriptor is closed in the child.
            try bench.write("store", ["journal.partial": [1]])
            let ways: [() throws -> Void] = [
                { _ = try store.iterations() }, { _ = try store.show("1") }, { _ = try store.verify() },
                { try store.save(source, options: SaveOptions(run: "main", step: 2)) },
                { try store.restore("1", to: bench.path("to")) }, { _ = try store.stats() },
                { _ = try store.collect(dryRun: false) }, { _ = try store.collect(dryRun: true) },
                { _ = try store.delete(["1"]) }, { _ = try store.pin("1", name: "gold") },
                { _ = try store.repair() }, { try store.setPolicy(Policy(keepLast: 1), run: "main") },
            ]
            for (number, way) in ways.enumerated() where ForkTests.inChild({ ForkTests.isRefused(way) }) != 0
            {
                print("way \(number) is not refused")
                exit(1)
            }
            // The parent goes on with it.
            try store.save(source, options: SaveOptions(step: 3))
            exit(try store.verify().ok && store.iterations().map(\.step) == [1, 3] ? 0 : 2)
        }
    }

    @Test func aStoreThatIsOpenedInTheChildWorksThere() async {
        await #expect(processExitsWith: .success) {
            let bench = try Workbench()
            let source = try bench.write("checkpoint-1", ["a.bin": [UInt8](repeating: 1, count: 5_000_000)])
            try bench.store.save(source)
            let status = ForkTests.inChild {
                let store = try Store.open(at: bench.store.path)
                try bench.write("checkpoint-2", ["a.bin": [UInt8](repeating: 2, count: 5_000_000)])
                try store.save(bench.path("checkpoint-2"))
                try store.restore("2", to: bench.path("to"))
                _ = try store.collect(dryRun: false)
                return try store.verify().ok
            }
            exit(try status == 0 && bench.store.iterations().map(\.step) == [1, 2] ? 0 : 1)
        }
    }
}
