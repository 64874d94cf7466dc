import Glibc
import Platform
import Testing

@testable import ChunkStore

/// Packs that can't be written to their end: whoever goes on writing is told so, and does not wait for ever.
@Suite struct PackWriterTests {
    @Test(.timeLimit(.minutes(5)))
    func aPackThatCannotBeCompletedKeepsNobodyWaiting() async {
        await #expect(processExitsWith: .success) {
            alarm(50)
            let toy = try ToyStore()
            let session = try SaveSession(try toy.open(), dryRun: false, encoding: .raw, packLimit: 3 << 20)
            // From here on no file can be longer than 2 MiB.
            signal(SIGXFSZ, SIG_IGN)
            var limit = rlimit(rlim_cur: 2 << 20, rlim_max: 2 << 20)
            setrlimit(__rlimit_resource_t(1), &limit)
            var failures = 0
            for number in 0..<3000 as Range<UInt32> {
                let chunk = withUnsafeBytes(of: number) { [UInt8]($0) } + [UInt8](repeating: 0, count: 4092)
                do {
                    try chunk.withUnsafeBytes { try session.put([(.of(chunk), $0)], isContent: true) }
                } catch {
                    failures += 1
                }
            }
            precondition(failures >= 2)
        }
    }

    @Test func aPackIsAsLongAsItsSummarySays() throws {
        let toy = try ToyStore()
        let folder = toy.folder.appending("packs")
        let writer = try PackWriter(folder: folder, store: try toy.open().id, memory: 16 << 20)
        try Self.append(17, to: writer)
        let (summary, entries) = try writer.finish()
        let file = try File(folder.appending(summary.name.fileName), .read)
        #expect(try file.status().size == summary.fileLength)
        #expect(entries.count == 17 && summary.fileLength >> 20 == 17)
        #expect(try PackReaders(folder: folder, store: toy.open().id).table(summary) == entries)
    }

    @Test(.timeLimit(.minutes(5)))
    func aPackFitsIntoTheLongestFileThatMayBe() async {
        await #expect(processExitsWith: .success) {
            alarm(50)
            let toy = try ToyStore()
            let writer = try PackWriter(
                folder: toy.folder.appending("packs"), store: try toy.open().id, memory: 16 << 20)
            // Less than what the pack would be extended to before its fourth block is written.
            var limit = rlimit(rlim_cur: 18 << 20, rlim_max: 18 << 20)
            setrlimit(__rlimit_resource_t(1), &limit)
            try PackWriterTests.append(17, to: writer)
            _ = try writer.finish()
        }
    }

    /// Appends records of 1 MiB.
    private static func append(_ count: Int, to writer: PackWriter) throws {
        let payload = [UInt8](repeating: 7, count: 1 << 20)
        for number in 0..<count {
            let entry = PackEntry(
                id: .of([UInt8(number)]), rawLength: 1 << 20, storedLength: 1 << 20, codec: .raw)
            try payload.withUnsafeBytes { try writer.append([(entry, $0)]) }
        }
    }

    @Test(.timeLimit(.minutes(5)))
    func aBufferThatCannotBeHadKeepsNobodyWaiting() async {
        await #expect(processExitsWith: .success) {
            alarm(50)
            let toy = try ToyStore()
            let writer = try PackWriter(
                folder: toy.folder.appending("packs"), store: try toy.open().id, memory: 16 << 20)
            // What the process has is nearly all that it may have from here on.
            let pages = try File(Path("/proc/self/statm"), .read).read(16, at: 0).prefix { $0 != 32 }
            let size = (rlim_t(String(decoding: pages, as: UTF8.self)) ?? 0) * 4096
            var limit = rlimit(rlim_cur: size + (3 << 20), rlim_max: size + (3 << 20))
            setrlimit(__rlimit_resource_t(9), &limit)
            let entry = PackEntry(id: .of([1]), offset: 0, rawLength: 1, storedLength: 1, codec: .raw)
            var failures = 0
            for _ in 0..<4 {
                do { try [1 as UInt8].withUnsafeBytes { try writer.append([(entry, $0)]) } } catch {
                    failures += 1
                }
            }
            precondition(failures == 4)
        }
    }
}
