internal import CLMDB
internal import Platform

/// A failure of LMDB, by its own number or an errno value.
struct LMDBError: Error {
    let code: Int32

    static func check(_ code: Int32) throws(LMDBError) {
        guard code == 0 else { throw LMDBError(code: code) }
    }

    static let corrupted = LMDBError(code: MDB_CORRUPTED)
    static let notFound = LMDBError(code: MDB_NOTFOUND)

    var isNotFound: Bool { code == MDB_NOTFOUND }
    var isOutOfMemory: Bool { code == 12 }  // ENOMEM

    func asCairnError(_ path: Path) -> CairnError {
        if code > 0 { return .system(code, "use the index", path) }
        let text = String(cString: mdb_strerror(code))
        return CairnError(
            .damage, "the index \(path) is damaged (\(text)); run `cairn repair`, which rebuilds it",
            path: path.text)
    }
}

/// One LMDB file, open. `MDB_NOLOCK`: whoever uses it holds the store's own locks.
final class LMDBEnvironment: @unchecked Sendable {
    // Unchecked: the index that owns it uses it from one thread at a time.
    let pointer: OpaquePointer

    /// Address space for the map, set once; halved where there is less, down to 4 times the file.
    private static let mapSize: UInt64 = 64 << 30

    init(_ path: Path, readOnly: Bool) throws {
        let size = try FileSystem.status(path, followLinks: true)?.size ?? 0
        var map = Self.mapSize
        while true {
            do {
                pointer = try Self.open(path, readOnly: readOnly, map: map)
                return
            } catch  where error.isOutOfMemory && map / 2 >= max(4 * size, 16 << 20) {
                map /= 2
            } catch {
                throw error.asCairnError(path)
            }
        }
    }

    private static func open(_ path: Path, readOnly: Bool, map: UInt64) throws(LMDBError) -> OpaquePointer {
        var created: OpaquePointer?
        try LMDBError.check(mdb_env_create(&created))
        let flags = UInt32(MDB_NOLOCK | MDB_NOSUBDIR | MDB_NOTLS) | (readOnly ? UInt32(MDB_RDONLY) : 0)
        do throws(LMDBError) {
            try LMDBError.check(mdb_env_set_maxdbs(created, 16))
            try LMDBError.check(mdb_env_set_mapsize(created, Int(map)))
            try LMDBError.check(path.withCString { mdb_env_open(created, $0, flags, 0o666) })
            return created!
        } catch {
            mdb_env_close(created)
            throw error
        }
    }

    deinit { mdb_env_close(pointer) }
}
