internal import CLinux
import Glibc

extension File {
    public enum LockKind: Int32, Sendable { case shared = 1, exclusive = 2 }

    /// Locks the byte at `offset` for this open file, without waiting. Returns false where someone else holds it.
    public func tryLock(_ kind: LockKind, at offset: UInt64) throws(CairnError) -> Bool {
        let code = cl_ofdLock(descriptor, Int64(offset), kind.rawValue, 0)
        if code == EAGAIN || code == EACCES { return false }
        guard code == 0 else { throw .system(code, "lock", path) }
        return true
    }

    /// How often others may take a new file for a dead process's before this one gives up.
    private static let attempts = 100

    /// Makes a file and locks its first byte, by which others tell it from what a dead process left.
    /// - Parameter place: where to make it. Called again where another process was at it before it was locked, and removes it, or
    ///   all of the folder that it is in.
    public static func makeLocked(at place: () throws(CairnError) -> Path) throws(CairnError) -> File {
        var attempt = 1
        while true {
            let path = try place()
            do throws(CairnError) {
                let file = try File(path, .create, mode: 0o600)
                if try file.tryLock(.exclusive, at: 0), try FileSystem.status(path) != nil { return file }
                guard attempt < attempts else {
                    throw CairnError(.busy, "another process removes \(path); try again", path: path.text)
                }
            } catch {
                _ = try? FileSystem.removeFile(path)
                guard error.code == .notFound, attempt < attempts else { throw error }
            }
            attempt += 1
        }
    }

    /// Locks the byte at `offset`, waiting as long as it takes.
    public func lock(_ kind: LockKind, at offset: UInt64) throws(CairnError) {
        var code: Int32
        repeat { code = cl_ofdLock(descriptor, Int64(offset), kind.rawValue, 1) } while code == EINTR
        guard code == 0 else { throw .system(code, "lock", path) }
    }

    public func unlock(at offset: UInt64) {
        // Unlocking fails only for a descriptor that is no file: our own bug.
        precondition(cl_ofdLock(descriptor, Int64(offset), 0, 0) == 0)
    }
}
