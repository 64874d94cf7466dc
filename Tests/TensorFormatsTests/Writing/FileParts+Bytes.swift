@testable import TensorFormats

extension FileParts {
    /// The whole file.
    func bytes(of contents: [[UInt8]], withChecksums: Bool = true) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(length))
        for part in parts {
            switch part {
            case .literal(let literal): bytes += literal
            case .content(let content, _): bytes += contents[content]
            case .checksum(let content):
                bytes.appendLittleEndian(withChecksums ? CRC32(contents[content]).value : 0)
            }
        }
        return bytes
    }

    /// Whether its length is that of its parts, and no literal is empty or could be one with the one before it.
    var isSound: Bool {
        var previousIsLiteral = false
        for part in parts {
            guard case .literal(let bytes) = part else {
                previousIsLiteral = false
                continue
            }
            if bytes.isEmpty || previousIsLiteral { return false }
            previousIsLiteral = true
        }
        return parts.reduce(0) { $0 + $1.length } == length
    }
}

func bytes(hex: String) -> [UInt8] {
    let digits = hex.utf8.map { $0 < 0x40 ? $0 - 0x30 : $0 - 0x57 }
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}
