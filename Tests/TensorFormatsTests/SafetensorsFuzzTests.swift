import Testing

@testable import TensorFormats

/// Damaged headers: never a crash, and never an answer that the file does not bear out.
struct SafetensorsFuzzTests {
    @Test func `flipped, cut and doubled headers crash nothing and never tile badly`() throws {
        let seed = UInt64.random(in: 0..<1_000_000)
        var random = SeededGenerator(seed: seed)
        let originals =
            try Fixtures.files(in: "written").map { try Fixtures.bytes("written/\($0)") }
            + Fixtures.files(in: "acceptance").filter { $0.hasSuffix(".safetensors") }
            .map { try Fixtures.bytes("acceptance/\($0)") }
        let clock = ContinuousClock()
        let end = clock.now + .seconds(2)
        var (tried, accepted) = (0, 0)
        while clock.now < end {
            var file = originals.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...3, using: &random) { damage(&file, &random) }
            tried += 1
            guard let header = try? SafetensorsHeader(file: file) else { continue }
            accepted += 1
            #expect(tiles(header, file), "seed \(seed), file \(file)")
        }
        print("fuzz: seed \(seed), \(tried) files tried, \(accepted) accepted")
        #expect(accepted > 0, "seed \(seed)")
    }

    private func damage(_ file: inout [UInt8], _ random: inout SeededGenerator) {
        guard !file.isEmpty else { return }
        let place = Int.random(in: 0..<file.count, using: &random)
        switch Int.random(in: 0..<5, using: &random) {
        case 0: file[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: file[place] = UInt8.random(in: 0...255, using: &random)
        case 2: file.removeSubrange(place..<min(file.count, place + Int.random(in: 1...4, using: &random)))
        case 3:
            file.insert(contentsOf: file[place...].prefix(Int.random(in: 1...9, using: &random)), at: place)
        default:
            // One digit for another: the damage that stays JSON.
            let digits = file.indices.filter { $0 > 8 && (0x30...0x39).contains(file[$0]) }
            guard let digit = digits.randomElement(using: &random) else { return }
            file[digit] = 0x30 + UInt8.random(in: 0...9, using: &random)
        }
    }

    private func tiles(_ header: SafetensorsHeader, _ file: [UInt8]) -> Bool {
        var position: UInt64 = 0
        for tensor in header.tensors {
            let bits = tensor.shape.reduce(UInt64(tensor.dtype.bitsPerElement), *)
            guard tensor.begin == position, tensor.end == position + bits / 8, bits % 8 == 0 else {
                return false
            }
            position = tensor.end
        }
        return UInt64(header.headerLength) + position == UInt64(file.count)
            && Set(header.tensors.map { Array($0.name.utf8) }).count == header.tensors.count
    }

    @Test func `damaged JSON crashes nothing and what is read writes back the same`() throws {
        let seed = UInt64.random(in: 0..<1_000_000)
        var random = SeededGenerator(seed: seed)
        let original = Array(
            #"{"a":[1,-2,3.5e10,18446744073709551615],"b\u00e9\ud83d\ude00":{"c":"\n/\"","é":null},"d":[true,false,[]]}"#
                .utf8)
        var accepted = 0
        for _ in 0..<3000 {
            var text = original
            damage(&text, &random)
            guard let value = try? JSON(parsing: text) else { continue }
            accepted += 1
            #expect(try JSON(parsing: value.serialized()) == value, "seed \(seed)")
            #expect(
                try JSON(parsing: value.serialized(.python), allowNonFinite: true).serialized(.python)
                    == value.serialized(.python), "seed \(seed)")
        }
        #expect(accepted > 300, "seed \(seed)")
    }
}
