internal import Platform

extension ChunkStore {
    /// Runs `body` on this store, opened anew in a forked child, without its index: reading damaged pages may crash whoever does.
    /// - Returns: what `body` returns, or nil where it crashed.
    func inChild(_ body: (ChunkStore, _ isAlive: @escaping () -> Void) throws -> [UInt8]) throws -> [UInt8]? {
        try checkProcess()
        let outcome = try Process.inChild { isAlive in
            Self.reply {
                try body(try ChunkStore(folder, settings: settings, access: .read, repairing: true), isAlive)
            }
        }
        guard case .answered(let bytes) = outcome else { return nil }
        var reader = ByteReader(bytes)
        guard try reader.u8() == 1 else { return try reader.raw(reader.remaining) }
        throw CairnError(
            .init(rawValue: try reader.string()), try reader.string(), path: try reader.string(),
            errno: try Int32(bitPattern: reader.u32()))
    }

    /// 0 and the answer, or 1 and the error.
    private static func reply(_ body: () throws -> [UInt8]) -> [UInt8] {
        do {
            return [0] + (try body())
        } catch {
            let error = error as? CairnError ?? CairnError(.damage, "\(error)")
            var writer = ByteWriter()
            writer.u8(1)
            writer.string(error.code.rawValue)
            writer.string(error.message)
            writer.string(error.path ?? "")
            writer.u32(UInt32(bitPattern: error.errno ?? 0))
            return writer.bytes
        }
    }
}
