import Platform

/// SHA-256 of as many chunks as a save takes in one go, again and again.
final class Hashing: Work {
    private let hasher = SHA256Hasher()
    private let bytes = [UInt8](repeating: 0, count: 16 * Samples.chunkSize)

    func step() -> Int {
        bytes.withUnsafeBytes { bytes in
            let chunks = (0..<16).map { number in
                UnsafeRawBufferPointer(
                    rebasing: bytes[number * Samples.chunkSize..<(number + 1) * Samples.chunkSize])
            }
            _ = hasher.digests(chunks)
        }
        return bytes.count
    }
}

/// The fingerprint of one chunk, again and again.
final class Fingerprinting: Work {
    private let fingerprinter = Fingerprinter(key: [UInt8](1...16))
    private let chunk = [UInt8](repeating: 0, count: Samples.chunkSize)

    func step() -> Int {
        chunk.withUnsafeBytes { _ = fingerprinter.fingerprint($0) }
        return chunk.count
    }
}
