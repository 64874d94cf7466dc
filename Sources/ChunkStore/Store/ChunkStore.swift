public import Platform

/// Chunks by their SHA-256, and the catalog of iterations that reach them: packs, journal and index of one store.
///
/// Any number of processes and threads may use a store at once. A store that was opened before a fork must be opened again in the
/// child.
public final class ChunkStore: Sendable {
    /// Reads the blobs that a manifest needs, given its head; returns every blob that the manifest refers to.
    public typealias Tracer =
        @Sendable (_ head: [UInt8], _ read: (BlobRef) throws -> [UInt8]) throws -> [BlobRef]

    public struct Settings: Sendable {
        /// Threads for hashing and copying.
        public var jobs: Int
        /// Bytes of buffers.
        public var memory: Int
        /// The version of the program, for the journal.
        public var version: String
        /// Told, in a sentence, when something takes long: a lock, or an index that is made for this process alone.
        public var onWait: @Sendable (String) -> Void
        /// Which blobs a manifest refers to.
        public var trace: Tracer
        /// So many new entries of the index become a table: in the tree they would dirty as many of its pages.
        var tableThreshold = 4096
        /// A save that has met so many new chunks makes a filter of those that the store has.
        var filterThreshold = 8192

        public init(
            jobs: Int, memory: Int, version: String, onWait: @escaping @Sendable (String) -> Void,
            trace: @escaping Tracer
        ) {
            self.jobs = jobs
            self.memory = memory
            self.version = version
            self.onWait = onWait
            self.trace = trace
        }
    }

    /// The index that is open. Whoever changes the store holds the monitor of this; readers only look, so it has one of its own.
    struct Opened {
        /// Nil for an index that a repair is to make anew.
        var index: Index? {
            get { current.change { $0 } }
            nonmutating set { current.change { $0 = newValue } }
        }
        let current: Monitor<Index?>
    }

    public let folder: Path
    public let chunkSize: Int
    public let recovery: RecoveryBound
    /// 16 bytes.
    public let id: [UInt8]
    public let settings: Settings
    public let isReadOnly: Bool
    let locks: StoreLocks
    let journal: Journal
    let index = Monitor<Index?>(nil)
    let opened: Monitor<Opened>
    let packs: PackReaders
    private let generation = Process.forkGeneration

    static let reserveSize: UInt64 = 8 << 20

    /// Makes a store in a folder that is missing or empty.
    public static func create(
        _ folder: Path, chunkSize: Int, recovery: RecoveryBound = RecoveryBound(), settings: Settings
    ) throws {
        let description = try StoreDescription(
            id: Random.bytes(16), chunkSize: chunkSize, recovery: recovery)
        if let status = try FileSystem.status(folder, followLinks: true) {
            guard status.kind == .folder, try FileSystem.names(in: folder).isEmpty else {
                let isStore =
                    try status.kind == .folder && FileSystem.status(folder.appending("cairn.json")) != nil
                throw CairnError(
                    .exists,
                    isStore
                        ? "\(folder) is a store already; use it as it is, or make one elsewhere"
                        : "\(folder) exists and is not an empty folder; give a path where nothing is yet",
                    path: folder.text)
            }
            try fill(folder, description, settings)
            return
        }
        try FileSystem.makeFolders(folder.parent)
        try FileSystem.makeFolder(folder)
        do {
            try fill(folder, description, settings)
        } catch {
            _ = try? FileSystem.removeFolder(folder)
            throw error
        }
        try FileSystem.syncFolder(folder.parent)
    }

    /// Whether a folder that can't become a store looks as if someone else were just making one of it, or had just done so.
    public static func isBeingMade(_ folder: Path) throws -> Bool {
        guard try FileSystem.status(folder, followLinks: true)?.kind == .folder else { return false }
        let names = try FileSystem.names(in: folder)
        return names.isEmpty || names.contains { [UInt8]("packs".utf8) == $0 }
    }

