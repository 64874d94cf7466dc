import Glibc

extension UnsafeRawBufferPointer {
    /// Whether both hold the same bytes.
    public func isEqual(to other: UnsafeRawBufferPointer) -> Bool {
        count == other.count && (count == 0 || memcmp(baseAddress!, other.baseAddress!, count) == 0)
    }

    /// Whether a text stands anywhere in the bytes.
    public func contains(_ text: StaticString) -> Bool {
        let length = text.utf8CodeUnitCount
        guard count >= length else { return false }
        return (0...count - length).contains { memcmp(baseAddress! + $0, text.utf8Start, length) == 0 }
    }
}
