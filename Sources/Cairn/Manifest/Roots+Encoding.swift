public import ChunkStore
internal import Platform

extension Roots {
    /// The same value gives the same bytes.
    ///
    /// - Precondition: `check` passes.
    public func encoded() -> [UInt8] {
        do { try check() } catch { preconditionFailure("roots that \(error)") }
        var writer = ByteWriter(capacity: 16 + entries.count * 96)
        writer.raw("CRT1".utf8)
        writer.varint(entries.count)
        for entry in entries { entry.write(to: &writer) }
        return writer.bytes
    }

    /// Accepts exactly what `encoded` writes.
    ///
    /// - Parameter schema: gives the schema that a blob holds; it says how many ids a split file has and
    ///   which of them are there. Called once a split file, so the caller remembers what it has decoded.
    /// - Throws: `FormatError`; or what `schema` throws, with the file's name if it is a `CairnError`.
    public init(decoding bytes: [UInt8], schema: (BlobRef) throws -> Schema) throws {
        var reader = ByteReader(bytes)
        try reader.expect("CRT1")
        entries = []
        for _ in 0..<(try reader.items(each: 12)) {
            entries.append(try Entry(from: &reader, schema: schema))
        }
        try reader.expectEnd()
        try check()
    }
}

extension Roots.Entry {
    fileprivate init(from reader: inout ByteReader, schema: (BlobRef) throws -> Schema) throws {
        path = try reader.bytes()
        let kind = try reader.u8()
        mode = UInt16(try reader.count(limit: 0o7777))
        mtime = try reader.i64()
        nanoseconds = UInt32(try reader.count(limit: 999_999_999))
        switch kind {
        case 0:
            do {
                self.kind = .file(try Roots.FileContent(from: &reader, schema: schema))
            } catch let error as CairnError {
                throw SchemaDamage(file: Path.text(of: path), cause: error)
            }
        case 1: self.kind = .folder
        case 2: self.kind = .link(target: try reader.bytes())
        default: throw FormatError("holds an entry of the unknown kind \(kind)")
        }
    }

    fileprivate func write(to writer: inout ByteWriter) {
        writer.bytes(path)
        switch kind {
        case .file: writer.u8(0)
        case .folder: writer.u8(1)
        case .link: writer.u8(2)
        }
        writer.varint(UInt64(mode))
        writer.i64(mtime)
        writer.varint(UInt64(nanoseconds))
        switch kind {
        case .folder: break
        case .link(let target): writer.bytes(target)
        case .file(let content): content.write(to: &writer)
        }
    }
}

extension Roots.FileContent {
    fileprivate init(from reader: inout ByteReader, schema: (BlobRef) throws -> Schema) throws {
        switch try reader.varint() {
        case 0:
            self = .opaque(try BlobRef(from: &reader))
        case 1:
            let reference = try BlobRef(from: &reader)
            guard reference.length > 0 else {
                throw FormatError("holds a file that is split without a schema")
            }
            var blobs: [ChunkID] = []
            for length in try schema(reference).blobLengths {
                blobs.append(try BlobRef(length: length, from: &reader).id)
            }
            self = .split(schema: reference, blobs: blobs)
        case let kind:
            throw FormatError("holds a file of the unknown kind \(kind)")
        }
    }

    fileprivate func write(to writer: inout ByteWriter) {
        switch self {
        case .opaque(let blob):
            writer.varint(0)
            blob.write(to: &writer)
        case .split(let schema, let blobs):
            writer.varint(1)
            schema.write(to: &writer)
            for id in blobs where id != .zero { writer.raw(id) }
        }
    }
}
