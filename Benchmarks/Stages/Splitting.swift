import CPlanes
import Platform

/// Chunks of floats into planes or back, and the copying of the same bytes.
final class Splitting: Work {
    enum Kind: Sendable { case split, merge, copy }

    /// More than the caches of a machine hold.
    static let largeSize = 128 << 20

    private let kind: Kind
    private let isDelta: Bool
    private let source: Buffer
    private let base: Buffer
    private let target: Buffer
    private var place = 0

    /// - Parameters:
    ///   - isDelta: against a base, which for a merge lies where the chunk is to be; a copy copies both.
    ///   - size: of each buffer: one chunk, which stays in the cache, or many.
    init(_ kind: Kind, isDelta: Bool, size: Int, _ samples: Samples) throws {
        self.kind = kind
        self.isDelta = isDelta
        source = try Buffer(size: size)
        target = try Buffer(size: size)
        base = isDelta && kind != .merge ? try Buffer(size: size) : source
        for start in stride(from: 0, to: size, by: Samples.chunkSize) {
            let index = start / Samples.chunkSize
            Self.chunk(base, at: start).copyMemory(from: samples.base(index))
            Self.chunk(source, at: start).copyMemory(from: samples.chunk(index))
            Self.chunk(target, at: start).copyMemory(from: samples.base(index))
        }
    }

    private static func chunk(_ buffer: Buffer, at start: Int) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[start..<start + Samples.chunkSize])
    }

    func step() -> Int {
        let source = Self.chunk(source, at: place)
        let target = Self.chunk(target, at: place)
        let base = Self.chunk(base, at: place)
        let elements = Samples.chunkSize / Samples.elementSize
        switch kind {
        case .split:
            cp_split(
                source.baseAddress, isDelta ? base.baseAddress : nil, elements, Samples.elementSize,
                target.baseAddress)
        case .merge:
            withUnsafeTemporaryAllocation(of: UnsafeRawPointer?.self, capacity: Samples.elementSize) {
                planes in
                for plane in planes.indices {
                    planes[plane] = UnsafeRawPointer(source.baseAddress! + plane * elements)
                }
                cp_merge(
                    planes.baseAddress, elements, Samples.elementSize, isDelta ? 1 : 0, target.baseAddress)
            }
        case .copy:
            if isDelta { target.copyMemory(from: UnsafeRawBufferPointer(base)) }
            target.copyMemory(from: UnsafeRawBufferPointer(source))
        }
        place = (place + Samples.chunkSize) % self.source.bytes.count
        return Samples.chunkSize
    }
}
