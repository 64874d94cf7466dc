/// The CRC-32 of zip files.
///
/// It is computed piece by piece, and the pieces of something may be computed apart from each other and in any order:
/// `appending(_:byteCount:)` puts them together.
public struct CRC32: Sendable, Equatable {
    /// Of the bytes so far; 0 for none.
    public private(set) var value: UInt32

    public init() { value = 0 }

    public init(_ bytes: [UInt8]) {
        self.init()
        bytes.withUnsafeBytes { update($0) }
    }

    /// Goes on with these bytes, at about 2 GB/s.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard let start = bytes.baseAddress else { return }
        var crc = ~value
        var position = 0
        Self.tables.withUnsafeBufferPointer { tables in
            // 16 bytes at once, each with a table of its own that knows how far it is from the end.
            while bytes.count - position >= 16 {
                let place = start + position
                let first = UInt64(littleEndian: place.loadUnaligned(as: UInt64.self)) ^ UInt64(crc)
                let second = UInt64(littleEndian: (place + 8).loadUnaligned(as: UInt64.self))
                crc = Self.fold(first, tables, from: 15) ^ Self.fold(second, tables, from: 7)
                position += 16
            }
            while position < bytes.count {
                crc = crc >> 8 ^ tables[Int(UInt8(truncatingIfNeeded: crc) ^ bytes[position])]
                position += 1
            }
        }
        value = ~crc
    }

    /// What 8 bytes come to, the first of which has `last` bytes of the 16 behind it.
    @inline(__always)
    private static func fold(
        _ bytes: UInt64, _ tables: UnsafeBufferPointer<UInt32>, from last: Int
    ) -> UInt32 {
        var result: UInt32 = 0
        for index in 0..<8 {
            let byte = Int(UInt8(truncatingIfNeeded: bytes >> UInt64(8 * index)))
            result ^= tables[(last - index) << 8 | byte]
        }
        return result
    }

    /// Of these bytes followed by others, of which there are `byteCount`.
    /// - Complexity: the logarithm of `byteCount`.
    public func appending(_ other: CRC32, byteCount: UInt64) -> CRC32 {
        // Behind each of this one's bits stand 8 * byteCount others: it is multiplied by x to that power.
        var power: UInt32 = 0x0080_0000  // x^8
        var factor: UInt32 = 0x8000_0000  // 1
        var remaining = byteCount
        while remaining > 0 {
            if remaining & 1 == 1 { factor = Self.multiply(factor, power) }
            power = Self.multiply(power, power)
            remaining >>= 1
        }
        var result = CRC32()
        result.value = Self.multiply(value, factor) ^ other.value
        return result
    }

    /// The product of two polynomials modulo that of the CRC, whose highest power is the lowest bit.
    private static func multiply(_ a: UInt32, _ b: UInt32) -> UInt32 {
        var (product, b): (UInt32, UInt32) = (0, b)
        for bit in (0..<32 as Range<UInt32>).reversed() {
            if a >> bit & 1 == 1 { product ^= b }
            b = b >> 1 ^ (b & 1 == 0 ? 0 : polynomial)
        }
        return product
    }

    private static let polynomial: UInt32 = 0xEDB8_8320

    /// 16 tables of 256: what a byte comes to with 0, 1, ... 15 bytes behind it.
    private static let tables: [UInt32] = {
        var tables = (0..<256 as Range<UInt32>).map { byte in
            (0..<8).reduce(byte) { value, _ in value >> 1 ^ (value & 1 == 0 ? 0 : polynomial) }
        }
        for index in 256..<16 * 256 {
            let before = tables[index - 256]
            tables.append(before >> 8 ^ tables[Int(UInt8(truncatingIfNeeded: before))])
        }
        return tables
    }()
}
