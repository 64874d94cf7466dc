import COpenSSL

/// The 32 bytes of a SHA-256.
public struct SHA256Digest: Sendable {
    private let words: (UInt64, UInt64, UInt64, UInt64)

    init(_ words: (UInt64, UInt64, UInt64, UInt64)) { self.words = words }

    /// 32 zero bytes.
    static let none = SHA256Digest((0, 0, 0, 0))

    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try Swift.withUnsafeBytes(of: words, body)
    }
}

/// SHA-256 through OpenSSL's EVP. One a thread: the context is reused from chunk to chunk.
public struct SHA256Hasher: ~Copyable {
    // Fetched once for the process: fetching costs more than hashing a small chunk. OpenSSL's methods may be shared.
    private nonisolated(unsafe) static let method = EVP_MD_fetch(nil, "SHA256", nil)
    private let context: OpaquePointer

    public init() {
        guard Self.method != nil, let context = EVP_MD_CTX_new() else {
            preconditionFailure("OpenSSL has no SHA-256")
        }
        self.context = context
    }

    deinit { EVP_MD_CTX_free(context) }

    public func digest(_ bytes: UnsafeRawBufferPointer) -> SHA256Digest {
        begin()
        update(bytes)
        return finish()
    }

    public func begin() { precondition(EVP_DigestInit_ex2(context, Self.method, nil) == 1) }

    public func update(_ bytes: UnsafeRawBufferPointer) {
        precondition(EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) == 1)
    }

    public func finish() -> SHA256Digest {
        var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
        let done = withUnsafeMutableBytes(of: &words) {
            EVP_DigestFinal_ex(context, $0.bindMemory(to: UInt8.self).baseAddress, nil)
        }
        precondition(done == 1)
        return SHA256Digest(words)
    }
}
