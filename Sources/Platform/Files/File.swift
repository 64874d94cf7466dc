internal import CLinux
import Glibc

/// An open file. Retries what signals interrupt and what falls short; throws what the weather brings.
public final class File: Sendable {
    public enum Access: Sendable {
        case read
        /// Reading and writing what exists.
        case write
        /// Makes the file, which must not exist, for reading and writing.
        case create
        /// Reading and writing; makes the file where it is missing.
        case openOrCreate
    }

    public let path: Path
    /// Whether reads and writes bypass the page cache: offsets, lengths and addresses are multiples of 4,096 then.
    public let isDirect: Bool
    let descriptor: Int32
    private let generation = cl_forkGeneration()
    private let closesInChild: Bool

    /// - Parameters:
    ///   - direct: asks for direct I/O; falls back to buffered where the file system refuses it.
    ///   - mode: permission bits of a file that is made, less the process's mask.
    ///   - closesInChild: the child of a fork closes it at once, so as not to keep its locks.
    public init(
        _ path: Path, _ access: Access, direct: Bool = false, followLinks: Bool = true, mode: UInt16 = 0o666,
        closesInChild: Bool = false
    ) throws(CairnError) {
        var flags =
            switch access {
            case .read: O_RDONLY
            case .write: O_RDWR
            case .create: O_RDWR | O_CREAT | O_EXCL
            case .openOrCreate: O_RDWR | O_CREAT
            }
        flags |= cl_o_closeOnExec
        if !followLinks { flags |= cl_o_noFollow }
        var isDirect = direct
        var descriptor = Self.open(path, flags | (direct ? cl_o_direct : 0), mode)
        if descriptor < 0, direct, errno == EINVAL {
            isDirect = false
            // O_CREAT may have made the file before the flag was refused.
            descriptor = Self.open(path, flags & ~O_EXCL, mode)
        }
        guard descriptor >= 0 else {
            throw .system(errno, access == .create ? "make" : "open", path)
        }
        if closesInChild {
            let code = cl_closeInChild(descriptor)
            if code != 0 {
                Glibc.close(descriptor)
                throw .system(code, "open", path)
            }
        }
        self.path = path
        self.isDirect = isDirect
        self.descriptor = descriptor
        self.closesInChild = closesInChild
    }

    deinit {
        if closesInChild {
            // In a child the number may be another file's by now.
            guard generation == cl_forkGeneration() else { return }
            // A child that is not as far yet as to close it, or to run another program, would keep the locks.
            _ = cl_ofdUnlockAll(descriptor)
            cl_keepInChild(descriptor)
        }
        close(descriptor)
    }

    private static func open(_ path: Path, _ flags: Int32, _ mode: UInt16) -> Int32 {
        path.withCString { text in
            var descriptor: Int32
            repeat {
                descriptor = Glibc.open(text, flags, mode_t(mode))
            } while descriptor < 0 && errno == EINTR
            return descriptor
        }
    }

    public func status() throws(CairnError) -> FileStatus {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .system(errno, "look at", path) }
        return FileStatus(status)
    }

    /// Whether it lives in memory: on a tmpfs.
    public var isInMemory: Bool { cl_fileSystem(descriptor) == 0x0102_1994 }

    /// The magic number of its file system, as statfs(2) lists them.
    public func fileSystem() throws(CairnError) -> UInt64 {
        let magic = cl_fileSystem(descriptor)
        guard magic != 0 else { throw .system(errno, "look at the file system of", path) }
        return magic
    }
}
