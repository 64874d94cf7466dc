internal import CLinux
import Glibc

/// Tells when something changes in folders on this machine's own file systems. (inotify(7))
///
/// What other machines write into a shared file system shows in no event: `works(on:)` says where.
public final class FolderEvents {
    private let descriptor: Int32
    private var folders: [Int32: Path] = [:]
    private var known: Set<Path> = []

    /// - Throws: `.system` where the kernel gives no more of them (fs.inotify.max_user_instances).
    public init() throws(CairnError) {
        descriptor = cl_watchFolders()
        guard descriptor >= 0 else {
            throw CairnError(.system, "can't watch folders: \(String(cString: strerror(errno)))")
        }
    }

    deinit { close(descriptor) }

    /// Whether every change below this folder is made through this machine's kernel.
    public static func works(on folder: Path) -> Bool {
        guard let file = try? File(folder, .read), let magic = try? file.fileSystem() else { return false }
        return [0xEF53, 0x5846_5342, 0x9123_683E, 0x2FC1_2FC1, 0x0102_1994, 0x794C_7630, 0xF2F5_2010]
            .contains(magic)
    }

    /// Watches a folder, not those in it. Again is harmless; a folder that has vanished is, too.
    /// - Returns: false where the kernel takes no more (fs.inotify.max_user_watches).
    public func watch(_ folder: Path) -> Bool {
        guard !known.contains(folder) else { return true }
        let number = folder.withCString { cl_watchFolder(descriptor, $0) }
        guard number >= 0 else { return errno == ENOENT || errno == ENOTDIR }
        folders[number] = folder
        known.insert(folder)
        return true
    }

    /// Waits until something changes, or the time is over.
    /// - Returns: the folders in which something changed; nil where events were lost, so that it may be any.
    public func wait(seconds: Double) -> Set<Path>? {
        var numbers = [Int32](repeating: 0, count: 512)
        var changed: Set<Path> = []
        var milliseconds = Int32(max(0, min(seconds, 3600) * 1000).rounded(.up))
        // A writer that never rests must not keep what it writes from being looked at.
        for _ in 0..<64 {
            let count = cl_changedFolders(descriptor, milliseconds, &numbers, Int32(numbers.count))
            guard count > 0 else { return changed }
            for number in numbers.prefix(Int(count)) {
                if number < 0 { return nil }
                guard let folder = folders[number] else { continue }
                changed.insert(folder)
            }
            // What else is there is taken at once.
            milliseconds = 0
        }
        return changed
    }

    /// Forgets folders that have vanished, so that one of the same name is watched anew.
    public func forget(_ folder: Path) {
        guard known.remove(folder) != nil else { return }
        folders = folders.filter { $0.value != folder }
    }
}
