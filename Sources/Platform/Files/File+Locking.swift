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
