internal import CLMDB
internal import Platform

/// The databases of an index. (Docs/format.md 8)
struct IndexDatabases {
    let meta, chunks, tables, packs, iterations, records, steps, pins, runs, notes, pending: MDB_dbi

    init(_ transaction: LMDBTransaction, create: Bool) throws(LMDBError) {
        meta = try transaction.open("meta", create: create)
        chunks = try transaction.open("chunks", create: create)
        tables = try transaction.open("tables", create: create)
        packs = try transaction.open("packs", create: create)
        iterations = try transaction.open("iterations", create: create)
        records = try transaction.open("records", create: create)
        steps = try transaction.open("steps", create: create)
        pins = try transaction.open("pins", create: create)
        runs = try transaction.open("runs", create: create)
        notes = try transaction.open("notes", create: create)
        pending = try transaction.open("pending", create: create)
    }

    /// Everything that is small, and that commands act on without reading a pack.
    var catalog: [MDB_dbi] { [packs, iterations, steps, pins, runs, notes] }

    var all: [MDB_dbi] {
        [meta, chunks, tables, packs, iterations, records, steps, pins, runs, notes, pending]
    }
}

/// The fold of the journal in one LMDB file. Read by any number of threads, changed by one, under the store's locks.
final class Index {
    let path: Path
    private let environment: LMDBEnvironment
    private let databases: IndexDatabases
    /// The number of the state whose catalog was found, or made, to be what its checksum says.
    private let checkedState = Monitor<Int?>(nil)
    /// The file that is open: a rebuild replaces it under the same name.
    let inode: UInt64

