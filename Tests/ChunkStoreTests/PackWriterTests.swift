import Glibc
import Platform
import Testing

@testable import ChunkStore

/// Packs that can't be written to their end: whoever goes on writing is told so, and does not wait for ever.
@Suite struct PackWriterTests {
    @Test(.timeLimit(.minutes(1)))
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

    @Test(.timeLimit(.minutes(1)))
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
