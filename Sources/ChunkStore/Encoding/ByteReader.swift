/// Bytes that do not follow Docs/format.md: a sentence's end, such as "ends in the middle of a number".
public struct FormatError: Error, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// Reads the primitives of Docs/format.md 1, and rejects what a `ByteWriter` would not have written.
public struct ByteReader: Sendable {
    private let source: [UInt8]
    public private(set) var position: Int
    private let end: Int

    public init(_ bytes: [UInt8]) {
        source = bytes
        position = 0
        end = bytes.count
    }

    public init(_ bytes: ArraySlice<UInt8>) { self.init([UInt8](bytes)) }

    public var remaining: Int { end - position }

    public mutating func u8() throws(FormatError) -> UInt8 {
        guard position < end else { throw Self.short }
        defer { position += 1 }
        return source[position]
    }

    public mutating func u16() throws(FormatError) -> UInt16 { try fixed() }
    public mutating func u32() throws(FormatError) -> UInt32 { try fixed() }
    public mutating func u64() throws(FormatError) -> UInt64 { try fixed() }
    public mutating func i64() throws(FormatError) -> Int64 { Int64(bitPattern: try fixed()) }
    public mutating func f64() throws(FormatError) -> Double { Double(bitPattern: try fixed()) }

    public mutating func varint() throws(FormatError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte = try u8()
            if shift == 63 && byte > 1 { throw FormatError("holds a number beyond 64 bits") }
            value |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    throw FormatError("holds a number that is not in its shortest form")
                }
                return value
            }
            shift += 7
        }
    }

    /// A varint that fits an `Int` and is at most `limit`.
    public mutating func count(limit: Int = .max) throws(FormatError) -> Int {
        let value = try varint()
        guard value <= UInt64(limit) else { throw FormatError("holds the absurd count \(value)") }
        return Int(value)
    }

    /// A count of items that take at least `each` bytes: never more than what is left can hold.
    public mutating func items(each: Int = 1) throws(FormatError) -> Int {
        let value = try varint()
        guard value <= UInt64(remaining / each) else { throw Self.short }
        return Int(value)
    }

    public mutating func raw(_ count: Int) throws(FormatError) -> [UInt8] {
        guard count >= 0, count <= remaining else { throw Self.short }
        defer { position += count }
        return [UInt8](source[position..<position + count])
    }

    public mutating func id() throws(FormatError) -> ChunkID {
        guard remaining >= 32 else { throw Self.short }
        defer { position += 32 }
        return source.withUnsafeBytes {
            ChunkID(UnsafeRawBufferPointer(rebasing: $0[position..<position + 32]))
        }
    }

    public mutating func bytes() throws(FormatError) -> [UInt8] { try raw(try count()) }

    public mutating func string() throws(FormatError) -> String {
        let count = try count()
        guard count <= remaining else { throw Self.short }
        defer { position += count }
        let bytes = source[position..<position + count]
        // Where the bytes are no UTF-8 the text has others; `String(validating:)` takes three times as long.
        let text = String(decoding: bytes, as: UTF8.self)
        guard text.utf8.elementsEqual(bytes) else { throw FormatError("holds a text that is not UTF-8") }
        return text
    }

    public mutating func zeros(_ count: Int) throws(FormatError) {
        guard try raw(count).allSatisfy({ $0 == 0 }) else { throw FormatError("holds other bytes than zero") }
    }

    /// The given bytes, such as a magic.
    public mutating func expect(_ text: StaticString) throws(FormatError) {
        let found = try raw(text.utf8CodeUnitCount)
        let wanted = text.withUTF8Buffer { [UInt8]($0) }
        guard found == wanted else { throw FormatError("does not begin with \(text)") }
    }

    /// The check8 of everything from `start` to here.
    public mutating func check8(from start: Int = 0) throws(FormatError) {
        let id = source.withUnsafeBytes { ChunkID.of(UnsafeRawBufferPointer(rebasing: $0[start..<position])) }
        let stored = try raw(8)
        guard id.withUnsafeBytes({ $0.prefix(8).elementsEqual(stored) }) else {
            throw FormatError("fails its checksum")
        }
    }

    public mutating func doubles() throws(FormatError) -> [String: Double] {
        try map { (reader) throws(FormatError) in try reader.f64() }
    }

    public mutating func strings() throws(FormatError) -> [String: String] {
        try map { (reader) throws(FormatError) in try reader.string() }
    }

    public func expectEnd() throws(FormatError) {
        guard remaining == 0 else { throw FormatError("goes on after its end") }
    }

    private mutating func map<Value>(
        _ value: (inout ByteReader) throws(FormatError) -> Value
    ) throws(FormatError) -> [String: Value] {
        var result: [String: Value] = [:]
        var previous: String?
        for _ in 0..<(try items(each: 2)) {
            let key = try string()
            if let previous, !previous.utf8.lexicographicallyPrecedes(key.utf8) {
                throw FormatError("holds a map that is not sorted")
            }
            previous = key
            result[key] = try value(&self)
        }
        return result
    }

    private mutating func fixed<T: FixedWidthInteger>() throws(FormatError) -> T {
        let size = MemoryLayout<T>.size
        guard remaining >= size else { throw Self.short }
        defer { position += size }
        return source.withUnsafeBytes {
            T(littleEndian: $0.loadUnaligned(fromByteOffset: position, as: T.self))
        }
    }

    private static let short = FormatError("ends too early")
}
