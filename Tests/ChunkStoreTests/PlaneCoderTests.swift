import Platform
import Testing

@testable import ChunkStore

/// Every bit pattern comes back through planes and deltas, whatever the length.
@Suite struct PlaneCoderTests {
    static let chunkSize = 16_384
    /// Around whole numbers of every size, around blocks of numbers, and a whole chunk.
    static let lengths = [
        0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 17, 63, 511, 513, 1023, 4095, 4096, 4104, 8191, 16_383, 16_384,
    ]

    /// What is rare among random bits: infinities, NaN with payloads, denormals, zeros of both signs, by the bytes of a number.
    static func specials(_ size: Int) -> [UInt64] {
        switch size {
        case 1: [0, 0x7F, 0x80, 0xFF, 0x7C, 0xFC, 0x7B, 1, 0x81]
        case 2:
            [
                0, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0x7F81, 0xFFFF, 0x7C00, 0xFC00, 0x7C01, 1, 0x8001, 0x7FFF,
                0x0080,
            ]
        case 4:
            [
                0, 0x8000_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0x7F80_0001, 0xFFC1_2345, 1,
                0x8000_0001, 0x007F_FFFF,
                0x7FFF_FFFF, 0xFFFF_FFFF,
            ]
        default:
            [
                0, 1 << 63, 0x7FF0 << 48, 0xFFF0 << 48, 0x7FF8 << 48, 0x7FF0_0000_0000_0001, 1, 1 << 63 | 1,
                .max, .max >> 1,
            ]
        }
    }

    /// Random bits, or numbers as a tensor has them, among them special ones.
    static func bytes(_ count: Int, _ size: Int, _ generator: inout SeededGenerator) -> [UInt8] {
        let kind = Int.random(in: 0..<3, using: &generator)
        let specials = specials(size)
        var bytes: [UInt8] = []
        while bytes.count < count {
            var value = generator.next()
            if kind == 1 || (kind == 2 && value % 8 == 0) {
                value = specials.randomElement(using: &generator)!
            } else if kind == 2, size >= 4 {
                let number = Double.random(in: -0.05...0.05, using: &generator)
                value = size == 4 ? UInt64(Float(number).bitPattern) : number.bitPattern
            }
            withUnsafeBytes(of: value.littleEndian) { bytes += $0.prefix(size) }
        }
        return [UInt8](bytes.prefix(count))
    }

    static func bases(_ chunk: [UInt8], _ size: Int, _ generator: inout SeededGenerator) -> [[UInt8]] {
        let similar = chunk.map { generator.next() % 16 == 0 ? $0 &+ 1 : $0 }
        return [
            chunk, similar, bytes(chunk.count, size, &generator),
            [UInt8](repeating: 0xFF, count: chunk.count),
        ]
    }

    /// Encoded, or nil where that does not shrink.
    static func encode(_ coder: PlaneCoder, _ chunk: [UInt8], _ base: [UInt8]?, _ size: Int) -> [UInt8]? {
        var target = [UInt8](repeating: 0, count: PlaneCoder.bound(chunk.count))
        let length = chunk.withUnsafeBytes { chunk in
            target.withUnsafeMutableBytes { target in
                let searches = (0..<size).map {
                    $0.isMultiple(of: 2) ? ZstdCompressor.Search?.some(.symbols) : .matches
                }
                guard let base else {
                    return coder.encode(chunk, base: nil, elementSize: size, searches, into: target)
                }
                return base.withUnsafeBytes {
                    coder.encode(chunk, base: $0, elementSize: size, searches, into: target)
                }
            }
        }
        return length.map { [UInt8](target[..<$0]) }
    }

    /// The payload whose planes are all raw, by the sentences of the format alone.
    static func plain(_ chunk: [UInt8], _ base: [UInt8]?, _ size: Int) -> [UInt8] {
        let count = chunk.count / size
        let mask = size == 8 ? UInt64.max : (1 << (8 * UInt64(size))) - 1
        let number = { (bytes: [UInt8], index: Int) in
            bytes[index * size..<index * size + size].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        }
        let numbers = (0..<count).map { index -> UInt64 in
            let value = number(chunk, index)
            let bits = UInt64(8 * size)
            guard let base else { return (value << 1 | value >> (bits - 1)) & mask }
            let difference = (value &- number(base, index)) & mask
            let isNegative = difference >> (bits - 1) == 1
            return ((difference << 1) ^ (isNegative ? .max : 0)) & mask
        }
        var payload = [UInt8(size)]
        for _ in 0..<size { withUnsafeBytes(of: UInt32(count).littleEndian) { payload += $0 } }
        for plane in 0..<size {
            payload += numbers.map { UInt8(truncatingIfNeeded: $0 >> (8 * UInt64(plane))) }
        }
        return payload + chunk.suffix(chunk.count % size)
    }

