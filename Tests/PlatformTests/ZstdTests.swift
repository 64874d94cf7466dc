import Platform
import Testing

/// Frames through contexts that are used again and again, also after one that failed.
@Suite struct ZstdTests {
    @Test func aFrameThatFindsNoRoomIsNoneAndStopsNoOther() throws {
        var generator = SystemRandomNumberGenerator()
        let noise = (0..<4096).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        let even = [UInt8](repeating: 3, count: 4096)
        var compressor = try ZstdCompressor()
        let decompressor = try ZstdDecompressor()
        var target = [UInt8](repeating: 0, count: 4096)
        for search in [ZstdCompressor.Search.symbols, .matches, .symbols] {
            // Nothing makes noise smaller.
            let none = noise.withUnsafeBytes { noise in
                target.withUnsafeMutableBytes { compressor.compress(noise, into: $0, search) }
            }
            #expect(none == nil)
            let other: ZstdCompressor.Search = search == .symbols ? .matches : .symbols
            let count = even.withUnsafeBytes { even in
                target.withUnsafeMutableBytes { compressor.compress(even, into: $0, other) }
            }
            let frame = target.prefix(try #require(count))
            var result = [UInt8](repeating: 0, count: 4096)
            let done = [UInt8](frame).withUnsafeBytes { frame in
                result.withUnsafeMutableBytes { decompressor.decompress(frame, into: $0) }
            }
            #expect(done && result == even)
        }
    }
}
