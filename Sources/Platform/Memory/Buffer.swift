internal import CLinux

/// Memory for direct I/O: aligned to 2 MiB, huge pages where there are any, not inherited by fork.
public final class Buffer: @unchecked Sendable {
    // Unchecked: whoever holds the buffer is the one that uses it; pools hand it over under their lock.
    public let bytes: UnsafeMutableRawBufferPointer

    /// - Parameter size: bytes, a multiple of 4,096.
    public init(size: Int) throws(CairnError) {
        precondition(size > 0 && size.isMultiple(of: 4096))
        guard let address = cl_mapBuffer(UInt64(size)) else {
            throw CairnError(
                .system, "not enough memory for a buffer of \(size) bytes; lower --memory or --jobs")
        }
        bytes = UnsafeMutableRawBufferPointer(start: address, count: size)
    }

    deinit { cl_unmapBuffer(bytes.baseAddress!, UInt64(bytes.count)) }
}
