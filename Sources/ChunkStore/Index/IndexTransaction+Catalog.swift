internal import CLMDB
internal import Platform

extension IndexTransaction {
    /// The journal record with this sequence number: where it stands and its bytes without padding.
    func record(_ sequence: UInt64) throws -> (offset: UInt64, bytes: [UInt8])? {
        guard let value = try get(databases.records, Self.key(sequence)) else { return nil }
        let (offset, bytes) = try decode(value) { (try $0.u64(), try $0.raw($0.remaining)) }
        guard offset < 1 << 62 else { throw damaged("has a record at no place") }
        return (offset, bytes)
    }

    func setRecord(_ stored: Journal.Stored) {
        var writer = ByteWriter(capacity: 8 + stored.bytes.count)
        writer.u64(stored.offset)
        writer.raw(stored.bytes)
        write { () throws(LMDBError) in
            try transaction.put(databases.records, Self.key(stored.record.sequence), writer.bytes)
        }
    }

    /// The SHA-256 of all entries of the catalog: keys and values, each behind its length, and each database behind its own.
    func catalogDigest() throws -> ChunkID {
        let hasher = SHA256Hasher()
        hasher.begin()
        // The hasher wants its bytes in large pieces.
        var piece = ByteWriter(capacity: 1 << 16)
        func add(_ bytes: UnsafeRawBufferPointer) {
            piece.u32(UInt32(bytes.count))
            piece.raw(bytes)
        }
        func flush() {
            piece.bytes.withUnsafeBytes { hasher.update($0) }
            piece.removeAll()
        }
        for database in databases.catalog {
            try scan(database) { key, value in
                // A search goes another way through the pages: where those are damaged, it may miss what a scan comes by.
                let isFound = try? transaction.get(database, key) { $0.baseAddress == value.baseAddress }
                guard isFound == true else { throw damaged("can't find an entry that it has") }
                add(key)
                add(value)
                if piece.count > 1 << 15 { flush() }
                return true
            }
            piece.u32(.max)
        }
        flush()
        return ChunkID(hasher.finish())
    }

    private func stepKey(_ run: String, _ step: UInt64) -> [UInt8] {
        [UInt8](run.utf8) + [0] + Self.key(step)
    }

    /// The number of the iteration that a run has at a step.
    public func iterationNumber(run: String, step: UInt64) throws -> UInt64? {
        try checkCatalog()
        guard let value = try get(databases.steps, stepKey(run, step)) else { return nil }
        return try decode(value) { try $0.u64() }
    }

    /// The number of the newest iteration of a run below a step that is not superseded.
    public func previousIteration(run: String, below step: UInt64) throws -> UInt64? {
        guard step > 0 else { return nil }
        try checkCatalog()
        let prefix = [UInt8](run.utf8) + [0]
        var previous: UInt64?
        do {
            try transaction.scanBackwards(databases.steps, from: stepKey(run, step - 1)) { key, value in
                guard key.starts(with: prefix) else { return false }
                let number = try decode([UInt8](value)) { try $0.u64() }
                guard let iteration = try iteration(number) else { throw damaged("lacks an iteration") }
                if !iteration.isSuperseded { previous = number }
                return previous == nil
            }
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
        return previous
    }

    /// Whether a run has any iteration.
    public func hasIterations(run: String) throws -> Bool {
        try checkCatalog()
        var found = false
        do {
            try transaction.scanBackwards(databases.steps, from: stepKey(run, .max)) { key, _ in
                found = key.starts(with: [UInt8](run.utf8) + [0])
                return false
            }
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
        return found
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
        try checkCatalog()
        guard let value = try get(databases.iterations, Self.key(number)) else { return nil }
        return try decode(value) { (try $0.u8() & 1 != 0, try $0.string(), try $0.varint()) }
    }

    /// The numbers of all iterations, oldest first.
    func iterationNumbers() throws -> [UInt64] {
        try checkCatalog()
        var numbers: [UInt64] = []
        try scan(databases.iterations) { key, _ in
            numbers.append(try number(key))
            return true
        }
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
        try checkCatalog()
        var pins: [(String, UInt64)] = []
        try scan(databases.pins) { key, value in
            pins.append((String(decoding: key, as: UTF8.self), try decode([UInt8](value)) { try $0.u64() }))
            return true
        }
        return pins
    }

    /// The output folder that a run was first saved from, and its policy (empty: none).
    public func run(_ name: String) throws -> (origin: String, policy: [UInt8])? {
        try checkCatalog()
        guard let value = try get(databases.runs, [UInt8](name.utf8)) else { return nil }
        return try decode(value) { (try $0.string(), try $0.bytes()) }
    }

    public func runs() throws -> [(name: String, origin: String, policy: [UInt8])] {
        try checkCatalog()
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
        try checkCatalog()
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

    /// One iteration with what is known of it.
    public func catalogEntry(_ number: UInt64, store: [UInt8]) throws -> CatalogEntry {
        let pinned = try pins().filter { $0.iteration == number }
        return try catalogEntry(number, store: store, pins: pinned.map(\.name))
    }

    private func catalogEntry(_ number: UInt64, store: [UInt8], pins: [String]) throws -> CatalogEntry {
        guard let (superseded, run, step) = try iteration(number), let (_, bytes) = try record(number) else {
            throw damaged("lacks the record of an iteration")
        }
        let record: JournalRecord
        do { record = try JournalRecord(decoding: bytes, store: store) } catch {
            throw damaged("has a record that \(error)")
        }
        guard case .commit(let commit) = record.event, record.sequence == number, commit.run == run,
            commit.step == step
        else {
            throw damaged("has another record for an iteration")
        }
        return CatalogEntry(
            number: number, run: run, step: step, head: commit.head, storedBytes: commit.storedBytes,
            committedAt: record.time, isSuperseded: superseded, pins: pins, annotations: try notes(number))
    }
}
