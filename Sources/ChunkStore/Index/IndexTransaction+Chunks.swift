internal import CLMDB
internal import Platform

/// Where chunks are. An id stands in one place: in the tree of single entries, or in one of the tables.
extension IndexTransaction {
    func chunk(_ id: ChunkID) throws -> ChunkLocation? {
        do {
            let found = try id.withUnsafeBytes { (key) throws in
                try transaction.get(databases.chunks, key) { ChunkLocation($0) }
            }
            guard let found else { return try tableLocation(id) }
            guard let location = found else { throw damaged("has a chunk entry that is none") }
            return location
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
    }

    /// The location of a chunk of so many bytes. - Throws: `.damage` where the index gives another length.
    func chunk(_ id: ChunkID, count: Int) throws -> ChunkLocation? {
        let location = try chunk(id)
        if let location, location.rawLength != UInt32(count) {
            throw damaged("gives a chunk another length")
        }
        return location
    }

    /// Puts entries whose ids the index does not have, in the order of their ids.
    /// - Parameter threshold: so many of them become a table.
    func insertChunks(_ entries: [ChunkEntry], tableFrom threshold: Int) throws {
        if entries.count >= threshold { return try addTable(entries) }
        for (id, location) in entries { insertChunk(id, location) }
    }

    /// Puts an entry whose id the index does not have.
    /// - Parameter append: its id is greater than all that are there.
    func insertChunk(_ id: ChunkID, _ location: ChunkLocation, append: Bool = false) {
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

    /// Changes the entry of a chunk that the index has.
    func updateChunk(_ id: ChunkID, _ location: ChunkLocation) throws {
        // It may need more bytes now than its part has: the tree has room for any.
        try removeChunks([id])
        insertChunk(id, location)
    }

    /// Removes entries, in the order of their ids.
    func removeChunks(_ ids: [ChunkID]) throws {
        let others = ids.filter { id in
            var wasInTree = false
            write { () throws(LMDBError) in wasInTree = try transaction.delete(databases.chunks, id.bytes) }
            return !wasInTree
        }
        try removeFromTables(others)
    }

    /// How many chunks there are, and a few that were in tables and are not any more.
    func chunkCount() throws -> Int {
        do {
            return try transaction.count(databases.chunks) + tables().reduce(0) { $0 + Int($1.count) }
        } catch let error as LMDBError {
            throw error.asCairnError(path)
        }
    }

    /// The ids of all chunks, in no order.
    func scanChunkIDs(_ body: (ChunkID) -> Void) throws {
        try scan(databases.chunks) { key, _ in
            guard key.count == 32 else { throw damaged("has a chunk entry that is none") }
            body(ChunkID(key))
            return true
        }
        try scan(databases.tables) { _, value in
            guard let part = ChunkTablePart(value) else { throw damagedPart }
            for index in 0..<part.count { body(part.id(index)) }
            return true
        }
    }

    /// All chunks, first those in the tree and then table by table, each in the order of the ids, until `body` returns false.
    func scanChunks(_ body: (ChunkID, ChunkLocation) throws -> Bool) throws {
        var goesOn = true
        try scan(databases.chunks) { key, value in
            guard key.count == 32, let location = ChunkLocation(value) else {
                throw damaged("has a chunk entry that is none")
            }
            goesOn = try body(ChunkID(key), location)
            return goesOn
        }
        guard goesOn else { return }
        try scan(databases.tables) { _, value in
            guard let entries = ChunkTablePart(value)?.entries() else { throw damagedPart }
            for (id, location) in entries where goesOn { goesOn = try body(id, location) }
            return goesOn
        }
    }
}
