import Platform

/// SHA-256 of one chunk, again and again.
final class Hashing: Work {
    private let hasher = SHA256Hasher()
    private let chunk = [UInt8](repeating: 0, count: Samples.chunkSize)

    func step() -> Int {
        chunk.withUnsafeBytes { _ = hasher.digest($0) }
        return chunk.count
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
