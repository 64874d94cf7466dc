internal import ChunkStore
package import Platform

/// A checkpoint store: one directory that holds the iterations of many runs.
///
/// Any number of processes and threads may use one at once. A store that was opened before a fork must be opened again in the
/// child; using it there is an error.
public final class Store: Sendable {
    /// The version of this program.
    public static let version = "0.1.0"

    public let settings: Settings
    let chunks: ChunkStore
    let states = RecentStates()

    /// The store's folder, absolute.
    public var path: String { chunks.folder.text }
    /// 32 hex digits that no other store has.
    public var id: String { chunks.id.hex }
    /// Bytes of a chunk, but for the last of a tensor or file.
    public var chunkSize: Int { chunks.chunkSize }

    /// How many times a chunk's bytes may be read to get it back.
    public var recoveryFactor: Int { chunks.recovery.factor }
    /// How many records a chunk may be put together from.
    public var recoveryRecords: Int { chunks.recovery.records }

    init(_ chunks: ChunkStore, _ settings: Settings) {
        self.chunks = chunks
        self.settings = settings
    }

    /// Makes a store in a folder that is missing or empty.
    /// - Parameters: all fixed from then on.
    ///   - chunkSize: bytes, a power of two from 4 KiB to 4 MiB.
    ///   - recoveryFactor: how many times a chunk's bytes may be read to get it back, 1 to 16: what saves by small differences costs.
    ///   - recoveryRecords: how many records it may be put together from, 1 to 64.
    public static func create(
        at path: String, chunkSize: Int = 256 << 10, recoveryFactor: Int = 2, recoveryRecords: Int = 16
    ) throws -> Store {
        let settings = Settings()
        try ChunkStore.create(
            Path(path), chunkSize: chunkSize,
            recovery: RecoveryBound(factor: recoveryFactor, records: recoveryRecords),
            settings: chunkSettings(settings, onWait: { _ in }))
        return try open(at: path, settings: settings)
    }

    /// Opens the store in a folder, or makes one there where the folder is missing or empty. Of several processes that do so at
    /// once, as the ranks of a training, one makes it and the others open it.
    /// - Parameters: as of `create`; they mean nothing for a store that is there.
    package static func openOrCreate(
        at path: Path, settings: Settings, chunkSize: Int, recoveryFactor: Int, recoveryRecords: Int
    ) throws -> Store {
        let end = Clock.monotonic + secondsOfMaking
        while true {
            do {
                return try open(at: path, settings: settings)
            } catch let error as CairnError where error.code == .notAStore {}
            do {
                try ChunkStore.create(
                    path, chunkSize: chunkSize,
                    recovery: RecoveryBound(factor: recoveryFactor, records: recoveryRecords),
                    settings: chunkSettings(settings, onWait: { _ in }))
            } catch let error as CairnError where error.code == .exists {
                guard try ChunkStore.isBeingMade(path), Clock.monotonic < end else { throw error }
                Clock.sleep(seconds: 0.01)
            }
        }
    }

    /// Who makes a store is done by then, or dead.
    private static let secondsOfMaking = 10.0

    /// - Parameters:
    ///   - changing: fails where the store can only be read, rather than later.
    ///   - repairing: does not look at the index, which `verify` checks and `repair` makes anew; nothing else works on
    ///     such a store.
    ///   - onWait: told, in a sentence, why opening or using the store takes long.
    public static func open(
        at path: String, settings: Settings = Settings(), changing: Bool = false, repairing: Bool = false,
        onWait: @escaping @Sendable (String) -> Void = { _ in }
    ) throws -> Store {
        try open(
            at: Path(path), settings: settings, changing: changing, repairing: repairing, onWait: onWait)
    }

    /// The same, of a folder whose name may be any bytes.
    package static func open(
        at path: Path, settings: Settings = Settings(), changing: Bool = false, repairing: Bool = false,
        onWait: @escaping @Sendable (String) -> Void = { _ in }
    ) throws -> Store {
        let chunks = try ChunkStore(
            path, settings: chunkSettings(settings, onWait: onWait),
            access: changing ? .write : .available, repairing: repairing)
        return Store(chunks, settings)
    }

    /// The same store, opened once more.
    package func again(repairing: Bool) throws -> Store {
        try chunks.checkIdentity()
        return try Self.open(at: chunks.folder, settings: settings, repairing: repairing)
    }

    private static func chunkSettings(
        _ settings: Settings, onWait: @escaping @Sendable (String) -> Void
    ) -> ChunkStore.Settings {
        ChunkStore.Settings(
            jobs: settings.jobs, memory: settings.memory, version: version, onWait: onWait,
            trace: { head, read in try Manifest.blobs(of: head, read: read) })
    }
}
