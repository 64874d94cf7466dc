import Testing

@testable import Platform

@Suite struct SHA256LanesTests {
    /// Around the ends of blocks, and of the padding.
    static let lengths = [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 129, 1000, 4096, 65_537]

    private static func message(_ length: Int, seed: UInt64) -> [UInt8] {
        var state = seed &+ 1
        return (0..<length).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8(state >> 56)
        }
    }

    private static func withMessages<R>(
        _ messages: [[UInt8]], _ body: ([UnsafeRawBufferPointer]) throws -> R
    ) rethrows -> R {
        // One behind the other, so that what is read beyond a message is another one.
        let bytes = messages.flatMap { $0 }
        return try bytes.withUnsafeBytes { bytes in
            var start = 0
            return try body(
                messages.map { message in
                    defer { start += message.count }
                    return UnsafeRawBufferPointer(rebasing: bytes[start..<start + message.count])
                })
        }
    }

    private static func bytes(_ digests: [SHA256Digest]) -> [[UInt8]] {
        digests.map { $0.withUnsafeBytes { [UInt8]($0) } }
    }

    private static func single(_ messages: [[UInt8]]) -> [[UInt8]] {
        bytes(messages.map { $0.withUnsafeBytes { SHA256Hasher().digest($0) } })
    }

    @Test(arguments: 1...16)
    func lanesHashAsOpenSSLDoes(count: Int) {
        for length in Self.lengths {
            let messages = (0..<count).map { Self.message(length, seed: UInt64(1000 * length + $0)) }
            #expect(Self.bytes(Self.withMessages(messages, Lanes.digests)) == Self.single(messages))
        }
    }

    @Test func lanesTakeMessagesOfDifferentLengths() {
        for count in 1...16 {
            let messages = (0..<count).map { Self.message(Self.lengths[15 - $0], seed: UInt64($0)) }
            #expect(Self.bytes(Self.withMessages(messages, Lanes.digests)) == Self.single(messages))
        }
    }

    @Test func manyMessagesInAnyOrder() {
        let hasher = SHA256Hasher()
        for round in 0..<20 {
            let messages = (0..<round * 5).map { number in
                let random = Int(Self.message(1, seed: UInt64(number * 31 + round))[0])
                let length = number % 3 == 0 ? 8192 : random
                return Self.message(length, seed: UInt64(number))
            }
            #expect(
                Self.bytes(Self.withMessages(messages) { hasher.digests($0) }) == Self.single(messages))
        }
        #expect(hasher.digests([]).isEmpty)
    }

    @Test func theShareIsMeasured() {
        #expect(Lanes.share > 0.5 && Lanes.share.isFinite)
    }
}
