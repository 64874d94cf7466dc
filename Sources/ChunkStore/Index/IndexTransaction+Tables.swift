internal import CLMDB
internal import Platform

/// The tables of chunks. (Docs/format.md 8)
extension IndexTransaction {
    /// All tables, the largest first as a rule.
    func tables() throws -> [ChunkTable] {
        if let known = knownTables { return known }
        let list = try get(databases.meta, [UInt8]("tables".utf8)) ?? []
        let tables = try decode(list) { reader in
            var tables: [ChunkTable] = []
            while reader.remaining > 0 {
                tables.append(ChunkTable(number: try reader.u32(), count: try reader.u32()))
            }
            return tables
        }
        knownTables = tables
        return tables
    }

    private func setTables(_ tables: [ChunkTable]) {
        knownTables = tables
        var writer = ByteWriter()
        for table in tables {
            writer.u32(table.number)
            writer.u32(table.count)
        }
        write { () throws(LMDBError) in
            try transaction.put(databases.meta, [UInt8]("tables".utf8), writer.bytes)
        }
    }

    /// The location that a table gives, if one of them does.
    func tableLocation(_ id: ChunkID) throws -> ChunkLocation? {
        for table in try tables() {
            let location = try part(of: table, around: id) { _, part in
                try part.find(id).map { index in
                    guard let location = part.location(index) else { throw damagedPart }
                    return location
                }
            }
            if let found = location ?? nil { return found }
        }
        return nil
    }

    /// Takes entries, in the order of their ids, out of the tables that have them. Each part is written once, however many it loses.
    func removeFromTables(_ ids: [ChunkID]) throws {
        var ids = ids
        for table in try tables() where !ids.isEmpty {
            var left: [ChunkID] = []
            var open: OpenPart?
            for id in ids {
                if open?.reaches(id) != true {
                    try close(open, of: table)
                    open = try openPart(of: table, around: id)
                }
                if open?.remove(id) != true { left.append(id) }
            }
            try close(open, of: table)
            ids = left
        }
    }

    private func openPart(of table: ChunkTable, around id: ChunkID) throws -> OpenPart? {
        try part(of: table, around: id) { key, part in
            guard let entries = part.entries() else { throw damagedPart }
            return OpenPart(key: key, entries: entries)
        }
    }

    private func close(_ part: OpenPart?, of table: ChunkTable) throws {
        if let part, !part.removed.isEmpty { try replacePart(part.key, part.rest, of: table) }
    }

    /// Keeps the key of a part: its first id may be greater from now on.
    private func replacePart(_ key: [UInt8], _ entries: [ChunkEntry], of table: ChunkTable) throws {
        if entries.isEmpty {
            write { () throws(LMDBError) in try transaction.delete(databases.tables, key) }
            if try nextPart(of: table, from: table.key(.zero)) == nil {
                setTables(try tables().filter { $0 != table })
            }
            return
        }
        var builder = ChunkTablePartBuilder()
        for entry in entries { _ = builder.add(entry) }
        write { () throws(LMDBError) in try transaction.put(databases.tables, key, builder.bytes) }
    }

    /// Makes a table of entries whose ids the index does not have, and merges what are too many of like size.
    func addTable(_ entries: [ChunkEntry]) throws {
        var rest = entries[...]
        try makeTable(merging: []) { rest.popFirst() }
        while let merged = try tables().mergeable() {
            var sources = merged.map { TableReader(table: $0) }
            try makeTable(merging: merged) {
                for index in sources.indices { try sources[index].fill(self) }
                let heads = sources.indices.filter { sources[$0].head != nil }
                guard let least = heads.min(by: { sources[$0].head!.id < sources[$1].head!.id }) else {
                    return nil
                }
                return sources[least].take()
            }
        }
    }

    /// Makes a table of what `next` gives, in the order of the ids, in the place of others.
    private func makeTable(merging old: [ChunkTable], _ next: () throws -> ChunkEntry?) throws {
        let known = try tables()
        var table = ChunkTable(number: (known.map(\.number).max() ?? 0) + 1, count: 0)
        var builder = ChunkTablePartBuilder()
        while let entry = try next() {
            table.count += 1
            if builder.add(entry) { continue }
            putPart(builder, of: table)
            builder = ChunkTablePartBuilder()
            _ = builder.add(entry)
        }
        putPart(builder, of: table)
        for table in old { try removeParts(of: table) }
        setTables((known.filter { !old.contains($0) } + [table]).sorted { $0.count > $1.count })
    }

