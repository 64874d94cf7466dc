internal import CLMDB
internal import Platform

/// The databases of an index. (Docs/format.md 8)
struct IndexDatabases {
    let meta, chunks, packs, iterations, records, steps, pins, runs, notes, pending: MDB_dbi

    init(_ transaction: LMDBTransaction, create: Bool) throws(LMDBError) {
        meta = try transaction.open("meta", create: create)
        chunks = try transaction.open("chunks", create: create)
        packs = try transaction.open("packs", create: create)
        iterations = try transaction.open("iterations", create: create)
        records = try transaction.open("records", create: create)
        steps = try transaction.open("steps", create: create)
        pins = try transaction.open("pins", create: create)
        runs = try transaction.open("runs", create: create)
        notes = try transaction.open("notes", create: create)
        pending = try transaction.open("pending", create: create)
    }

    var all: [MDB_dbi] { [meta, chunks, packs, iterations, records, steps, pins, runs, notes, pending] }
}

/// The fold of the journal in one LMDB file. Used by one thread at a time, under the store's locks.
final class Index {
    let path: Path
    private let environment: LMDBEnvironment
    private let databases: IndexDatabases
    /// The file that is open: a rebuild replaces it under the same name.
    let inode: UInt64

    /// Opens an index that exists.
    init(_ path: Path, readOnly: Bool) throws {
        guard let status = try FileSystem.status(path, followLinks: true) else {
            throw CairnError(.notFound, "\(path) is missing", path: path.text)
        }
        self.path = path
        inode = status.inode
        environment = try LMDBEnvironment(path, readOnly: readOnly)
        do {
            let transaction = try LMDBTransaction(environment, readOnly: true)
            databases = try IndexDatabases(transaction, create: false)
            try transaction.commit()
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
            let index = IndexTransaction(transaction, databases, path)
            index.setState(state)
            if let first { index.setRecord(first) }
            try index.commit()
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
    }

    func read<R>(_ body: (IndexTransaction) throws -> R) throws -> R {
        do {
            let transaction = try LMDBTransaction(environment, readOnly: true)
            return try body(IndexTransaction(transaction, databases, path))
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
    }

    /// A transaction that changes the index. The caller commits it.
    func begin() throws -> IndexTransaction {
        do {
            return IndexTransaction(try LMDBTransaction(environment, readOnly: false), databases, path)
        } catch {
            throw error.asCairnError(path)
        }
    }
}

/// What the index knows, within one transaction.
public final class IndexTransaction {
    private let transaction: LMDBTransaction
    private let databases: IndexDatabases
    private let path: Path
    /// The first failure of a write: it surfaces at commit, so that the many writes of a save stay plain calls.
    private var failure: LMDBError?

    init(_ transaction: LMDBTransaction, _ databases: IndexDatabases, _ path: Path) {
        self.transaction = transaction
        self.databases = databases
        self.path = path
    }

    func commit() throws {
        do throws(LMDBError) {
            if let failure { throw failure }
            try transaction.commit()
        } catch {
            throw error.asCairnError(path)
        }
    }

    func abort() { transaction.abort() }

    func checkWrites() throws { if let failure { throw failure.asCairnError(path) } }

    private func write(_ body: () throws(LMDBError) -> Void) {
        guard failure == nil else { return }
        do throws(LMDBError) { try body() } catch { failure = error }
    }

    private func get(_ database: MDB_dbi, _ key: [UInt8]) throws -> [UInt8]? {
        do { return try transaction.get(database, key) } catch { throw error.asCairnError(path) }
    }

    private func damaged(_ what: String) -> CairnError {
        CairnError(
            .damage, "the index \(path) \(what); run `cairn repair`, which rebuilds it", path: path.text)
    }

    // MARK: State

    func state() throws -> IndexState {
        guard let bytes = try get(databases.meta, [UInt8]("state".utf8)) else {
            throw damaged("has no state")
        }
        do { return try IndexState(decoding: bytes) } catch { throw damaged("has a state that \(error)") }
    }

    func setState(_ state: IndexState) {
        write { () throws(LMDBError) in
            try transaction.put(databases.meta, [UInt8]("state".utf8), state.encoded())
        }
    }

    /// Bytes of all pages in use.
    func usedBytes() throws -> UInt64 {
        do {
            var pages: UInt64 = 0
            for database in databases.all { pages += try transaction.pages(database) }
            return pages * UInt64(LMDBEnvironment.pageSize)
        } catch {
            throw error.asCairnError(path)
        }
    }

    /// Notes how many iterations and pins there are now.
    func count(into state: inout IndexState) throws {
        do {
            state.iterations = UInt32(try transaction.count(databases.iterations))
            state.pins = UInt32(try transaction.count(databases.pins))
        } catch let error {
            throw error.asCairnError(path)
        }
    }

    // MARK: Chunks

    func chunk(_ id: ChunkID) throws -> ChunkLocation? {
        do {
            let found = try id.withUnsafeBytes { (key) throws in
                try transaction.get(databases.chunks, key) { ChunkLocation($0) }
            }
            guard let found else { return nil }
            guard let location = found else { throw damaged("has a chunk entry that is none") }
            return location
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
    }

    func setChunk(_ id: ChunkID, _ location: ChunkLocation, append: Bool = false) {
        let value = location.encoded()
        write { () throws(LMDBError) in
            var result: Result<Void, LMDBError> = .success(())
            id.withUnsafeBytes { key in
                value.withUnsafeBytes { value in
                    result = Result { () throws(LMDBError) in
                        try transaction.put(databases.chunks, key, value, append: append)
                    }
                }
            }
            try result.get()
        }
    }

    func removeChunk(_ id: ChunkID) {
        write { () throws(LMDBError) in try transaction.delete(databases.chunks, id.bytes) }
    }

    /// All chunks in the order of their ids, from `start` on, until `body` returns false.
    func scanChunks(from start: ChunkID = .zero, _ body: (ChunkID, ChunkLocation) throws -> Bool) throws {
        try scan(databases.chunks, from: start.bytes) { key, value in
            guard key.count == 32, let location = ChunkLocation(value) else {
                throw damaged("has a chunk entry that is none")
            }
            return try body(ChunkID(key), location)
        }
    }

    func chunkCount() throws -> Int {
        do { return try transaction.count(databases.chunks) } catch { throw error.asCairnError(path) }
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
        var packs: [(UInt32, PackSummary)] = []
        try scan(databases.packs) { key, value in
            packs.append((try Self.number(key), try decode([UInt8](value)) { try PackSummary(from: &$0) }))
            return true
        }
        return packs
    }

    /// Packs in which a sweep left ranges to free.
    func pendingPacks() throws -> [UInt32] {
        var packs: [UInt32] = []
        try scan(databases.pending) { key, _ in
            packs.append(try Self.number(key))
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

    static func number<T: FixedWidthInteger>(_ key: UnsafeRawBufferPointer) throws -> T {
        guard key.count == MemoryLayout<T>.size else { throw FormatError("holds a key of another length") }
        return T(bigEndian: key.loadUnaligned(as: T.self))
    }
}

// MARK: Catalog

extension IndexTransaction {
    /// The journal record with this sequence number: where it stands and its bytes without padding.
    func record(_ sequence: UInt64) throws -> (offset: UInt64, bytes: [UInt8])? {
        guard let value = try get(databases.records, Self.key(sequence)) else { return nil }
        return try decode(value) { (try $0.u64(), try $0.raw($0.remaining)) }
    }

    func setRecord(_ stored: Journal.Stored) {
        var writer = ByteWriter(capacity: 8 + stored.bytes.count)
        writer.u64(stored.offset)
        writer.raw(stored.bytes)
        write { () throws(LMDBError) in
            try transaction.put(databases.records, Self.key(stored.record.sequence), writer.bytes)
        }
    }

    private func stepKey(_ run: String, _ step: UInt64) -> [UInt8] {
        [UInt8](run.utf8) + [0] + Self.key(step)
    }

    /// The number of the iteration that a run has at a step.
    public func iterationNumber(run: String, step: UInt64) throws -> UInt64? {
        guard let value = try get(databases.steps, stepKey(run, step)) else { return nil }
        return try decode(value) { try $0.u64() }
    }

    func setIteration(_ number: UInt64, run: String, step: UInt64, isSuperseded: Bool) {
        var writer = ByteWriter()
        writer.u8(isSuperseded ? 1 : 0)
        writer.string(run)
        writer.varint(step)
        var steps = ByteWriter()
        steps.u64(number)
        write { () throws(LMDBError) in
            try transaction.put(databases.iterations, Self.key(number), writer.bytes)
            try transaction.put(databases.steps, stepKey(run, step), steps.bytes)
        }
    }

    func removeIteration(_ number: UInt64) throws {
        guard let (_, run, step) = try iteration(number) else { return }
        let isCurrent = try iterationNumber(run: run, step: step) == number
        let pinned = try pins().filter { $0.iteration == number }
        write { () throws(LMDBError) in
            try transaction.delete(databases.iterations, Self.key(number))
            try transaction.delete(databases.notes, Self.key(number))
            if isCurrent { try transaction.delete(databases.steps, stepKey(run, step)) }
            for pin in pinned { try transaction.delete(databases.pins, [UInt8](pin.name.utf8)) }
        }
    }

    func iteration(_ number: UInt64) throws -> (isSuperseded: Bool, run: String, step: UInt64)? {
        guard let value = try get(databases.iterations, Self.key(number)) else { return nil }
        return try decode(value) { (try $0.u8() & 1 != 0, try $0.string(), try $0.varint()) }
    }

    /// The numbers of all iterations, oldest first.
    func iterationNumbers() throws -> [UInt64] {
        var numbers: [UInt64] = []
        try scan(databases.iterations) { key, _ in
            numbers.append(try Self.number(key))
            return true
        }
        guard try numbers.count == Int(state().iterations) else { throw damaged("has lost iterations") }
        return numbers
    }

    func setPin(_ name: String, _ iteration: UInt64) {
        var writer = ByteWriter()
        writer.u64(iteration)
        write { () throws(LMDBError) in try transaction.put(databases.pins, [UInt8](name.utf8), writer.bytes)
        }
    }

    func removePin(_ name: String) {
        write { () throws(LMDBError) in try transaction.delete(databases.pins, [UInt8](name.utf8)) }
    }

    /// All pins, sorted by name.
    public func pins() throws -> [(name: String, iteration: UInt64)] {
        var pins: [(String, UInt64)] = []
        try scan(databases.pins) { key, value in
            pins.append((String(decoding: key, as: UTF8.self), try decode([UInt8](value)) { try $0.u64() }))
            return true
        }
        return pins
    }

    /// The output folder that a run was first saved from, and its policy (empty: none).
    public func run(_ name: String) throws -> (origin: String, policy: [UInt8])? {
        guard let value = try get(databases.runs, [UInt8](name.utf8)) else { return nil }
        return try decode(value) { (try $0.string(), try $0.bytes()) }
    }

    public func runs() throws -> [(name: String, origin: String, policy: [UInt8])] {
        var runs: [(String, String, [UInt8])] = []
        try scan(databases.runs) { key, value in
            let (origin, policy) = try decode([UInt8](value)) { (try $0.string(), try $0.bytes()) }
            runs.append((String(decoding: key, as: UTF8.self), origin, policy))
            return true
        }
        return runs
    }

    func setRun(_ name: String, origin: String, policy: [UInt8]) {
        var writer = ByteWriter()
        writer.string(origin)
        writer.bytes(policy)
        write { () throws(LMDBError) in try transaction.put(databases.runs, [UInt8](name.utf8), writer.bytes)
        }
    }

    func addNote(_ annotation: JournalEvent.Annotation) throws {
        var writer = ByteWriter()
        annotation.write(to: &writer)
        var list = ByteWriter()
        list.raw(try get(databases.notes, Self.key(annotation.iteration)) ?? [])
        list.bytes(writer.bytes)
        write { () throws(LMDBError) in
            try transaction.put(databases.notes, Self.key(annotation.iteration), list.bytes)
        }
    }

    func notes(_ number: UInt64) throws -> [JournalEvent.Annotation] {
        guard let value = try get(databases.notes, Self.key(number)) else { return [] }
        return try decode(value) { reader in
            var notes: [JournalEvent.Annotation] = []
            while reader.remaining > 0 {
                var note = ByteReader(try reader.bytes())
                notes.append(try JournalEvent.Annotation(from: &note))
            }
            return notes
        }
    }

    /// All iterations with what is known of them, oldest commit first.
    public func catalog(store: [UInt8]) throws -> [CatalogEntry] {
        var pinned: [UInt64: [String]] = [:]
        for pin in try pins() { pinned[pin.iteration, default: []].append(pin.name) }
        return try iterationNumbers().map { try catalogEntry($0, store: store, pins: pinned[$0] ?? []) }
    }

    func catalogEntry(_ number: UInt64, store: [UInt8], pins: [String]) throws -> CatalogEntry {
        guard let (superseded, run, step) = try iteration(number), let (_, bytes) = try record(number) else {
            throw damaged("lacks the record of an iteration")
        }
        let record: JournalRecord
        do { record = try JournalRecord(decoding: bytes, store: store) } catch {
            throw damaged("has a record that \(error)")
        }
        guard case .commit(let commit) = record.event, commit.run == run, commit.step == step else {
            throw damaged("has another record for an iteration")
        }
        return CatalogEntry(
            number: number, run: run, step: step, head: commit.head, storedBytes: commit.storedBytes,
            committedAt: record.time, isSuperseded: superseded, pins: pins, annotations: try notes(number))
    }
}