    /// Bytes on either side of where a chunk is decoded to.
    private static let guardSize = 64

    /// Decodes between guard bytes, which must stay. nil where the decoder says that it is none.
    static func decode(_ coder: PlaneCoder, _ payload: [UInt8], _ base: [UInt8]?, _ count: Int) -> [UInt8]? {
        let border = [UInt8](repeating: 0xA5, count: guardSize)
        var target = border + (base ?? [UInt8](repeating: 0x5A, count: count)) + border
        let done = payload.withUnsafeBytes { payload in
            target.withUnsafeMutableBytes {
                let room = UnsafeMutableRawBufferPointer(rebasing: $0[guardSize..<guardSize + count])
                return coder.decode(payload, hasBase: base != nil, into: room)
            }
        }
        #expect(target.starts(with: border) && target.suffix(guardSize).elementsEqual(border))
        return done ? [UInt8](target[guardSize..<guardSize + count]) : nil
    }

    @Test(arguments: PlaneCoder.elementSizes, [1, 2, 3] as [UInt64])
    func whatIsEncodedComesBack(size: Int, seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed << 8 | UInt64(size))
        let coder = try PlaneCoder(chunkSize: Self.chunkSize)
        var shrunk = 0
        for count in Self.lengths {
            for _ in 0..<(count < 600 ? 4 : 1) {
                let chunk = Self.bytes(count, size, &generator)
                for base in [nil] + Self.bases(chunk, size, &generator).map(Optional.some) {
                    if count < 1024 {
                        let plain = Self.plain(chunk, base, size)
                        #expect(Self.decode(coder, plain, base, count) == chunk, "\(count) bytes, raw planes")
                    }
                    guard let payload = Self.encode(coder, chunk, base, size) else { continue }
                    #expect(payload.count < count)
                    #expect(Self.decode(coder, payload, base, count) == chunk, "\(count) bytes")
                    shrunk += 1
                }
            }
        }
        #expect(shrunk > 20)
    }

    /// An encoding does not depend on what the coder did before.
    @Test func aCoderKeepsNothingFromChunkToChunk() throws {
        var generator = SeededGenerator(seed: 4)
        let used = try PlaneCoder(chunkSize: Self.chunkSize)
        for size in PlaneCoder.elementSizes {
            let chunk = Self.bytes(5003, size, &generator)
            let base = Self.bases(chunk, size, &generator)[1]
            let fresh = try PlaneCoder(chunkSize: Self.chunkSize)
            #expect(Self.encode(used, chunk, base, size) == Self.encode(fresh, chunk, base, size))
        }
    }

    // MARK: - Payloads that are none

    /// Whether a payload's lengths fit a chunk of so many bytes: all that its header can say.
    private func fits(_ payload: [UInt8], _ count: Int) -> Bool {
        guard let size = payload.first.map(Int.init), PlaneCoder.elementSizes.contains(size),
            payload.count > 4 * size
        else { return false }
        let lengths = (0..<size).map { plane in
            payload[1 + 4 * plane..<5 + 4 * plane].reversed().reduce(0) { $0 << 8 | Int($1) }
        }
        return lengths.allSatisfy { $0 <= count / size }
            && 1 + 4 * size + lengths.reduce(0, +) + count % size == payload.count
    }

    private func mutated(_ payload: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
        var payload = payload
        for _ in 0..<Int.random(in: 1...3, using: &generator) {
            let place = payload.isEmpty ? 0 : Int.random(in: 0..<payload.count, using: &generator)
            switch Int.random(in: 0..<7, using: &generator) {
            case 0: payload.removeLast(Int.random(in: 0...min(payload.count, 40), using: &generator))
            case 1: payload.append(UInt8(truncatingIfNeeded: generator.next()))
            case 2 where !payload.isEmpty: payload[place] = UInt8(truncatingIfNeeded: generator.next())
            case 3 where !payload.isEmpty: payload[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            case 4 where !payload.isEmpty:
                payload[0] = [0, 1, 2, 3, 4, 8, 16, 255].randomElement(using: &generator)!
            case 5 where payload.count > 4:
                let field = 1 + 4 * Int.random(in: 0..<min(8, payload.count / 5 + 1), using: &generator)
                guard field + 4 <= payload.count else { continue }
                let value = [0, 1, .max, 1 << 31, UInt32(payload.count)].randomElement(using: &generator)!
                withUnsafeBytes(of: value.littleEndian) {
                    payload.replaceSubrange(field..<field + 4, with: $0)
                }
            case 6 where !payload.isEmpty:
                let end = min(payload.count, place + Int.random(in: 0..<64, using: &generator))
                payload.replaceSubrange(place..<end, with: payload[..<(end - place)])
            default: continue
            }
        }
        return payload
    }

    @Test(arguments: PlaneCoder.elementSizes, [11, 12, 13] as [UInt64])
    func noPayloadIsReadBeyondItsEndOrWrittenBeyondItsChunk(size: Int, seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed << 8 | UInt64(size))
        let coder = try PlaneCoder(chunkSize: Self.chunkSize)
        for round in 0..<20 {
            let count = Self.lengths.randomElement(using: &generator)!
            let chunk = Self.bytes(count, size, &generator)
            let base = Bool.random(using: &generator) ? Self.bases(chunk, size, &generator)[round % 4] : nil
            let payload = Self.encode(coder, chunk, base, size) ?? Self.plain(chunk, base, size)
            for _ in 0..<15 {
                let payload = mutated(payload, &generator)
                if Self.decode(coder, payload, base, count) != nil { #expect(fits(payload, count)) }
                // The same for a chunk of another length.
                let other = Self.lengths.randomElement(using: &generator)!
                if Self.decode(coder, payload, nil, other) != nil { #expect(fits(payload, other)) }
            }
            let noise = (0..<Int.random(in: 0..<300, using: &generator)).map { _ in
                UInt8(truncatingIfNeeded: generator.next())
            }
            if Self.decode(coder, noise, base, count) != nil { #expect(fits(noise, count)) }
        }
        let chunk = Self.bytes(9000, size, &generator)
        #expect(Self.decode(coder, Self.plain(chunk, nil, size), nil, 9000) == chunk, "the coder still works")
    }

    /// A payload of one plane that is these bytes.
    private func payload(_ frame: [UInt8]) -> [UInt8] {
        withUnsafeBytes(of: UInt32(frame.count).littleEndian) { [1] + $0 } + frame
    }

    private func frame(_ bytes: [UInt8]) throws -> [UInt8] {
        var compressor = try ZstdCompressor()
        var target = [UInt8](repeating: 0, count: ZstdCompressor.bound(bytes.count))
        let length = bytes.withUnsafeBytes { bytes in
            target.withUnsafeMutableBytes { compressor.compress(bytes, into: $0, .matches) }
        }
        return [UInt8](target[..<(try #require(length))])
    }

    @Test func aPlaneIsExactlyOneFrameOfItsLength() throws {
        let coder = try PlaneCoder(chunkSize: Self.chunkSize)
        // The same however it is rotated.
        let half = [UInt8](repeating: 255, count: 1000)
        let whole = half + half
        #expect(Self.decode(coder, payload(try frame(whole)), nil, 2000) == whole)
        let skipped: [UInt8] = [0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]
        var older = try frame(whole)
        older[0] = 0x27
        /// The bytes that say how many there are: 2^62.
        let huge: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0xE0] + [0, 0, 0, 0, 0, 0, 0, 0x40] + [1, 0, 0]
        /// One byte again and again, in blocks of 128 KiB.
        let bomb =
            [0x28, 0xB5, 0x2F, 0xFD, 0xC0, 0x78] + [0, 0, 0, 0, 1, 0, 0, 0]
            + [[UInt8]](repeating: [2, 0, 16, 7], count: 400).joined() + [3, 0, 16, 7]
        let frames = [
            [], try frame(half) + frame(half), try frame(whole) + skipped, skipped + (try frame(whole)),
            skipped,
            try frame(half), try frame(whole + [1]), try frame([]), older, huge, bomb,
            try frame(whole).dropLast(),
            try frame(whole) + [0],
        ]
        for frame in frames {
            #expect(Self.decode(coder, payload([UInt8](frame)), nil, 2000) == nil, "\(frame.prefix(16))")
        }
        // Longer than the largest chunk of the store.
        #expect(Self.decode(coder, payload(try frame(whole)), nil, Self.chunkSize + 4096) == nil)
    }
}
