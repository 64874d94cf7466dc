internal import Platform

/// The locks of a store: open-file-description locks, which the kernel drops with their holder, in any namespace.
///
/// `locks/commit`: readers hold its body byte, shared, for a transaction of milliseconds; the committer holds it alone. Both pass
/// the gate byte first, so that a stream of readers can't keep a committer waiting. `locks/readers`: the byte at an
/// iteration's number, shared by whoever reads that iteration. `locks/collect`: one collection at a time. `locks/resume`, made when it is
/// first needed: the byte at a number that stands for an output folder, held by whoever brings something back to there, and at
/// its beginning the word of the last one of them that read all (`ResumeLock`).
final class StoreLocks: Sendable {
    private static let gate: UInt64 = 0
    private static let body: UInt64 = 1
    private static let holder: UInt64 = 16
    /// Seconds after which a waiter says for whom it waits.
    private static let patience = 10.0

    private let folder: Path
    private let commitFile: File
    private let access: File.Access
    /// The commit file opened once more for each thread that reads beside others, as a lock belongs to the open file. Those that
    /// nobody uses just now.
    private let readerFiles = Monitor<[File]>([])
    /// Told, once, in a sentence, when a lock takes long.
    private let onWait: @Sendable (String) -> Void

    init(_ folder: Path, readOnly: Bool, onWait: @escaping @Sendable (String) -> Void) throws {
        self.folder = folder
        self.onWait = onWait
        access = readOnly ? .read : .write
        commitFile = try File(folder.appending("commit"), access, closesInChild: true)
    }

    static func create(_ folder: Path) throws {
        try FileSystem.makeFolder(folder)
        for name in ["commit", "readers", "collect"] { _ = try File(folder.appending(name), .create) }
    }

    /// Called by one thread at a time, as the lock belongs to the open file.
    func reading<R>(_ body: () throws -> R) throws -> R { try reading(commitFile, body) }

    /// Called by any number of threads. `body` must not wait for a thread that commits.
    func readingBesideOthers<R>(_ body: () throws -> R) throws -> R {
        let free = readerFiles.change { $0.popLast() }
        let file = try free ?? File(folder.appending("commit"), access, closesInChild: true)
        defer { readerFiles.change { $0.append(file) } }
        return try reading(file, body)
    }

    private func reading<R>(_ file: File, _ body: () throws -> R) throws -> R {
        try acquire(.shared, Self.gate, file)
        do {
            try acquire(.shared, Self.body, file)
        } catch {
            file.unlock(at: Self.gate)
            throw error
        }
        file.unlock(at: Self.gate)
        defer { file.unlock(at: Self.body) }
        return try body()
    }

    /// Called by one thread at a time.
    func committing<R>(_ body: () throws -> R) throws -> R {
        try acquire(.exclusive, Self.gate, commitFile)
        defer { commitFile.unlock(at: Self.gate) }
        try acquire(.exclusive, Self.body, commitFile)
        defer { commitFile.unlock(at: Self.body) }
        // Only a waiter's sentence needs it, so a full disk does not matter here.
        let name = "\(Process.identifier)"
        _ = try? commitFile.write(
            [UInt8](name.utf8) + [UInt8](repeating: 0, count: 16 - name.utf8.count), at: Self.holder)
        return try body()
    }

    private func acquire(_ kind: File.LockKind, _ byte: UInt64, _ file: File) throws {
        let start = Clock.monotonic
        var pause = 0.000_05
        var hasSpoken = false
        while try !file.tryLock(kind, at: byte) {
            if !hasSpoken, Clock.monotonic - start > Self.patience {
                hasSpoken = true
                onWait("waiting for \(holderText) to finish with the store \(folder.parent)")
            }
            Clock.sleep(seconds: pause)
            pause = min(pause * 1.5, 0.005)
        }
    }

    private var holderText: String {
        let bytes = (try? commitFile.read(16, at: Self.holder)) ?? []
        let text = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        return text.isEmpty ? "another process" : "process \(text)"
    }

    /// Protects an iteration from removal until the lock is gone. nil where the store can't be written by anyone.
    func readerLock(_ iteration: UInt64) throws -> ReaderLock {
        let file = try File(folder.appending("readers"), .read, closesInChild: true)
        try file.lock(.shared, at: iteration)
        return ReaderLock(file: file)
    }

    /// The right to remove those iterations for which `tryRemoving` says so: one descriptor for all of them.
    func removalLock() throws -> ReaderLock {
        ReaderLock(file: try File(folder.appending("readers"), .write, closesInChild: true))
    }

    /// The right to change what a training goes on from in a folder, waiting as long as it takes.
    /// - Parameters:
    ///   - folder: a number that stands for it, below 2^62.
    ///   - check: called again and again meanwhile; what it throws ends the waiting.
    func resumeLock(
        _ folder: UInt64, check: () throws -> Void
    ) throws -> ResumeLock {
        let file = try File(self.folder.appending("resume"), .openOrCreate, closesInChild: true)
        let start = Clock.monotonic
        var before: [UInt8]?
        var hasSpoken = false
        while try !file.tryLock(.exclusive, at: folder) {
            if before == nil { before = try ResumeLock.word(in: file) }
            try check()
            if !hasSpoken, Clock.monotonic - start > Self.patience {
                hasSpoken = true
                onWait("waiting for another process that brings an iteration back to the same folder")
            }
            Clock.sleep(seconds: 0.02)
        }
        return try ResumeLock(file, folder, before: before)
    }

    /// The right to collect, or nil where someone else does.
    func collectionLock() throws -> ReaderLock? {
        let file = try File(folder.appending("collect"), .write, closesInChild: true)
        return try file.tryLock(.exclusive, at: 0) ? ReaderLock(file: file) : nil
    }
}

/// A lock that is held as long as this exists.
public final class ReaderLock: Sendable {
    private let file: File
    init(file: File) { self.file = file }

    /// Takes the right to remove an iteration; false where someone reads it.
    func tryRemoving(_ iteration: UInt64) throws(CairnError) -> Bool {
        try file.tryLock(.exclusive, at: iteration)
    }
}
