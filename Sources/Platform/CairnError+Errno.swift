import Glibc

extension CairnError {
    /// The errno value of a full device.
    public static var noSpace: Int32 { ENOSPC }

    /// The device, or the file system on it, can't give the bytes: they are lost, as far as anybody knows.
    public var isOfDevice: Bool { errno.map { [EIO, ENODATA, EBADMSG, EUCLEAN].contains($0) } ?? false }

    /// The owner or the mode of a file or folder forbids it.
    public var isDenied: Bool { errno == EACCES || errno == EPERM }

    /// A system call's failure as a sentence: `cannot DOING PATH: why; what to do`.
    public static func system(_ code: Int32, _ doing: String, _ path: Path) -> CairnError {
        let (kind, reason) = explanation(code)
        return CairnError(kind, "cannot \(doing) \(path): \(reason)", path: path.text, errno: code)
    }

    private static func explanation(_ code: Int32) -> (Code, String) {
        switch code {
        case ENOSPC: (.system, "no space left on the device; free some space and try again")
        case EDQUOT: (.system, "the disk quota is used up; free some space and try again")
        case EIO: (.system, "the device reports an input/output error; check the disk")
        case EACCES, EPERM:
            (.system, "permission denied; check the owner and mode of the file and its folders")
        case EROFS: (.system, "the file system is mounted read-only")
        case ENOENT: (.notFound, "no such file or folder")
        case ENOTDIR: (.notFound, "a part of the path is not a folder")
        case EISDIR: (.system, "it is a folder")
        case EEXIST, ENOTEMPTY: (.exists, "it exists already")
        case ENAMETOOLONG: (.usage, "the name is too long for the file system")
        case ELOOP: (.system, "it is a symbolic link, or there are too many of them")
        case EMFILE, ENFILE: (.system, "too many open files; raise the limit (ulimit -n)")
        case ENOMEM: (.system, "not enough memory or address space; raise the limit (ulimit -v)")
        case EFBIG: (.system, "the file would be larger than the file system or a limit allows")
        case ETXTBSY, EBUSY: (.busy, "it is in use")
        default: (.system, String(cString: strerror(code)))
        }
    }
}
