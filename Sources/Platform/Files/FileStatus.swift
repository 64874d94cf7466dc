import Glibc

/// What stat(2) tells of a file, as far as anything here cares.
public struct FileStatus: Hashable, Sendable {
    public enum Kind: Hashable, Sendable { case file, folder, link, other }

    public var kind: Kind
    /// Permission bits, at most 07777.
    public var mode: UInt16
    /// Bytes.
    public var size: UInt64
    /// Bytes that the file takes on the disk.
    public var allocated: UInt64
    public var device: UInt64
    public var inode: UInt64
    public var links: UInt64
    /// Modification time: seconds since 1970 UTC, and nanoseconds below 10^9.
    public var seconds: Int64
    public var nanoseconds: UInt32

    init(_ status: stat) {
        switch status.st_mode & S_IFMT {
        case S_IFREG: kind = .file
        case S_IFDIR: kind = .folder
        case S_IFLNK: kind = .link
        default: kind = .other
        }
        mode = UInt16(status.st_mode & 0o7777)
        size = UInt64(status.st_size)
        allocated = UInt64(status.st_blocks) * 512
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        links = UInt64(status.st_nlink)
        seconds = Int64(status.st_mtim.tv_sec)
        nanoseconds = UInt32(status.st_mtim.tv_nsec)
    }

    /// Whether a file with this status can hold other bytes than one with the other status did.
    public func differsInContent(from other: FileStatus) -> Bool {
        size != other.size || inode != other.inode || device != other.device || seconds != other.seconds
            || nanoseconds != other.nanoseconds
    }
}
