import Foundation
import Platform
import Synchronization
import Testing

@Suite struct PlatformTests {
    let folder: Platform.Path

    init() throws {
        folder = Platform.Path(NSTemporaryDirectory() + "cairn-platform-" + UUID().uuidString)
        try FileSystem.makeFolder(folder)
    }

    private func remove() { _ = try? FileSystem.removeTree(folder) }

    @Test(arguments: [
        ("a/b", "b", "a"), ("a", "a", "."), ("/a", "a", "/"), ("a/b//", "b", "a"), ("/", "", "/"),
    ])
    func aPathHasANameAndAParent(text: String, name: String, parent: String) {
        let path = Platform.Path(text)
        #expect(String(decoding: path.name, as: UTF8.self) == name)
        #expect(path.parent.text == parent)
    }

    @Test func whatIsNoTextIsShownEscaped() {
        #expect(Platform.Path([0x61, 0xFF, 0x0A]).text == "a\\xff\\n")
        #expect(Platform.Path("ü").text == "ü")
    }

    /// Older kernels than 6.5 don't say what the page cache has.
    private static let kernelTellsCached = {
        let version = ProcessInfo.processInfo.operatingSystemVersion
        return (version.majorVersion, version.minorVersion) >= (6, 5)
    }()

    @Test(.enabled(if: kernelTellsCached))
    func `what was just read lies in the page cache, what is beyond the end does not`() throws {
        defer { remove() }
        let file = try File(folder.appending("x"), .create)
        try file.write([UInt8](repeating: 1, count: 20_000), at: 0)
        #expect(file.isCached(0..<20_000) && file.isCached(4096..<8192))
        #expect(!file.isCached(16_384..<40_960) && !file.isCached(40_960..<49_152))
    }

    @Test(arguments: [false, true])
    func aFileGivesBackWhatWasWritten(direct: Bool) throws {
        defer { remove() }
        let file = try File(folder.appending("x"), .create, direct: direct)
        let buffer = try Buffer(size: 8192)
        for index in 0..<8192 { buffer.bytes[index] = UInt8(truncatingIfNeeded: index &* 7) }
        try file.write(UnsafeRawBufferPointer(buffer.bytes), at: 4096)
        try file.sync()
        let read = try Buffer(size: 16384)
        #expect(try file.read(into: read.bytes, at: 0) == 12288)
        #expect(read.bytes[..<4096].allSatisfy { $0 == 0 })
        #expect(read.bytes[4096..<12288].elementsEqual(buffer.bytes))
    }

    @Test func aBufferIsAlignedForDirectTransfersAndHugePages() throws {
        for size in [4096, 4 << 20, 5 << 20] {
            let buffer = try Buffer(size: size)
            #expect(
                buffer.bytes.count == size && UInt(bitPattern: buffer.bytes.baseAddress!) % (2 << 20) == 0)
        }
    }

    @Test func publishingReplacesAllOrNothing() throws {
        defer { remove() }
        let path = folder.appending("x")
        try FileSystem.publish([1, 2, 3], at: path)
        try FileSystem.publish([4], at: path)
        #expect(try File(path, .read).readToEnd() == [4])
        #expect(throws: CairnError.self) { try FileSystem.publish([5], at: path, exclusive: true) }
        #expect(try FileSystem.names(in: folder).count == 1)
    }

    @Test func aLockIsHeldByTheOpenFile() throws {
        defer { remove() }
        let path = folder.appending("lock")
        var first: File? = try File(path, .create)
        let second = try File(path, .write)
        #expect(try first!.tryLock(.exclusive, at: 5))
        #expect(try !second.tryLock(.shared, at: 5))
        #expect(try second.tryLock(.exclusive, at: 6))
        first = nil
        #expect(try second.tryLock(.shared, at: 5))
    }

    @Test func aFileIsOpenForWritingUntilItsWriterClosesIt() throws {
        defer { remove() }
        let path = folder.appending("written")
        var writer: File? = try File(path, .create)
        let reader = try File(path, .read)
        #expect(FileSystem.isOpenForWriting(path))
        withExtendedLifetime(writer) {}
        writer = nil
        // A child that another test starts just now has it open until it runs its program.
        let isClosed = (0..<40).contains { _ in
            guard FileSystem.isOpenForWriting(path) else { return true }
            Clock.sleep(seconds: 0.05)
            return false
        }
        #expect(isClosed)
        withExtendedLifetime(reader) {}
        #expect(!FileSystem.isOpenForWriting(folder.appending("nothing")))
    }

    @Test func aPunchedRangeReadsAsZeroAndGivesItsBlocksBack() throws {
        defer { remove() }
        let file = try File(folder.appending("x"), .create)
        try file.write([UInt8](repeating: 9, count: 65536), at: 0)
        try file.sync()
        let before = try file.status().allocated
        guard try file.punch(4096..<61440) else { return }
        #expect(try before - file.status().allocated == 57344)
        #expect(try file.read(3, at: 4095) == [9, 0, 0])
        #expect(file.dataRanges(in: 0..<65536) == [0..<4096, 61440..<65536])
    }

    @Test func jobsOfAPoolRunBesideEachOther() throws {
        // Each waits for all others: with fewer threads than jobs this would never end.
        let arrived = Monitor(0)
        for _ in 0..<3 {
            arrived.change { $0 = 0 }
            try WorkerPool.shared.run(12) { _ in
                arrived.change { $0 += 1 }
                let _: Void = arrived.wait { $0 == 12 ? () : nil }
            }
        }
    }

    @Test func theFirstErrorOfAJobIsThrown() {
        #expect(throws: CairnError.self) {
            try WorkerPool.shared.run(4) { index in if index == 2 { throw CairnError(.usage, "two") } }
        }
    }

    @Test func theHashIsSHA256() {
        let digest = Array("abc".utf8).withUnsafeBytes { SHA256Hasher().digest($0) }
        #expect(
            digest.withUnsafeBytes { [UInt8]($0).hex }
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    }
}
