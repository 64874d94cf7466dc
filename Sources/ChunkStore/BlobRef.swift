/// A blob's length and the id of its tree's root; no id where the length is zero. (Docs/format.md 5)
public struct BlobRef: Hashable, Sendable {
    /// Bytes.
    public var length: UInt64
    /// `.zero` for the empty blob.
    public var id: ChunkID

    public init(length: UInt64, id: ChunkID) {
        precondition((length == 0) == (id == .zero))
        self.length = length
        self.id = id
    }

    public static let empty = BlobRef(length: 0, id: .zero)

    public func write(to writer: inout ByteWriter) {
        writer.varint(length)
        if length > 0 { writer.raw(id) }
    }

    public init(from reader: inout ByteReader) throws(FormatError) {
        let length = try reader.varint()
        try self.init(length: length, from: &reader)
    }

    /// Where the length is known already and only the id is written.
    public init(length: UInt64, from reader: inout ByteReader) throws(FormatError) {
        guard length > 0 else {
            self = .empty
            return
        }
        let id = try reader.id()
        guard id != .zero else { throw FormatError("holds a blob without an id") }
        self.init(length: length, id: id)
    }
}
