import CPlanes
import ChunkStore
import Platform

/// One sample as a save encodes it: its planes, how each is compressed, and the payload.
struct EncodedSample {
    let searches: PlaneCoder.Searches
    let planes: [[UInt8]]
    let payload: [UInt8]?

    /// The planes that are compressed at all, and how.
    var compressed: [(plane: [UInt8], search: ZstdCompressor.Search)] {
        zip(planes, searches).compactMap { plane, search in search.map { (plane, $0) } }
    }

    init(_ samples: Samples, _ index: Int, isDelta: Bool, _ coder: PlaneCoder, _ room: Buffer) {
        let chunk = samples.chunk(index)
        let base = isDelta ? samples.base(index) : nil
        searches =
            coder.trial(
                Self.middle(chunk), base: base.map(Self.middle), elementSize: Samples.elementSize,
                planes: room.bytes
            ).searches
        let length = coder.encode(
            chunk, base: base, elementSize: Samples.elementSize, searches, into: room.bytes)
        payload = length.map { [UInt8](room.bytes[..<$0]) }
        let elements = chunk.count / Samples.elementSize
        cp_split(
            chunk.baseAddress, base?.baseAddress, elements, Samples.elementSize, room.bytes.baseAddress)
        planes = (0..<Samples.elementSize).map {
            [UInt8](room.bytes[$0 * elements..<($0 + 1) * elements])
        }
    }

    /// What a save tries encodings on.
    private static func middle(_ chunk: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let size = 32 << 10
        let start = (chunk.count - size) / 2 / 8 * 8
        return UnsafeRawBufferPointer(rebasing: chunk[start..<start + size])
    }

    static func all(_ samples: Samples, isDelta: Bool) throws -> [EncodedSample] {
        let coder = try PlaneCoder(chunkSize: Samples.chunkSize)
        let room = try Buffer(size: 2 * Samples.chunkSize)
        return (0..<samples.count).map { EncodedSample(samples, $0, isDelta: isDelta, coder, room) }
    }
}
