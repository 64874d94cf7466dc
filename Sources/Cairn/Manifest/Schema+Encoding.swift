public import ChunkStore

extension Schema {
    /// The same value gives the same bytes, so that an unchanged schema is stored once.
    ///
    /// - Precondition: `check` passes.
    public func encoded() -> [UInt8] {
        do { try check() } catch { preconditionFailure("a schema that \(error)") }
        return written()
    }

    /// Accepts exactly what `encoded` writes.
    ///
    /// - Parameter fileSize: bytes of the file, where they are known, which the parts must then add up to.
    public init(decoding bytes: [UInt8], fileSize: UInt64? = nil) throws(FormatError) {
        var reader = ByteReader(bytes)
        try reader.expect("CSC1")
        format = try reader.string()
        blobLengths = []
        for _ in 0..<(try reader.items()) { blobLengths.append(try reader.varint()) }
        tensors = []
        for _ in 0..<(try reader.items(each: 6)) { tensors.append(try Tensor(from: &reader)) }
        parts = []
        for _ in 0..<(try reader.items()) {
            let kind = try reader.count()
            parts.append(kind == 0 ? .literal(try reader.bytes()) : .blob(kind - 1))
        }
        try reader.expectEnd()
        try check(fileSize: fileSize)
    }

    func written() -> [UInt8] {
        var writer = ByteWriter(capacity: 64 + tensors.count * 64)
        writer.raw("CSC1".utf8)
        writer.string(format)
        writer.varint(blobLengths.count)
        for length in blobLengths { writer.varint(length) }
        writer.varint(tensors.count)
        for tensor in tensors { tensor.write(to: &writer) }
        writer.varint(parts.count)
        for part in parts {
            switch part {
            case .literal(let bytes):
                writer.varint(0)
                writer.bytes(bytes)
            case .blob(let index):
                writer.varint(index + 1)
            }
        }
        return writer.bytes
    }
}

extension Schema.Tensor {
    fileprivate init(from reader: inout ByteReader) throws(FormatError) {
        name = try reader.string()
        dtype = try reader.string()
        shape = []
        for _ in 0..<(try reader.items()) { shape.append(try reader.varint()) }
        blob = try reader.count()
        offset = try reader.varint()
        length = try reader.varint()
    }

    fileprivate func write(to writer: inout ByteWriter) {
        writer.string(name)
        writer.string(dtype)
        writer.varint(shape.count)
        for size in shape { writer.varint(size) }
        writer.varint(blob)
        writer.varint(offset)
        writer.varint(length)
    }
}