    private func putPart(_ builder: ChunkTablePartBuilder, of table: ChunkTable) {
        guard let first = builder.first else { return }
        write { () throws(LMDBError) in
            try transaction.put(databases.tables, table.key(first), builder.bytes)
        }
    }

    private func removeParts(of table: ChunkTable) throws {
        while let (key, _) = try nextPart(of: table, from: table.key(.zero)) {
            write { () throws(LMDBError) in try transaction.delete(databases.tables, key) }
            try checkWrites()
        }
    }

    /// The part of a table in which an id would be.
    private func part<R>(
        of table: ChunkTable, around id: ChunkID, _ body: ([UInt8], ChunkTablePart) throws -> R
    ) throws -> R? {
        let wanted = table.key(id)
        var result: R?
        do {
            try transaction.scanBackwards(databases.tables, from: wanted) { key, value in
                guard key.starts(with: wanted.prefix(4)) else { return false }
                guard let part = ChunkTablePart(value) else { throw damagedPart }
                result = try body([UInt8](key), part)
                return false
            }
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
        return result
    }

    /// The first part of a table whose key is not below `key`.
    fileprivate func nextPart(of table: ChunkTable, from key: [UInt8]) throws -> (
        key: [UInt8], entries: [ChunkEntry]
    )? {
        var found: ([UInt8], [ChunkEntry])?
        try scan(databases.tables, from: key) { key, value in
            guard key.starts(with: Self.key(table.number)) else { return false }
            guard let entries = ChunkTablePart(value)?.entries() else { throw damagedPart }
            found = ([UInt8](key), entries)
            return false
        }
        return found
    }

    var damagedPart: CairnError { damaged("has a table of chunks that is none") }
}

/// A part of which entries are taken out.
private struct OpenPart {
    let key: [UInt8]
    let entries: [ChunkEntry]
    /// Places among the entries, in ascending order.
    private(set) var removed: [Int] = []

    init(key: [UInt8], entries: [ChunkEntry]) {
        self.key = key
        self.entries = entries
    }

    /// Whether no later part can have the id.
    func reaches(_ id: ChunkID) -> Bool { id <= entries.last!.id }

    /// Takes out an entry behind those that were taken out before. Returns false where there is none.
    mutating func remove(_ id: ChunkID) -> Bool {
        let start = removed.last.map { $0 + 1 } ?? 0
        guard let place = entries[start...].firstIndex(where: { id <= $0.id }), entries[place].id == id else {
            return false
        }
        removed.append(place)
        return true
    }

    var rest: [ChunkEntry] {
        var rest: [ChunkEntry] = []
        var next = 0
        for place in removed {
            rest += entries[next..<place]
            next = place + 1
        }
        return rest + entries[next...]
    }
}

/// Reads a table from its first entry to its last, while another one is written.
private struct TableReader {
    let table: ChunkTable
    private var entries: ArraySlice<ChunkEntry> = []
    private var next: [UInt8]?

    init(table: ChunkTable) {
        self.table = table
        next = table.key(.zero)
    }

    var head: ChunkEntry? { entries.first }

    mutating func take() -> ChunkEntry? { entries.popFirst() }

    /// Reads the next part where the last one is used up.
    mutating func fill(_ transaction: IndexTransaction) throws {
        while entries.isEmpty, let key = next {
            let part = try transaction.nextPart(of: table, from: key)
            entries = part?.entries[...] ?? []
            // The keys of the parts that follow are greater by at least a zero byte.
            next = part.map { $0.key + [0] }
        }
    }
}

extension [ChunkTable] {
    /// Tables of like size, of which there are too many.
    fileprivate func mergeable() -> [ChunkTable]? {
        let levels = Dictionary(grouping: filter { $0.count < ChunkTable.mergeLimit }, by: \.level)
        return levels.values.first { $0.count >= ChunkTable.mergeCount }
    }
}
