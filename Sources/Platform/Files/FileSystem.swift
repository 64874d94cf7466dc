internal import CLinux
import Glibc

/// What is done to names rather than to open files.
public enum FileSystem {
    /// The status of `path` itself (`followLinks` false) or of what it links to; nil where there is nothing.
    public static func status(_ path: Path, followLinks: Bool = false) throws(CairnError) -> FileStatus? {
        var status = stat()
        let result = path.withCString { followLinks ? stat($0, &status) : lstat($0, &status) }
        if result == 0 { return FileStatus(status) }
        if errno == ENOENT { return nil }
        throw .system(errno, "look at", path)
    }

    /// Whether a process on this machine has a file open for writing, or mapped so.
    ///
    /// False also where that can't be told: the file is another user's, or lies on a file system of a network.
    public static func isOpenForWriting(_ path: Path) -> Bool {
        path.withCString { cl_isOpenForWriting($0) } != 0
    }

    /// The names in a folder, sorted by their bytes, without `.` and `..`.
    public static func names(in folder: Path) throws(CairnError) -> [[UInt8]] {
        var names: [[UInt8]] = []
        try visit(folder) { names.append([UInt8]($0)) }
        return names.sorted { $0.lexicographicallyPrecedes($1) }
    }

    /// How many entries a folder has, which costs less than their names.
    public static func count(in folder: Path) throws(CairnError) -> Int {
        var count = 0
        try visit(folder) { _ in count += 1 }
        return count
    }

    private static func visit(_ folder: Path, _ body: (Slice<UnsafeRawBufferPointer>) -> Void)
        throws(CairnError)
    {
        guard let stream = folder.withCString({ opendir($0) }) else { throw .system(errno, "open", folder) }
        defer { closedir(stream) }
        while true {
            errno = 0
            guard let entry = readdir(stream) else { break }
            withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                let name = bytes.prefix { $0 != 0 }
                // The folder itself, and the one above it.
                let isDots = name.count <= 2 && name.allSatisfy { $0 == UInt8(ascii: ".") }
                if !isDots { body(name) }
            }
        }
        guard errno == 0 else { throw .system(errno, "list", folder) }
    }

    /// Makes a folder. - Throws: `.exists` where something has that name.
    public static func makeFolder(_ path: Path, mode: UInt16 = 0o777) throws(CairnError) {
        guard path.withCString({ mkdir($0, mode_t(mode)) }) == 0 else { throw .system(errno, "make", path) }
    }

    /// Makes a folder and what is missing above it.
    public static func makeFolders(_ path: Path) throws(CairnError) {
        if let status = try status(path, followLinks: true), status.kind == .folder { return }
        if path.parent != path { try makeFolders(path.parent) }
        do {
            try makeFolder(path)
        } catch  where error.code == .exists {
            // Another process made it in between, or a file has the name: the next step tells.
        }
    }

    /// - Parameter exclusive: fails with `.exists` where `to` exists; without it, `to` is replaced.
    public static func rename(_ from: Path, to: Path, exclusive: Bool = false) throws(CairnError) {
        var code = from.withCString { old in to.withCString { cl_rename(old, $0, exclusive ? 1 : 0) } }
        if code == EINVAL, exclusive {
            // The file system has no RENAME_NOREPLACE: look first.
            guard try status(to) == nil else { throw .system(EEXIST, "make", to) }
            code = from.withCString { old in to.withCString { cl_rename(old, $0, 0) } }
        }
        guard code == 0 else { throw .system(code, "make", to) }
    }

    /// Gives each of two names what the other one had, at once. Returns false where the file system can't.
    public static func exchange(_ one: Path, _ other: Path) throws(CairnError) -> Bool {
        let code = one.withCString { first in other.withCString { cl_exchange(first, $0) } }
        if code == EINVAL || code == ENOSYS || code == EOPNOTSUPP { return false }
        guard code == 0 else { throw .system(code, "replace", other) }
        return true
    }

    /// Removes a file or link. Returns false where there was none.
    @discardableResult
    public static func removeFile(_ path: Path) throws(CairnError) -> Bool {
        if path.withCString({ unlink($0) }) == 0 { return true }
        if errno == ENOENT { return false }
        throw .system(errno, "remove", path)
    }

    /// Removes an empty folder. - Throws: `.exists` where something is in it.
    public static func removeFolder(_ path: Path) throws(CairnError) {
        guard path.withCString({ rmdir($0) }) == 0 || errno == ENOENT else {
            throw .system(errno, "remove", path)
        }
    }

    /// Removes a file, a link, or a folder with all that is in it; makes folders writable that are not.
    public static func removeTree(_ path: Path) throws(CairnError) {
        guard let status = try status(path) else { return }
        guard status.kind == .folder else {
            try removeFile(path)
            return
        }
        if status.mode & 0o700 != 0o700 { try setMode(path, 0o700) }
        for name in try names(in: path) { try removeTree(path.appending(name)) }
        try removeFolder(path)
    }

    public static func target(ofLink path: Path) throws(CairnError) -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 4097)
        let count = path.withCString { name in
            buffer.withUnsafeMutableBytes {
                readlink(name, $0.bindMemory(to: CChar.self).baseAddress!, $0.count)
            }
        }
        guard count >= 0 else { throw .system(errno, "read the link", path) }
        return [UInt8](buffer.prefix(count))
    }

    public static func makeLink(_ path: Path, target: [UInt8]) throws(CairnError) {
        let result = Path(target).withCString { text in path.withCString { symlink(text, $0) } }
        guard result == 0 else { throw .system(errno, "make the link", path) }
    }

    public static func setMode(_ path: Path, _ mode: UInt16) throws(CairnError) {
        guard path.withCString({ chmod($0, mode_t(mode)) }) == 0 else {
            throw .system(errno, "set the mode of", path)
        }
    }

    /// Sets the modification time of `path` itself, not of what it links to.
    public static func setTime(_ path: Path, seconds: Int64, nanoseconds: UInt32) throws(CairnError) {
        let code = path.withCString { cl_setTimes($0, seconds, Int64(nanoseconds)) }
        guard code == 0 else { throw .system(code, "set the time of", path) }
    }

    /// Makes the names in a folder durable.
    public static func syncFolder(_ path: Path) throws(CairnError) {
        try File(path, .read).sync()
    }

    /// The absolute path with no links in it. - Throws: `.notFound` where there is nothing.
    public static func resolved(_ path: Path) throws(CairnError) -> Path {
        guard let text = path.withCString({ realpath($0, nil) }) else { throw .system(errno, "find", path) }
        defer { free(text) }
        return Path([UInt8](UnsafeRawBufferPointer(start: text, count: strlen(text))))
    }

    /// Whether this process may write in a folder (access(2)).
    public static func isWritable(_ path: Path) -> Bool {
        path.withCString { access($0, W_OK) } == 0
    }
}
