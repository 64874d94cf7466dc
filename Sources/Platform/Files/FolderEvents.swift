internal import CLinux
import Glibc

/// Tells when something changes in folders on this machine's own file systems. (inotify(7))
///
/// What other machines write into a shared file system shows in no event: `works(on:)` says where.
public final class FolderEvents {
    /// What happened since the last look.
    public struct Changes: Sendable, Hashable {
        /// Folders in which something changed, and those that are gone.
        public var folders: Set<Path> = []
        /// Those of them in which names came or went.
        public var listings: Set<Path> = []
        /// What it is in them that changed, came or went.
        public var files: Set<Path> = []

        public init() {}

        public mutating func formUnion(_ other: Changes) {
            folders.formUnion(other.folders)
            listings.formUnion(other.listings)
            files.formUnion(other.files)
        }
    }

    private let descriptor: Int32
    private var folders: [Int32: Set<Path>] = [:]
    private var numbers: [Path: Int32] = [:]

    /// - Throws: `.system` where the kernel gives no more of them (fs.inotify.max_user_instances).
    public init() throws(CairnError) {
        descriptor = cl_watchFolders()
        guard descriptor >= 0 else {
            throw CairnError(.system, "can't watch folders: \(String(cString: strerror(errno)))")
        }
    }

    deinit { close(descriptor) }

    /// Whether every change below this folder is made through this machine's kernel: on ext4, xfs, btrfs, zfs, tmpfs, overlay, f2fs.
    public static func works(on folder: Path) -> Bool {
        guard let file = try? File(folder, .read), let magic = try? file.fileSystem() else { return false }
        return [0xEF53, 0x5846_5342, 0x9123_683E, 0x2FC1_2FC1, 0x0102_1994, 0x794C_7630, 0xF2F5_2010]
            .contains(magic)
    }

    /// Watches a folder, not those in it. Again is harmless; so is a folder that has vanished.
    /// - Returns: false where the kernel takes no more (fs.inotify.max_user_watches).
    public func watch(_ folder: Path) -> Bool {
        guard numbers[folder] == nil else { return true }
        let number = folder.withCString { cl_watchFolder(descriptor, $0) }
        guard number >= 0 else { return errno != ENOSPC && errno != ENOMEM }
        // Of a folder under several names, such as a link's, there is one number.
        folders[number, default: []].insert(folder)
        numbers[folder] = number
        return true
    }

    /// How many folders are watched.
    public var count: Int { folders.count }

    /// Waits until something changes, or the time is over, or a signal comes.
    ///
    /// A folder that is gone is no longer watched: another one that gets its name has to be, anew.
    /// - Returns: nil where events were lost, so that anything may have changed.
    public func wait(seconds: Double) -> Changes? {
        var events = [cl_folderChange](repeating: cl_folderChange(), count: 1024)
        var changes = Changes()
        var isComplete = true
        var milliseconds = Int32(max(0, min(seconds, 3600) * 1000).rounded(.up))
        // A writer that never rests must not keep what it writes from being looked at.
        for _ in 0..<64 {
            let count = cl_changedFolders(descriptor, milliseconds, &events, Int32(events.count))
            if count < 0 { isComplete = false }
            guard count > 0 else { break }
            for event in events.prefix(Int(count)) {
                if event.number < 0 { isComplete = false } else { take(event, &changes) }
            }
            // What else is there is taken at once.
            milliseconds = 0
        }
        return isComplete ? changes : nil
    }

    private func take(_ event: cl_folderChange, _ changes: inout Changes) {
        guard let paths = folders[event.number] else { return }
        changes.folders.formUnion(paths)
        let name = withUnsafeBytes(of: event.name) { [UInt8]($0.prefix { $0 != 0 }) }
        if !name.isEmpty { changes.files.formUnion(paths.map { $0.appending(name) }) }
        guard Int(event.kind) != CL_FOLDER_CONTENTS else { return }
        changes.listings.formUnion(paths)
        guard Int(event.kind) == CL_FOLDER_GONE else { return }
        // One that has another name now would be watched on under its old one.
        cl_unwatchFolder(descriptor, event.number)
        folders[event.number] = nil
        for path in paths { numbers[path] = nil }
    }
}
