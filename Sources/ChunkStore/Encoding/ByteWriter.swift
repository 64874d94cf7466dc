/// Appends the primitives of Docs/format.md 1 to an array of bytes.
public struct ByteWriter: Sendable {
    public private(set) var bytes: [UInt8]

    public init(capacity: Int = 0) {
        bytes = []
        bytes.reserveCapacity(capacity)
    }

    public var count: Int { bytes.count }

    /// Begins anew, with the memory that it has.
    public mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

    public mutating func u8(_ value: UInt8) { bytes.append(value) }
    public mutating func u16(_ value: UInt16) { fixed(value) }
    public mutating func u32(_ value: UInt32) { fixed(value) }
    public mutating func u64(_ value: UInt64) { fixed(value) }
    public mutating func i64(_ value: Int64) { fixed(UInt64(bitPattern: value)) }
    public mutating func f64(_ value: Double) { fixed(value.bitPattern) }

    /// An unsigned LEB128 number in its shortest form.
    public mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    public mutating func varint(_ value: Int) { varint(UInt64(value)) }

    /// Bytes as they are, without a length.
    public mutating func raw(_ value: some Sequence<UInt8>) { bytes.append(contentsOf: value) }

    public mutating func raw(_ id: ChunkID) { id.withUnsafeBytes { bytes.append(contentsOf: $0) } }

    /// `count` zero bytes.
    public mutating func zeros(_ count: Int) { bytes.append(contentsOf: repeatElement(0, count: count)) }

    /// A varint length and the bytes.
    public mutating func bytes(_ value: some Collection<UInt8>) {
        varint(value.count)
        bytes.append(contentsOf: value)
    }

    /// A varint length and the UTF-8 bytes.
    public mutating func string(_ value: String) {
        varint(value.utf8.count)
        bytes.append(contentsOf: value.utf8)
    }

    /// A map of doubles, sorted by the bytes of its keys.
    public mutating func map(_ value: [String: Double]) {
        varint(value.count)
        for (key, number) in value.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
            string(key)
            f64(number)
        }
    }

    /// A map of strings, sorted by the bytes of its keys.
    public mutating func map(_ value: [String: String]) {
        varint(value.count)
        for (key, text) in value.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
            string(key)
            string(text)
        }
    }

    /// The first 8 bytes of the SHA-256 of everything from `start` on.
    public mutating func check8(from start: Int = 0) {
        let id = bytes.withUnsafeBytes { ChunkID.of(UnsafeRawBufferPointer(rebasing: $0[start...])) }
        id.withUnsafeBytes { bytes.append(contentsOf: $0.prefix(8)) }
    }

    private mutating func fixed<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
}
