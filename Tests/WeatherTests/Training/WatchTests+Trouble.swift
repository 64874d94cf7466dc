import Foundation
import Glibc
import Testing

/// What gets in its way.
extension WatchTests {
    @Test("Where the disk is full it says so once, and goes on trying")
    func fullDisk() async throws {
        try await onOwnThread {
            try training.write(1)
            let packs = training.store + "/packs"
            let stuck = try training.watch(
                faults: Faults(
                    kind: "enospc+", number: 1, calls: .writing, under: [packs], log: training.folder + "/log"
                ))
            // The first time, and after 2 and 4 seconds.
            try eventually("three attempts", of: stuck) {
                LoggedCall.read(training.folder + "/log").count >= 3
            }
            let ending = try stuck.stop()
            try ending.mustSayOneSentence()
            try expect(
                ending.error.contains("checkpoint-1: ") && ending.error.contains("no space")
                    && ending.output.isEmpty)
            try training.checkIntact()
            let freed = try training.watch(
                faults: Faults(kind: "enospc", number: 1, calls: .writing, under: [packs]))
            try expect(lines(1, freed)[0].hasPrefix("saved main@1 "))
            try freed.stop().mustSayOneSentence()
            try training.checkHas(1, content: 1)
        }
    }

    @Test("Where another process holds the store's lock it waits, and then saves")
    func locked() async throws {
        try await onOwnThread {
            try training.write(1)
            let log = training.folder + "/calls"
            let arguments = ["save", training.path("checkpoint-1"), "--run", "other"]
            try training.cairn(
                arguments + ["--step", "1"],
                faults: Faults(kind: "stop", number: 0, under: [training.store], log: log)
            ).mustSucceed()
            let place = LoggedCall.read(log).lastIndex { $0.path.hasSuffix("/locks/commit") }
            let number = try #require(place) + 2
            let holder = try training.start(
                arguments + ["--step", "2"],
                faults: Faults(kind: "stop", number: number, under: [training.store])
            )
            try eventually("the stop", of: holder) { try Self.isStopped(holder) }
            let watch = try training.watch(["--run", "main"])
            Thread.sleep(forTimeInterval: 3.5)
            try expect(watch.lines.isEmpty)
            holder.send(SIGCONT)
            try expect(lines(1, watch)[0].hasPrefix("saved main@1 "))
            try expect(holder.wait().status == 0)
            try expect(watch.stop().error.isEmpty)
            try training.checkIntact()
        }
    }

    @Test("Two of them at once get along", arguments: [[], ["--move"]])
    func two(_ options: [String]) async throws {
        try await onOwnThread {
            let watches = [try training.watch(options), try training.watch(options)]
            for step in 1...3 {
                try training.write(step)
                try eventually("step \(step)", of: watches[0]) { try training.steps().contains(step) }
            }
            if !options.isEmpty {
                try eventually("the moves", of: watches[0]) { try training.names() == ["checkpoint-3"] }
            }
            for watch in watches {
                let ending = try watch.stop()
                try expect(ending.error.isEmpty)
            }
            for step in 1...3 { try training.checkHas(step, content: step) }
            try training.checkIntact()
        }
    }

    @Test("One that can't be saved is said once and keeps no other from it")
    func notSaved() async throws {
        try await onOwnThread {
            try training.write(1)
            mkfifo(training.path("checkpoint-1/pipe"), 0o600)
            try training.write(2)
            let watch = try training.watch()
            try expect(lines(1, watch)[0].hasPrefix("saved main@2 "))
            Thread.sleep(forTimeInterval: 3)
            unlink(training.path("checkpoint-1/pipe"))
            try expect(lines(2, watch)[1].hasPrefix("saved main@1 "))
            let ending = try watch.stop()
            try ending.mustSayOneSentence()
            try expect(ending.error.contains("checkpoint-1: ") && ending.error.contains("pipe"))
        }
    }

    @Test("One that stays incomplete is called so after half a minute, and saved as soon as it is complete")
    func incomplete() async throws {
        try await onOwnThread {
            guard Weather.isLong else { return }
            try training.write(1, without: "trainer_state.json")
            let begun = Date()
            let watch = try training.watch()
            let line = try lines(1, watch)[0]
            try expect(Date().timeIntervalSince(begun) > 30)
            try expect(
                line == "checkpoint-1: not saved: trainer_state.json is missing, which is written last")
            try training.write(1)
            try expect(lines(2, watch)[1].hasPrefix("saved main@1 "))
            try expect(watch.stop().error.isEmpty)
        }
    }

    @Test("A pinned one that is written over stays, until it is no longer pinned")
    func pinned() async throws {
        try await onOwnThread {
            for step in 1...2 { try training.write(step) }
            let watch = try training.watch()
            _ = try lines(2, watch)
            try training.cairn(["pin", "1", "keep"]).mustSucceed()
            try training.write(1, content: 11)
            try eventually("the refusal", of: watch) { watch.errorSoFar.contains("cairn unpin keep") }
            try training.write(3)
            try expect(lines(3, watch)[2].hasPrefix("saved main@3 "))
            try training.checkHas(1, content: 1)
            try watch.stop().mustSayOneSentence()
        }
    }

    @Test("Nobody has to read what it says")
    func unread() async throws {
        try await onOwnThread {
            let command = [Weather.program, "watch", training.out, "--store", training.store]
            // One whose reader ends after its first line, and one without any streams.
            let watch = try Child(
                ["bash", "-c", "exec > >(head -n 1 >/dev/null); exec \"$0\" \"$@\""] + command)
            for step in 1...3 {
                try training.write(step)
                try eventually("step \(step)", of: watch) { try training.steps().contains(step) }
            }
            _ = try watch.stop()
            let closed = try Child(["bash", "-c", "exec \"$0\" \"$@\" >&- 2>&-"] + command)
            try training.write(4)
            try eventually("step 4", of: closed) { try training.steps().contains(4) }
            _ = try closed.stop()
            try training.checkIntact()
        }
    }
}
