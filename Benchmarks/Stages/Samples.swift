import Glibc
import Platform

/// Chunks of 32-bit floats, and the ones at the same places of the save before.
struct Samples: Sendable {
    static let chunkSize = 256 << 10
    static let elementSize = 4

    let count: Int
    private let current: Buffer
    private let earlier: Buffer

    /// Of two files: the earlier state, and the one that is to be saved.
    init(_ paths: (earlier: Path, current: Path)) throws {
        earlier = try Self.read(paths.earlier)
        current = try Self.read(paths.current)
        count = current.bytes.count / Self.chunkSize
        guard count > 0, earlier.bytes.count == current.bytes.count else {
            throw CairnError(.usage, "the samples are to be as long as each other, and some chunks")
        }
    }

    /// Weights as training leaves them, more or less, and a small step from each to the next.
    init(synthetic count: Int) throws {
        self.count = count
        current = try Buffer(size: count * Self.chunkSize)
        earlier = try Buffer(size: count * Self.chunkSize)
        var generator = Noise()
        let old = earlier.bytes.bindMemory(to: Float.self)
        let new = current.bytes.bindMemory(to: Float.self)
        for index in old.indices {
            old[index] = 0.02 * generator.normal()
            new[index] = old[index] + 1e-4 * generator.normal()
        }
    }

    private static func read(_ path: Path) throws -> Buffer {
        let file = try File(path, .read)
        let size = Int(try file.status().size) / chunkSize * chunkSize
        let buffer = try Buffer(size: max(size, chunkSize))
        guard try file.read(into: buffer.bytes, at: 0) >= size else {
            throw CairnError(.changed, "\(path) has become shorter", path: path.text)
        }
        return buffer
    }

    func chunk(_ index: Int) -> UnsafeRawBufferPointer { part(current, index) }

    func base(_ index: Int) -> UnsafeRawBufferPointer { part(earlier, index) }

    private func part(_ buffer: Buffer, _ index: Int) -> UnsafeRawBufferPointer {
        let start = index % count * Self.chunkSize
        return UnsafeRawBufferPointer(rebasing: buffer.bytes[start..<start + Self.chunkSize])
    }
}

/// SplitMix64.
struct Noise {
    private var state: UInt64 = 1

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Of mean 0 and deviation 1.
    mutating func normal() -> Float {
        let radius = Float(next() >> 40 + 1) / 0x1p24
        let angle = Float(next() >> 40) / 0x1p24
        return (-2 * logf(radius)).squareRoot() * cosf(2 * .pi * angle)
    }

    mutating func fill(_ bytes: UnsafeMutableRawBufferPointer) {
        for offset in stride(from: 0, to: bytes.count - 7, by: 8) {
            bytes.storeBytes(of: next(), toByteOffset: offset, as: UInt64.self)
        }
    }
}