    /// Opens an index that exists. - Throws: `.notFound` where it is missing or of another version.
    init(_ path: Path, readOnly: Bool) throws {
        guard let status = try FileSystem.status(path, followLinks: true) else {
            throw CairnError(.notFound, "\(path) is missing", path: path.text)
        }
        self.path = path
        inode = status.inode
        do {
            if status.size > 0 { try LMDBPages.checkMetas(path) }
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
        environment = try LMDBEnvironment(path, readOnly: readOnly)
        do throws(LMDBError) {
            let transaction = try LMDBTransaction(environment, readOnly: true)
            databases = try IndexDatabases(transaction, create: false)
            let state = try transaction.get(databases.meta, IndexState.key)
            guard state?.starts(with: IndexState.versionBytes) != false else { throw LMDBError.notFound }
            try transaction.commit()
        } catch  where error.isNotFound {
            throw CairnError(.notFound, "\(path) is of another version", path: path.text)
        } catch {
            throw error.asCairnError(path)
        }
    }

    /// Makes an index that has folded the journal's first record, and nothing else.
    static func create(_ path: Path, state: IndexState, first: Journal.Stored?) throws {
        do {
            let environment = try LMDBEnvironment(path, readOnly: false)
            let transaction = try LMDBTransaction(environment, readOnly: false)
            let databases = try IndexDatabases(transaction, create: true)
            let index = IndexTransaction(transaction, databases, path, Monitor(nil), writes: true)
            try index.seal(state)
            if let first { index.setRecord(first) }
            try index.commit()
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
    }

    func read<R>(_ body: (IndexTransaction) throws -> R) throws -> R {
        do {
            let transaction = try LMDBTransaction(environment, readOnly: true)
            return try body(IndexTransaction(transaction, databases, path, checkedState, writes: false))
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
    }

    /// Opens an index of which every page that counts was looked at first: LMDB believes what stands in them, and may crash.
    /// - Throws: `.damage`; `.notFound` where it is missing or of another version.
    static func checked(_ path: Path) throws -> Index {
        do {
            try LMDBPages.check(path)
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
        return try Index(path, readOnly: true)
    }

    /// A transaction that changes the index. The caller commits it.
    func begin() throws -> IndexTransaction {
        do {
            return IndexTransaction(
                try LMDBTransaction(environment, readOnly: false), databases, path, checkedState, writes: true
            )
        } catch {
            throw error.asCairnError(path)
        }
    }
}

/// What the index knows, within one transaction.
public final class IndexTransaction {
    let transaction: LMDBTransaction
    let databases: IndexDatabases
    let path: Path
    /// Read once: every look-up of a chunk needs them.
    var knownTables: [ChunkTable]?
    /// The number of the state that it reads, or begins with.
    private let initialState: Int
    /// The state whose catalog is known to be right, for all transactions on this index.
    private let checkedState: Monitor<Int?>
    private var isSealed = false
    /// The first failure of a write: it surfaces at commit, so that the many writes of a save stay plain calls.
    private var failure: LMDBError?

    init(
        _ transaction: LMDBTransaction, _ databases: IndexDatabases, _ path: Path,
        _ checkedState: Monitor<Int?>, writes: Bool
    ) {
        self.transaction = transaction
        self.checkedState = checkedState
        initialState = writes ? transaction.id - 1 : transaction.id
        self.databases = databases
        self.path = path
    }

    func commit() throws {
        do throws(LMDBError) {
            if let failure { throw failure }
            let number = transaction.id
            try transaction.commit()
            if isSealed { checkedState.change { $0 = number } }
        } catch {
            throw error.asCairnError(path)
        }
    }

    func abort() { transaction.abort() }

    func checkWrites() throws { if let failure { throw failure.asCairnError(path) } }

    func write(_ body: () throws(LMDBError) -> Void) {
        guard failure == nil else { return }
        do throws(LMDBError) { try body() } catch { failure = error }
    }

    func get(_ database: MDB_dbi, _ key: [UInt8]) throws -> [UInt8]? {
        do { return try transaction.get(database, key) } catch { throw error.asCairnError(path) }
    }

    func damaged(_ what: String) -> CairnError {
        CairnError(
            .damage, "the index \(path) \(what); run `cairn repair`, which rebuilds it", path: path.text)
    }

    /// Pages carry no checksums, so the catalog has one of its own. A transaction that changes the catalog checks it first.
    /// - Throws: `.damage` where an entry was changed, lost or made up.
    func checkCatalog() throws {
        guard !isSealed, checkedState.change({ $0 }) != initialState else { return }
        guard try catalogDigest() == state().catalog else {
            throw damaged("has entries that are not what was written")
        }
        checkedState.change { $0 = initialState }
    }

    // MARK: State

    func state() throws -> IndexState {
        guard let bytes = try get(databases.meta, IndexState.key) else {
            throw damaged("has no state")
        }
        do { return try IndexState(decoding: bytes) } catch { throw damaged("has a state that \(error)") }
    }

    func setState(_ state: IndexState) {
        write { () throws(LMDBError) in
            try transaction.put(databases.meta, IndexState.key, state.encoded())
        }
    }

    /// Sets the state with the catalog's checksum as it is now.
    func seal(_ state: IndexState) throws {
        var state = state
        state.catalog = try catalogDigest()
        setState(state)
        isSealed = true
    }

    /// Bytes of all pages in use.
    func usedBytes() throws -> UInt64 {
        do {
            var bytes: UInt64 = 0
            for database in databases.all { bytes += try transaction.usedBytes(database) }
            return bytes
        } catch {
            throw error.asCairnError(path)
        }
    }

    // MARK: Packs

    func pack(_ number: UInt32) throws -> PackSummary? {
        guard let value = try get(databases.packs, Self.key(number)) else { return nil }
        return try decode(value) { try PackSummary(from: &$0) }
    }

    func setPack(_ number: UInt32, _ summary: PackSummary) {
        var writer = ByteWriter()
        summary.write(to: &writer)
        write { () throws(LMDBError) in try transaction.put(databases.packs, Self.key(number), writer.bytes) }
    }

    func removePack(_ number: UInt32) {
        write { () throws(LMDBError) in
            try transaction.delete(databases.packs, Self.key(number))
            try transaction.delete(databases.pending, Self.key(number))
        }
    }

    func packs() throws -> [(number: UInt32, summary: PackSummary)] {
        try checkCatalog()
        var packs: [(UInt32, PackSummary)] = []
        try scan(databases.packs) { key, value in
            packs.append((try number(key), try decode([UInt8](value)) { try PackSummary(from: &$0) }))
            return true
        }
        return packs
    }

    func packCount() throws -> Int {
        do { return try transaction.count(databases.packs) } catch { throw error.asCairnError(path) }
    }

    /// Packs in which a sweep left ranges to free.
    func pendingPacks() throws -> [UInt32] {
        var packs: [UInt32] = []
        try scan(databases.pending) { key, _ in
            packs.append(try number(key))
            return true
        }
        return packs
    }

    func setPending(_ pack: UInt32, _ isPending: Bool) {
        write { () throws(LMDBError) in
            if isPending {
                try transaction.put(databases.pending, Self.key(pack), [])
            } else {
                try transaction.delete(databases.pending, Self.key(pack))
            }
        }
    }

    // MARK: Helpers

    func scan(
        _ database: MDB_dbi, from start: [UInt8] = [],
        _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws -> Bool
    ) throws {
        do {
            try transaction.scan(database, from: start, body)
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
    }

    func decode<Value>(_ bytes: [UInt8], _ body: (inout ByteReader) throws -> Value) throws -> Value {
        do {
            var reader = ByteReader(bytes)
            let value = try body(&reader)
            try reader.expectEnd()
            return value
        } catch let error as FormatError {
            throw damaged("has an entry that \(error)")
        }
    }

    static func key(_ number: UInt32) -> [UInt8] { withUnsafeBytes(of: number.bigEndian) { [UInt8]($0) } }
    static func key(_ number: UInt64) -> [UInt8] { withUnsafeBytes(of: number.bigEndian) { [UInt8]($0) } }

    func number<T: FixedWidthInteger>(_ key: UnsafeRawBufferPointer) throws -> T {
        guard key.count == MemoryLayout<T>.size else { throw damaged("holds a key of another length") }
        return T(bigEndian: key.loadUnaligned(as: T.self))
    }
}
