internal import Platform

/// The right to change what a training goes on from in a folder, held as long as this exists.
///
/// Whoever has read all of an iteration there leaves its word before it lets go, so that those who waited for it need not read all of
/// it as well. The word is 16 random bytes, and the hash of them, the folder's number and the iteration's id. It counts for whom it was
/// left while waiting: it says nothing of what happened since to anybody else. There is one in a store: where another folder's takes its
/// place, somebody reads once more.
public struct ResumeLock: Sendable {
    private let file: File
    private let folder: UInt64
    /// Left while this waited.
    private let word: [UInt8]?

    private static let saltSize = 16
    private static let size = saltSize + 32

    /// - Parameter before: the word when the waiting began; nil where nobody had to wait.
    init(_ file: File, _ folder: UInt64, before: [UInt8]?) throws {
        (self.file, self.folder) = (file, folder)
        let now = before == nil ? nil : try Self.word(in: file)
        word = now == before ? nil : now
    }

    static func word(in file: File) throws -> [UInt8] { try file.readToEnd() }

    /// Whether somebody for whom this waited has read all of an iteration, and left it as it was saved.
    public func isVouchedFor(_ iteration: ChunkID) -> Bool {
        guard let word, word.count == Self.size else { return false }
        return word == vouch(for: iteration, salt: [UInt8](word.prefix(Self.saltSize)))
    }

    /// Tells those who wait for this that all of an iteration was read, and is as it was saved.
    public func vouch(for iteration: ChunkID) {
        // Where it can't be written, they read.
        _ = try? file.write(vouch(for: iteration, salt: Random.bytes(Self.saltSize)), at: 0)
    }

    private func vouch(for iteration: ChunkID, salt: [UInt8]) -> [UInt8] {
        salt + ChunkID.of(salt + [UInt8]("\(folder) \(iteration.hex)".utf8)).bytes
    }
}
