import Glibc

extension UnsafeRawBufferPointer {
    /// Whether both hold the same bytes.
    public func isEqual(to other: UnsafeRawBufferPointer) -> Bool {
        count == other.count && (count == 0 || memcmp(baseAddress!, other.baseAddress!, count) == 0)
    }
}
