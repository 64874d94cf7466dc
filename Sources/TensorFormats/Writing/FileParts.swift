/// A file that is to be written: what it is made of, in order, without the bytes of any tensor.
///
/// Every length is known from the start, so that the parts can be written in any order, or beside one another.
public struct FileParts: Sendable, Equatable {
    public enum Part: Sendable, Equatable {
        /// These bytes.
        case literal([UInt8])
        /// The bytes of the content of this number, of which there are `byteCount`.
        case content(Int, byteCount: UInt64)
        /// 4 bytes: the CRC-32 of that content, little endian. A caller that does not compute it writes 0, which
        /// stands for "not computed".
        case checksum(Int)

        /// Bytes.
        public var length: UInt64 {
            switch self {
            case .literal(let bytes): UInt64(bytes.count)
            case .content(_, let byteCount): byteCount
            case .checksum: 4
            }
        }
    }

    /// No two literals follow each other, and none is empty; a content may be.
    public private(set) var parts: [Part] = []
    /// Bytes of the whole file.
    public private(set) var length: UInt64 = 0

    public init() {}

    mutating func append(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        length += UInt64(bytes.count)
        if case .literal(var before) = parts.last {
            // Taken out, so that appending copies nothing.
            parts.removeLast()
            before += bytes
            parts.append(.literal(before))
        } else {
            parts.append(.literal(bytes))
        }
    }

    mutating func appendContent(_ content: Int, byteCount: UInt64) {
        length += byteCount
        parts.append(.content(content, byteCount: byteCount))
    }

    mutating func appendChecksum(of content: Int) {
        length += 4
        parts.append(.checksum(content))
    }

    mutating func append(_ file: FileParts) {
        for part in file.parts {
            switch part {
            case .literal(let bytes): append(bytes)
            case .content(let content, let byteCount): appendContent(content, byteCount: byteCount)
            case .checksum(let content): appendChecksum(of: content)
            }
        }
    }
}
