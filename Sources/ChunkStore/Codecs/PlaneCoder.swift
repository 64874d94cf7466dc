internal import CPlanes
package import Platform

/// Encodes and decodes the payloads of planes and deltas. (Docs/format.md 3) Each thread has its own.
///
/// A payload: the element size k (u8), the stored length of each plane (k times u32), the planes, and the bytes that fill no element. A
/// plane of as many bytes as there are elements is raw, a shorter one is a zstd frame.
package final class PlaneCoder {
    /// How each plane of a tensor is best compressed, the lowest first; nil for one that is only tried where it has runs.
    package typealias Searches = [ZstdCompressor.Search?]

    private var compressor: ZstdCompressor
    private var decompressor: ZstdDecompressor
    /// A plane after it was compressed, or all of them after they were decompressed.
    private let scratch: Buffer

    static let elementSizes = [1, 2, 4, 8]

    package init(chunkSize: Int) throws(CairnError) {
        scratch = try Buffer(size: (chunkSize + 4095) / 4096 * 4096)
        compressor = try ZstdCompressor()
        decompressor = try ZstdDecompressor()
    }

    /// Bytes before the planes.
    static func headerSize(_ elementSize: Int) -> Int { 1 + 4 * elementSize }

    /// Room that an encoding may take before it is known to be of no use.
    static func bound(_ count: Int) -> Int { headerSize(8) + count + 64 }

    /// Encodes a chunk, against a base where there is one.
    /// - Parameter target: room for the payload: `bound` bytes at least.
    /// - Returns: the payload's length; nil where it is not smaller than the chunk.
    package func encode(
        _ chunk: UnsafeRawBufferPointer, base: UnsafeRawBufferPointer?, elementSize: Int,
        _ searches: Searches,
        into target: UnsafeMutableRawBufferPointer
    ) -> Int? {
        let elements = chunk.count / elementSize
        target[0] = UInt8(elementSize)
        var position = Self.headerSize(elementSize)
        // Most of them stay raw, and mostly the first ones: those are where they are to be at once.
        let planes = UnsafeMutableRawBufferPointer(rebasing: target[position..<position + chunk.count])
        split(chunk, base, elementSize, into: planes)
        for plane in 0..<elementSize {
            let bytes = UnsafeRawBufferPointer(rebasing: planes[plane * elements..<(plane + 1) * elements])
            let length = compress(bytes, searches[plane], into: scratch.bytes)
            // Never behind the plane itself, as what comes before it has not grown.
            let payload =
                length == elements ? bytes : UnsafeRawBufferPointer(rebasing: scratch.bytes[..<length])
            if payload.baseAddress != UnsafeRawPointer(target.baseAddress! + position) {
                UnsafeMutableRawBufferPointer(rebasing: target[position...]).copyMemory(from: payload)
            }
            target.storeBytes(of: UInt32(length).littleEndian, toByteOffset: 1 + 4 * plane, as: UInt32.self)
            position += length
        }
        let tail = UnsafeRawBufferPointer(rebasing: planes[(elements * elementSize)...])
        UnsafeMutableRawBufferPointer(rebasing: target[position...]).copyMemory(from: tail)
        position += tail.count
        return position < chunk.count ? position : nil
    }

    /// Writes the planes, and behind them what fills no element; with a base, the planes of the differences.
    private func split(
        _ chunk: UnsafeRawBufferPointer, _ base: UnsafeRawBufferPointer?, _ elementSize: Int,
        into planes: UnsafeMutableRawBufferPointer
    ) {
        precondition(planes.count == chunk.count && (base == nil || base!.count == chunk.count))
        let elements = chunk.count / elementSize
        if elements > 0 {
            cp_split(chunk.baseAddress, base?.baseAddress, elements, elementSize, planes.baseAddress)
        }
        let tail = (elements * elementSize)...
        UnsafeMutableRawBufferPointer(rebasing: planes[tail]).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: chunk[tail]))
    }

    /// - Returns: the length of the frame, or the plane's own where it does not shrink by 1/64 and is to be kept raw.
    private func compress(
        _ plane: UnsafeRawBufferPointer, _ search: ZstdCompressor.Search?,
        into target: UnsafeMutableRawBufferPointer
    ) -> Int {
        let limit = plane.count - plane.count / 64
        guard limit > 0, let search = search ?? (Self.runs(plane) > 0 ? .matches : nil) else {
            return plane.count
        }
        let room = UnsafeMutableRawBufferPointer(rebasing: target[..<min(target.count, plane.count + 64)])
        guard let length = compressor.compress(plane, into: room, search), length < limit else {
            return plane.count
        }
        return length
    }

    /// Of 64 places that are spread over a plane, how many have the same byte eight times: rows of zeros, values that did not change.
    private static func runs(_ plane: UnsafeRawBufferPointer) -> Int {
        guard plane.count >= 8 else { return 0 }
        return (0..<64).count { place in
            let offset = (plane.count - 8) * place / 63
            let bytes = plane.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            return bytes == bytes &<< 8 | bytes &>> 56
        }
    }

    /// Tries what a tensor's planes shrink to, on a stretch of one of its chunks.
    /// - Parameter target: room for as many bytes.
    /// - Returns: the search for each plane, and the stored bytes for each byte of the stretch.
    package func trial(
        _ sample: UnsafeRawBufferPointer, base: UnsafeRawBufferPointer?, elementSize: Int,
        planes target: UnsafeMutableRawBufferPointer
    ) -> (searches: Searches, ratio: Double) {
        let elements = sample.count / elementSize
        let planes = UnsafeMutableRawBufferPointer(rebasing: target[..<sample.count])
        split(sample, base, elementSize, into: planes)
        var searches: Searches = []
        var total = 0
        for plane in 0..<elementSize {
            let bytes = UnsafeRawBufferPointer(rebasing: planes[plane * elements..<(plane + 1) * elements])
            let (search, length) = trial(bytes)
            searches.append(search)
            total += length
        }
        return (searches, sample.isEmpty ? 1 : Double(total) / Double(sample.count))
    }

    private func trial(_ plane: UnsafeRawBufferPointer) -> (ZstdCompressor.Search?, Int) {
        var symbols = compress(plane, .symbols, into: scratch.bytes)
        // Writing and reading the code takes as long as everything else, so it must be worth it.
        if symbols > plane.count - plane.count / 8 { symbols = plane.count }
        // Looking for matches takes four times as long, but for planes that have none at all, or little else.
        let hasRuns = Self.runs(plane) >= 16
        guard symbols == plane.count || hasRuns else { return (.symbols, symbols) }
        let matches = compress(plane, .matches, into: scratch.bytes)
        // A code takes at least an eighth of a plane where anything changes, and the sample may show less than others do.
        let isBetter = hasRuns ? matches < symbols + plane.count / 32 : matches + plane.count / 32 < symbols
        if isBetter { return (.matches, min(matches, plane.count)) }
        return symbols == plane.count ? (nil, symbols) : (.symbols, symbols)
    }

    /// Decodes a payload.
    /// - Parameters:
    ///   - hasBase: `target` holds the base, as long as the chunk.
    ///   - target: as long as the chunk.
    /// - Returns: false where the payload is none for a chunk of this length. Never reads or writes beyond the buffers.
    package func decode(
        _ payload: UnsafeRawBufferPointer, hasBase: Bool, into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard let elementSize = payload.first.map(Int.init), Self.elementSizes.contains(elementSize),
            payload.count >= Self.headerSize(elementSize), target.count <= scratch.bytes.count
        else { return false }
        let elements = target.count / elementSize
        var position = Self.headerSize(elementSize)
        let tail = target.count - elements * elementSize
        return withUnsafeTemporaryAllocation(of: UnsafeRawPointer?.self, capacity: elementSize) { planes in
            for plane in 0..<elementSize {
                let stored = payload.loadUnaligned(fromByteOffset: 1 + 4 * plane, as: UInt32.self)
                let length = Int(UInt32(littleEndian: stored))
                guard length <= elements, length <= payload.count - position else { return false }
                let bytes = UnsafeRawBufferPointer(rebasing: payload[position..<position + length])
                if length == elements {
                    planes[plane] = bytes.baseAddress
                } else {
                    let room = UnsafeMutableRawBufferPointer(
                        rebasing: scratch.bytes[plane * elements..<(plane + 1) * elements])
                    guard decompressor.decompress(bytes, into: room) else { return false }
                    planes[plane] = UnsafeRawPointer(room.baseAddress)
                }
                position += length
            }
            guard payload.count - position == tail else { return false }
            if elements > 0 {
                cp_merge(planes.baseAddress, elements, elementSize, hasBase ? 1 : 0, target.baseAddress)
            }
            UnsafeMutableRawBufferPointer(rebasing: target[(elements * elementSize)...]).copyMemory(
                from: UnsafeRawBufferPointer(rebasing: payload[position...]))
            return true
        }
    }
}
