import Testing

@testable import TensorFormats

struct CRC32Tests {
    /// A bit at a time, from the definition.
    private func slow(_ bytes: [UInt8]) -> UInt32 {
        var crc = UInt32.max
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc >> 1 ^ (crc & 1 == 0 ? 0 : 0xEDB8_8320) }
        }
        return ~crc
    }

    @Test func `it is that of zip files`() {
        #expect(CRC32(Array("123456789".utf8)).value == 0xCBF4_3926)
        #expect(CRC32([]).value == 0 && CRC32().value == 0)
    }

    @Test func `any length from any place, in one piece, in several, and put together`() {
        var random = SeededGenerator(seed: 31)
        for _ in 0..<500 {
            let all = (0..<200).map { _ in UInt8.random(in: 0...255, using: &random) }
            let start = Int.random(in: 0..<32, using: &random)
            let end = Int.random(in: start...200, using: &random)
            let cut = Int.random(in: start...end, using: &random)
            var crc = CRC32()
            all.withUnsafeBytes { bytes in
                crc.update(UnsafeRawBufferPointer(rebasing: bytes[start..<cut]))
                crc.update(UnsafeRawBufferPointer(rebasing: bytes[cut..<end]))
            }
            #expect(crc.value == slow(Array(all[start..<end])))
            let (a, b) = (CRC32(Array(all[start..<cut])), CRC32(Array(all[cut..<end])))
            #expect(a.appending(b, byteCount: UInt64(end - cut)) == crc)
        }
    }

    @Test func `pieces of any length are put together`() {
        // 2^24 - 1 zeros behind a byte: read, and doubled up from one.
        let read = CRC32([7] + [UInt8](repeating: 0, count: (1 << 24) - 1))
        var (made, zeros, length) = (CRC32([7]), CRC32([0]), 1 as UInt64)
        for _ in 0..<24 {
            made = made.appending(zeros, byteCount: length)
            zeros = zeros.appending(zeros, byteCount: length)
            length *= 2
        }
        #expect(made == read)
    }
}
