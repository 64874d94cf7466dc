internal import CLMDB
internal import Platform

/// One transaction on the index's file, with small keys and values as bytes.
final class LMDBTransaction {
    /// Stays open as long as the transaction does.
    private let environment: LMDBEnvironment
    private let pointer: OpaquePointer
    private var isOpen = true

    init(_ environment: LMDBEnvironment, readOnly: Bool) throws(LMDBError) {
        var created: OpaquePointer?
        try LMDBError.check(
            mdb_txn_begin(environment.pointer, nil, readOnly ? UInt32(MDB_RDONLY) : 0, &created))
        pointer = created!
        self.environment = environment
    }

    deinit { abort() }

    func abort() {
        guard isOpen else { return }
        isOpen = false
        mdb_txn_abort(pointer)
    }

    /// Ends it and keeps what it did. After a failure the environment must be closed and opened anew.
    func commit() throws(LMDBError) {
        isOpen = false
        try LMDBError.check(mdb_txn_commit(pointer))
    }

    func open(_ name: String, create: Bool) throws(LMDBError) -> MDB_dbi {
        var handle: MDB_dbi = 0
        try LMDBError.check(mdb_dbi_open(pointer, name, create ? UInt32(MDB_CREATE) : 0, &handle))
        return handle
    }

    /// The number of the state that it reads, or of the one that it makes.
    var id: Int { mdb_txn_id(pointer) }

    /// Bytes of the branch, leaf and overflow pages of one database.
    func usedBytes(_ database: MDB_dbi) throws(LMDBError) -> UInt64 {
        var status = MDB_stat()
        try LMDBError.check(mdb_stat(pointer, database, &status))
        var info = MDB_envinfo()
        try LMDBError.check(mdb_env_info(environment.pointer, &info))
        // Not the last page: a transaction that is not committed has pages behind it.
        let pageSize = Int(status.ms_psize)
        let most = info.me_mapsize / pageSize
        var pages = 0
        for count in [status.ms_branch_pages, status.ms_leaf_pages, status.ms_overflow_pages] {
            guard count >= 0, count <= most else { throw LMDBError.corrupted }
            pages += count
        }
        return UInt64(pages * pageSize)
    }

    func count(_ database: MDB_dbi) throws(LMDBError) -> Int {
        var status = MDB_stat()
        try LMDBError.check(mdb_stat(pointer, database, &status))
        return status.ms_entries
    }

    /// The value of a key, as bytes that live until the next write, or nil.
    func get<R>(
        _ database: MDB_dbi, _ key: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> R
    ) throws(LMDBError) -> R? {
        var key = MDB_val(key)
        var value = MDB_val()
        let code = mdb_get(pointer, database, &key, &value)
        if code == MDB_NOTFOUND { return nil }
        try LMDBError.check(code)
        return body(UnsafeRawBufferPointer(value))
    }

    func get(_ database: MDB_dbi, _ key: [UInt8]) throws(LMDBError) -> [UInt8]? {
        var result: Result<[UInt8]?, LMDBError> = .success(nil)
        key.withUnsafeBytes { bytes in
            result = Result { () throws(LMDBError) in try get(database, bytes) { [UInt8]($0) } }
        }
        return try result.get()
    }

    /// - Parameter append: the key is greater than all that are there.
    func put(
        _ database: MDB_dbi, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer,
        append: Bool = false
    ) throws(LMDBError) {
        var key = MDB_val(key)
        var value = MDB_val(value)
        try LMDBError.check(mdb_put(pointer, database, &key, &value, append ? UInt32(MDB_APPEND) : 0))
    }

    func put(_ database: MDB_dbi, _ key: [UInt8], _ value: [UInt8]) throws(LMDBError) {
        var result: Result<Void, LMDBError> = .success(())
        key.withUnsafeBytes { key in
            value.withUnsafeBytes { value in
                result = Result { () throws(LMDBError) in try put(database, key, value) }
            }
        }
        try result.get()
    }

    /// Returns false where the key was not there.
    @discardableResult
    func delete(_ database: MDB_dbi, _ key: UnsafeRawBufferPointer) throws(LMDBError) -> Bool {
        var key = MDB_val(key)
        let code = mdb_del(pointer, database, &key, nil)
        if code == MDB_NOTFOUND { return false }
        try LMDBError.check(code)
        return true
    }

    @discardableResult
    func delete(_ database: MDB_dbi, _ key: [UInt8]) throws(LMDBError) -> Bool {
        var result: Result<Bool, LMDBError> = .success(false)
        key.withUnsafeBytes { bytes in
            result = Result { () throws(LMDBError) in try delete(database, bytes) }
        }
        return try result.get()
    }

    /// Visits the entries in the order of their keys, from the first that is not below `start`, until `body` returns false.
    /// - Throws: `MDB_CORRUPTED` where the keys are out of order, or not as many as the database says: pages have no checksums.
    func scan(
        _ database: MDB_dbi, from start: [UInt8] = [],
        _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws -> Bool
    ) throws {
        var cursor: OpaquePointer?
        try LMDBError.check(mdb_cursor_open(pointer, database, &cursor))
        defer { mdb_cursor_close(cursor) }
        var key = MDB_val()
        var value = MDB_val()
        var code = start.withUnsafeBytes { bytes in
            if bytes.isEmpty { return mdb_cursor_get(cursor, &key, &value, MDB_FIRST) }
            key = MDB_val(bytes)
            return mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE)
        }
        var visited = 0
        var previous: MDB_val?
        while code != MDB_NOTFOUND {
            try LMDBError.check(code)
            if var previous, mdb_cmp(pointer, database, &previous, &key) >= 0 { throw LMDBError.corrupted }
            previous = key
            visited += 1
            guard try body(UnsafeRawBufferPointer(key), UnsafeRawBufferPointer(value)) else { return }
            code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)
        }
        if start.isEmpty, try visited != count(database) { throw LMDBError.corrupted }
    }

    /// Visits the entries from the last that is not above `start` down to the first, until `body` returns false.
    func scanBackwards(
        _ database: MDB_dbi, from start: [UInt8],
        _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) throws -> Bool
    ) throws {
        var cursor: OpaquePointer?
        try LMDBError.check(mdb_cursor_open(pointer, database, &cursor))
        defer { mdb_cursor_close(cursor) }
        var key = MDB_val()
        var value = MDB_val()
        var code: Int32 = 0
        let isExact = start.withUnsafeBytes { bytes in
            key = MDB_val(bytes)
            code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE)
            return code == 0 && UnsafeRawBufferPointer(key).elementsEqual(bytes)
        }
        if !isExact {
            if code != MDB_NOTFOUND { try LMDBError.check(code) }
            code = mdb_cursor_get(cursor, &key, &value, code == MDB_NOTFOUND ? MDB_LAST : MDB_PREV)
        }
        while code != MDB_NOTFOUND {
            try LMDBError.check(code)
            guard try body(UnsafeRawBufferPointer(key), UnsafeRawBufferPointer(value)) else { return }
            code = mdb_cursor_get(cursor, &key, &value, MDB_PREV)
        }
    }
}

extension MDB_val {
    fileprivate init(_ bytes: UnsafeRawBufferPointer) {
        // LMDB only reads keys and values that it is given.
        self.init(mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
    }
}

extension UnsafeRawBufferPointer {
    fileprivate init(_ value: MDB_val) { self.init(start: value.mv_data, count: value.mv_size) }
}