    /// `cairn.json` comes last: without it the folder is no store.
    private static func fill(_ folder: Path, _ description: StoreDescription, _ settings: Settings) throws {
        try FileSystems.check(folder)
        // Of several that saw the folder empty only one makes this: what is in the folder from here on is its own.
        try FileSystem.makeFolder(folder.appending("packs"))
        do {
            try FileSystem.makeFolder(folder.appending("index"))
            try StoreLocks.create(folder.appending("locks"))
            let journal = try Journal(folder.appending("journal"), store: description.id, access: .create)
            let first = journal.prepare(.initialized(version: settings.version), at: .start)
            try journal.append(first)
            var state = IndexState(store: description.id)
            state.journal = first.next
            try Index.create(indexPath(folder), state: state, first: first)
            try FileSystem.publish(
                Random.bytes(Fingerprinter.keySize), at: folder.appending("key"), mode: 0o600)
            try fillReserve(folder, indexBytes: 0)
            for name in ["index", "locks"] { try FileSystem.syncFolder(folder.appending(name)) }
            try FileSystem.publish(description.encoded(), at: folder.appending("cairn.json"), exclusive: true)
        } catch {
            for name in ["cairn.json", "packs", "index", "locks", "journal", "key", "reserve"] {
                _ = try? FileSystem.removeTree(folder.appending(name))
            }
            throw error
        }
    }

    public enum Access: Sendable {
        /// Changes nothing, even where it may.
        case read
        /// As the folder allows.
        case available
        /// Fails where the store can only be read.
        case write
    }

    /// - Parameter repairing: does not open the index, which is to be checked or made anew.
    public init(
        _ folder: Path, settings: Settings, access: Access = .available, repairing: Bool = false
    ) throws {
        let description = folder.appending("cairn.json")
        guard let status = try FileSystem.status(folder, followLinks: true) else {
            throw CairnError(
                .notAStore, "there is no store at \(folder); make one with `cairn init --store \(folder)`",
                path: folder.text)
        }
        guard status.kind == .folder, try FileSystem.status(description, followLinks: true) != nil else {
            let isEmpty = status.kind == .folder ? try FileSystem.names(in: folder).isEmpty : false
            throw CairnError(
                .notAStore,
                "\(folder) is not a store"
                    + (isEmpty
                        ? "; make one with `cairn init --store \(folder)`"
                        : ", and not an empty folder in which one could be made; give the path of a store"),
                path: folder.text)
        }
        let file = try StoreDescription(decoding: try File(description, .read).readToEnd(), path: description)
        try FileSystems.check(folder)
        self.folder = try FileSystem.resolved(folder)
        self.settings = settings
        id = file.id
        chunkSize = file.chunkSize
        recovery = file.recovery
        isReadOnly = access == .read || !FileSystem.isWritable(self.folder)
        locks = try StoreLocks(self.folder.appending("locks"), readOnly: isReadOnly, onWait: settings.onWait)
        journal = try Journal(
            self.folder.appending("journal"), store: id, access: isReadOnly ? .read : .write)
        opened = Monitor(Opened(current: index))
        packs = PackReaders(folder: self.folder.appending("packs"), store: id)
        if access == .write { try checkWritable() }
        if !repairing { try openIndex() }
    }

    static func indexPath(_ folder: Path) -> Path { folder.appending("index/data.mdb") }
    var indexPath: Path { Self.indexPath(folder) }

    /// Closes the packs that were read, for a process that is about to rest: what is deleted takes up its space until then.
    public func closePacks() { packs.closeAll() }

    /// The lock descriptors are closed in the child of a fork, so nothing there is safe.
    func checkProcess() throws {
        guard generation == Process.forkGeneration else {
            throw CairnError(
                .usage, "the store \(folder) was opened before a fork; open it in the child process itself",
                path: folder.text)
        }
    }

    func checkWritable() throws {
        try checkProcess()
        guard !isReadOnly else {
            throw CairnError(
                .system, "the store \(folder) can only be read: no write permission, or a read-only mount",
                path: folder.text)
        }
    }

    /// Makes the space that a collection can give up on a full disk.
    static func fillReserve(_ folder: Path, indexBytes: UInt64) throws {
        let size = max(reserveSize, (indexBytes / 8 + 4095) / 4096 * 4096)
        let file = try File(folder.appending("reserve"), .openOrCreate)
        if try file.status().allocated < size { try file.allocate(to: size) }
    }

    func giveUpReserve() throws {
        _ = try FileSystem.removeFile(folder.appending("reserve"))
        try FileSystem.syncFolder(folder)
    }
}
