import Foundation
import Testing

extension Weather {
    /// What a power cut leaves depends on the order of writes and syncs, which no killed process shows: so it is read from the log
    /// of the calls.
    @Suite struct OrderTests {
        /// The calls on packs, journal and index, each as a word and where; the same one many times in a row is told once.
        private func steps(_ calls: [LoggedCall]) -> [String] {
            var steps: [String] = []
            for call in calls {
                let words = [
                    "pwrite": "write", "pwritev": "write", "writev": "write", "write": "write",
                    "fsync": "sync",
                    "fdatasync": "sync", "msync": "sync", "unlink": "free", "punch": "free",
                    "rename": "rename",
                ]
                guard let word = words[call.name], let place = place(call.path) else { continue }
                if steps.last != "\(word) \(place)" { steps.append("\(word) \(place)") }
            }
            return steps
        }

        private func place(_ path: String) -> String? {
            if path.hasSuffix(".pack") { return "pack" }
            if path.hasSuffix("/packs") { return "packs" }
            if path.hasSuffix("/journal") { return "journal" }
            if path.hasSuffix("/index") { return "index folder" }
            if path.hasSuffix("/index/data.mdb") { return "index" }
            if path.contains("/index/."), path.hasSuffix(".partial") { return "new index" }
            return nil
        }

        private let commit = ["write journal", "sync journal", "write index", "sync index", "write index"]

        @Test(
            "A save makes its packs durable before the journal names them, and the journal before the index follows"
        )
        func save() throws {
            let steps = steps(try Operation.save.calls("kill", .changing))
            #expect(steps == ["write pack", "sync pack", "sync packs"] + commit)
        }

        @Test("A collection frees nothing before journal and index say so, durably")
        func collection() throws {
            let steps = steps(try Operation.gc.calls("kill", .changing))
            let first = try #require(steps.firstIndex(of: "free pack"))
            #expect(Array(steps[..<first].suffix(commit.count)) == commit)
            #expect(!steps[first...].contains("write journal"), "\(steps)")
        }

        @Test(
            "An index that is made anew is whole, and the journal says so, before it takes the old one's place"
        )
        func rebuild() throws {
            let steps = steps(try Operation.repair.calls("kill", .changing))
            let rename = try #require(steps.firstIndex(of: "rename index"))
            let around = [
                "sync new index", "write journal", "sync journal", "rename index", "sync index folder",
            ]
            try #require(rename >= 3 && steps.count > rename + 1)
            #expect(Array(steps[rename - 3...rename + 1]) == around, "\(steps)")
            #expect(!steps[rename...].contains("write new index"))
        }

        @Test(
            "What a restore writes is durable before it has its name",
            arguments: [Operation.restore, .restoreForce])
        func restore(_ operation: Operation) throws {
            let calls = try operation.calls("kill", .changing)
            let rename = try #require(
                calls.firstIndex { $0.name == "rename" && !$0.path.hasSuffix(".partial") })
            for (number, call) in calls.enumerated() where call.name.contains("write") {
                try #require(number < rename, "\(call) comes after the rename")
                let isSynced = calls[number..<rename].contains { $0.name == "fsync" && $0.path == call.path }
                #expect(isSynced, "\(call.path) is not synced")
            }
            #expect(calls[calls.index(after: rename)].name == "fsync", "the new name is not made durable")
            let folders = Set(
                calls.filter { $0.name == "mkdir" }.map { ($0.path as NSString).standardizingPath })
            let synced = Set(calls[..<rename].filter { $0.name == "fsync" }.map(\.path))
            #expect(folders.count == 3 && folders.isSubset(of: synced), "\(folders.subtracting(synced))")
        }

        @Test("A new store is one only when everything in it is there")
        func initialization() throws {
            let place = Weather.folder + "/order-" + UUID().uuidString
            let log = place + ".log"
            let faults = Faults(kind: "kill", number: 0, under: [place], log: log)
            try Child.run([Weather.program, "init", "--store", place], environment: faults.environment)
                .mustSucceed()
            let calls = LoggedCall.read(log)
            let name = try #require(
                calls.firstIndex { $0.path.hasSuffix("/cairn.json") && $0.name == "rename" })
            let before = calls[..<name]
            for path in ["/journal", "/index/data.mdb", "/index"] {
                let last = before.last { $0.path.hasSuffix(path) && !$0.name.hasPrefix("create") }
                let isDurable = last.map { $0.name.hasSuffix("sync") || path == "/index/data.mdb" } ?? false
                #expect(isDurable, "\(path) is not durable when the store gets its name")
            }
            #expect(!calls[name...].contains { $0.path.hasSuffix("/journal") })
            #expect(calls[calls.index(after: name)].name == "fsync")
        }
    }
}
