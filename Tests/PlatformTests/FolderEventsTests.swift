import Foundation
import Platform
import Testing

/// What the kernel tells of folders.
@Suite struct FolderEventsTests {
    let folder: Platform.Path
    let events: FolderEvents

    init() throws {
        folder = Platform.Path(NSTemporaryDirectory() + "cairn-events-" + UUID().uuidString)
        try FileSystem.makeFolder(folder)
        events = try FolderEvents()
    }

    private func remove() { _ = try? FileSystem.removeTree(folder) }

    private func write(_ name: String, _ bytes: [UInt8] = [1]) throws {
        try File(folder.appending(name), .openOrCreate).write(bytes, at: 0)
    }

    /// What happened so far, all of it.
    private func changes() throws -> FolderEvents.Changes {
        try #require(events.wait(seconds: 0))
    }

    @Test func nothingHappensInTimeOrAtOnce() throws {
        defer { remove() }
        #expect(events.watch(folder))
        let start = Clock.monotonic
        #expect(events.wait(seconds: 0.1) == FolderEvents.Changes())
        // Other tests may keep this one from running for seconds.
        #expect(0.1..<10 ~= Clock.monotonic - start)
        let written = Clock.monotonic
        try write("a")
        #expect(events.wait(seconds: 100)?.folders == [folder])
        #expect(Clock.monotonic - written < 50)
    }

    @Test func namesAreToldFromContents() throws {
        defer { remove() }
        try write("a")
        #expect(events.watch(folder) && events.watch(folder) && events.count == 1)
        try write("a", [2])
        let written = try changes()
        #expect(written.folders == [folder] && written.listings.isEmpty)
        #expect(written.files == [folder.appending("a")])
        try FileSystem.setTime(folder.appending("a"), seconds: 1, nanoseconds: 0)
        try #expect(changes().folders == [folder])
        for change in [
            { try write("b") }, { try FileSystem.rename(folder.appending("b"), to: folder.appending("c")) },
            { _ = try FileSystem.removeFile(folder.appending("c")) },
            { try FileSystem.makeFolder(folder.appending("d")) },
        ] {
            try change()
            let told = try changes()
            #expect(told.folders == [folder] && told.listings == [folder] && !told.files.isEmpty)
        }
        _ = try File(folder.appending("a"), .read).readToEnd()
        _ = try FileSystem.names(in: folder)
        try #expect(changes().folders.isEmpty, "reading is no change")
    }

    @Test func whatIsBelowHasToBeWatchedItself() throws {
        defer { remove() }
        let inner = folder.appending("inner")
        try FileSystem.makeFolder(inner)
        #expect(events.watch(folder))
        try write("inner/a")
        try #expect(changes().folders.isEmpty)
        #expect(events.watch(inner))
        try write("inner/b")
        try #expect(changes().folders == [inner])
    }

    @Test(arguments: [false, true])
    func aFolderThatIsGoneIsWatchedAnewUnderItsName(isRenamed: Bool) throws {
        defer { remove() }
        let inner = folder.appending("inner")
        for _ in 0..<3 {
            try FileSystem.makeFolder(inner)
            #expect(events.watch(inner) && events.count == 1)
            try write("inner/a")
            try #expect(changes().listings == [inner])
            if isRenamed {
                try FileSystem.rename(inner, to: folder.appending("other-" + UUID().uuidString))
            } else {
                try FileSystem.removeTree(inner)
            }
            try #expect(changes().listings == [inner])
            #expect(events.count == 0)
        }
        for name in try FileSystem.names(in: folder) {
            try File(folder.appending(name).appending("b"), .create).write([1], at: 0)
        }
        try #expect(changes().folders.isEmpty, "it is not watched on under its old name")
    }

    @Test func aFolderWithTwoNamesIsToldByBoth() throws {
        defer { remove() }
        let (inner, link) = (folder.appending("inner"), folder.appending("link"))
        try FileSystem.makeFolder(inner)
        try FileSystem.makeLink(link, target: Array("inner".utf8))
        #expect(events.watch(inner) && events.watch(link))
        try write("inner/a")
        try #expect(changes().folders == [inner, link])
    }

    @Test func whatIsNotThereIsNoError() throws {
        defer { remove() }
        #expect(events.watch(folder.appending("nowhere")) && events.count == 0)
        try write("a")
        #expect(events.watch(folder.appending("a")) && events.count == 0, "a file")
    }

    @Test func lostEventsAreToldAsSuch() throws {
        defer { remove() }
        let text = try String(contentsOfFile: "/proc/sys/fs/inotify/max_queued_events", encoding: .utf8)
        let limit = try #require(Int(text.trimmingCharacters(in: .whitespacesAndNewlines)))
        guard limit <= 100_000 else { return }
        #expect(events.watch(folder))
        let (a, b) = (folder.appending("a"), folder.appending("b"))
        try write("a")
        // Two events each, and neighbours that are the same count once.
        for number in 0...limit / 2 {
            try FileSystem.rename(number.isMultiple(of: 2) ? a : b, to: number.isMultiple(of: 2) ? b : a)
        }
        #expect(events.wait(seconds: 0) == nil)
        try write("c")
        try #expect(changes().folders == [folder])
    }

    @Test func itWorksHereAndNotWhereOthersWrite() throws {
        defer { remove() }
        #expect(FolderEvents.works(on: folder))
        #expect(!FolderEvents.works(on: Platform.Path("/proc")))
        #expect(!FolderEvents.works(on: folder.appending("nowhere")))
    }
}
