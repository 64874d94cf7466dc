internal import Platform

extension ChunkStore {
    /// The store's secret key for fingerprints: 16 bytes. nil where it can't be had: then there are no fingerprints, and everything is
    /// hashed.
    /// - Parameter makes: whether it is made where it is missing.
    public func fingerprintKey(makes: Bool) -> [UInt8]? {
        let path = folder.appending("key")
        if let key = Self.key(path) { return key }
        guard makes, !isReadOnly else { return nil }
        // Of several that make one at the same time, the first wins.
        _ = try? FileSystem.publish(
            Random.bytes(Fingerprinter.keySize), at: path, exclusive: true, mode: 0o600)
        return Self.key(path)
    }

    private static func key(_ path: Path) -> [UInt8]? {
        guard let key = try? File(path, .read).readToEnd(), key.count == Fingerprinter.keySize else {
            return nil
        }
        return key
    }

    /// The fingerprints that the last save of a run left; nil where there are none that can be trusted.
    public func fingerprints(run: String, key: [UInt8]) -> FingerprintTable? {
        guard let bytes = try? File(fingerprintPath(run), .read).readToEnd() else { return nil }
        return try? FingerprintTable(decoding: bytes, store: id, key: key)
    }

    /// Leaves fingerprints for the next save of a run. They are only a cache: what fails here costs that save time.
    public func setFingerprints(_ table: FingerprintTable, run: String, key: [UInt8]) {
        _ = try? FileSystem.makeFolder(folder.appending("fingerprints"))
        _ = try? FileSystem.publish(table.encoded(store: id, key: key), at: fingerprintPath(run), mode: 0o600)
    }

    /// Names of runs may begin with a dot, and names of files here not.
    private func fingerprintPath(_ run: String) -> Path { folder.appending("fingerprints/run-\(run)") }
}
