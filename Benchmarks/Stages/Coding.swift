import CLimits
import CPlanes
import ChunkStore
import Platform

/// Whole chunks into payloads.
final class Encoding: Work {
    private let samples: Samples
    private let isDelta: Bool
    private let encoded: [EncodedSample]
    private let coder: PlaneCoder
    private let room: Buffer
    private var next = 0

    init(_ samples: Samples, isDelta: Bool, _ encoded: [EncodedSample]) throws {
        self.samples = samples
        self.isDelta = isDelta
        self.encoded = encoded
        coder = try PlaneCoder(chunkSize: Samples.chunkSize)
        room = try Buffer(size: 2 * Samples.chunkSize)
    }

    func step() -> Int {
        let index = next
        next = (next + 1) % encoded.count
        _ = coder.encode(
            samples.chunk(index), base: isDelta ? samples.base(index) : nil,
            elementSize: Samples.elementSize,
            encoded[index].searches, into: room.bytes)
        return Samples.chunkSize
    }
}

/// What encoding can't do without: the loop that splits, libzstd on the planes that are compressed, a copy of the others.
final class BareEncoding: Work {
    private let samples: Samples
    private let isDelta: Bool
    private let encoded: [EncodedSample]
    private let symbols = lm_makeCompressor(0)!
    private let matches = lm_makeCompressor(1)!
    private let planes: Buffer
    private let room: Buffer
    private var next = 0

    init(_ samples: Samples, isDelta: Bool, _ encoded: [EncodedSample]) throws {
        self.samples = samples
        self.isDelta = isDelta
        self.encoded = encoded
        planes = try Buffer(size: Samples.chunkSize)
        room = try Buffer(size: 2 * Samples.chunkSize)
    }

    deinit {
        lm_freeCompressor(symbols)
        lm_freeCompressor(matches)
    }

    func step() -> Int {
        let index = next
        next = (next + 1) % encoded.count
        let elements = Samples.chunkSize / Samples.elementSize
        cp_split(
            samples.chunk(index).baseAddress, isDelta ? samples.base(index).baseAddress : nil, elements,
            Samples.elementSize, planes.bytes.baseAddress)
        var position = 0
        for (number, search) in encoded[index].searches.enumerated() {
            let plane = planes.bytes.baseAddress! + number * elements
            let target = room.bytes.baseAddress! + position
            if let search {
                position += lm_compress(
                    search == .matches ? matches : symbols, plane, elements, target,
                    room.bytes.count - position)
            } else {
                target.copyMemory(from: plane, byteCount: elements)
                position += elements
            }
        }
        return Samples.chunkSize
    }
}

/// Payloads into chunks; with a base, which is copied to where the chunk is to be.
final class Decoding: Work {
    private let samples: Samples
    private let isDelta: Bool
    private let payloads: [(index: Int, payload: [UInt8])]
    private let coder: PlaneCoder
    private let target: Buffer
    private var next = 0

    init(_ samples: Samples, isDelta: Bool, _ encoded: [EncodedSample]) throws {
        self.samples = samples
        self.isDelta = isDelta
        payloads = Self.payloads(encoded)
        coder = try PlaneCoder(chunkSize: Samples.chunkSize)
        target = try Buffer(size: Samples.chunkSize)
    }

    /// Of the samples that shrink.
    static func payloads(_ encoded: [EncodedSample]) -> [(index: Int, payload: [UInt8])] {
        encoded.enumerated().compactMap { index, sample in sample.payload.map { (index, $0) } }
    }

    func step() -> Int {
        let (index, payload) = payloads[next]
        next = (next + 1) % payloads.count
        if isDelta { target.bytes.copyMemory(from: samples.base(index)) }
        let isWhole = payload.withUnsafeBytes { coder.decode($0, hasBase: isDelta, into: target.bytes) }
        precondition(isWhole)
        return Samples.chunkSize
    }
}

/// What decoding can't do without: libzstd on the planes that are compressed, and the loop that merges.
final class BareDecoding: Work {
    private let samples: Samples
    private let isDelta: Bool
    private let payloads: [(index: Int, payload: [UInt8])]
    private let decompressor = lm_makeDecompressor()!
    private let planes: Buffer
    private let target: Buffer
    private var next = 0

    init(_ samples: Samples, isDelta: Bool, _ encoded: [EncodedSample]) throws {
        self.samples = samples
        self.isDelta = isDelta
        payloads = Decoding.payloads(encoded)
        planes = try Buffer(size: Samples.chunkSize)
        target = try Buffer(size: Samples.chunkSize)
    }

    deinit { lm_freeDecompressor(decompressor) }

    func step() -> Int {
        let (index, payload) = payloads[next]
        next = (next + 1) % payloads.count
        let elements = Samples.chunkSize / Samples.elementSize
        if isDelta { target.bytes.copyMemory(from: samples.base(index)) }
        payload.withUnsafeBytes { payload in
            withUnsafeTemporaryAllocation(of: UnsafeRawPointer?.self, capacity: Samples.elementSize) {
                pointers in
                var position = 1 + 4 * Samples.elementSize
                for plane in pointers.indices {
                    let length = Int(payload.loadUnaligned(fromByteOffset: 1 + 4 * plane, as: UInt32.self))
                    let source = payload.baseAddress! + position
                    position += length
                    pointers[plane] = source
                    guard length < elements else { continue }
                    let room = planes.bytes.baseAddress! + plane * elements
                    precondition(lm_decompress(decompressor, source, length, room, elements) == elements)
                    pointers[plane] = UnsafeRawPointer(room)
                }
                cp_merge(
                    pointers.baseAddress, elements, Samples.elementSize, isDelta ? 1 : 0,
                    target.bytes.baseAddress)
            }
        }
        return Samples.chunkSize
    }
}
