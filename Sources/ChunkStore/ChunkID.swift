public import Platform

/// The SHA-256 of a chunk's raw bytes: 32 bytes, in four words so that it hashes and compares without memory of its own.
public struct ChunkID: Hashable, Sendable, Comparable, CustomStringConvertible {
    private let words: (UInt64, UInt64, UInt64, UInt64)

    /// `bytes` are exactly 32.
    public init(_ bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count == 32)
        words = bytes.loadUnaligned(as: (UInt64, UInt64, UInt64, UInt64).self)
    }

    public init(_ digest: SHA256Digest) { self = digest.withUnsafeBytes { ChunkID($0) } }

    /// 64 hex digits, or nil.
    public init?(hex: some StringProtocol) {
        guard let bytes = [UInt8](hex: hex), bytes.count == 32 else { return nil }
        self = bytes.withUnsafeBytes { ChunkID($0) }
    }

    /// The id that stands for "none": 32 zero bytes.
    public static let zero = ChunkID(hex: String(repeating: "0", count: 64))!

    /// Hashes on the spot; workers keep a `SHA256Hasher` of their own instead.
    public static func of(_ bytes: UnsafeRawBufferPointer) -> ChunkID {
        ChunkID(SHA256Hasher().digest(bytes))
    }

    public static func of(_ bytes: [UInt8]) -> ChunkID { bytes.withUnsafeBytes { of($0) } }

    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try Swift.withUnsafeBytes(of: words, body)
    }

    public var bytes: [UInt8] { withUnsafeBytes { [UInt8]($0) } }

    public var hex: String { bytes.hex }

    public var description: String { hex }

    public static func == (a: ChunkID, b: ChunkID) -> Bool {
        a.words.0 == b.words.0 && a.words.1 == b.words.1 && a.words.2 == b.words.2 && a.words.3 == b.words.3
    }

    /// The order of the bytes, as LMDB keeps its keys.
    public static func < (a: ChunkID, b: ChunkID) -> Bool {
        if a.words.0 != b.words.0 { return a.words.0.bigEndian < b.words.0.bigEndian }
        if a.words.1 != b.words.1 { return a.words.1.bigEndian < b.words.1.bigEndian }
        if a.words.2 != b.words.2 { return a.words.2.bigEndian < b.words.2.bigEndian }
        return a.words.3.bigEndian < b.words.3.bigEndian
    }

    /// The first 8 bytes, which are as good as random.
    var prefix: UInt64 { words.0 }

    /// The last 8 bytes.
    var suffix: UInt64 { words.3 }

    public func hash(into hasher: inout Hasher) { hasher.combine(words.0) }
}
