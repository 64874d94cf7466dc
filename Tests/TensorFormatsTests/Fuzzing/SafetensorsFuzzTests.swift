import Testing

@testable import TensorFormats

/// Damaged headers: never a crash, and never an answer that the file does not bear out.
struct SafetensorsFuzzTests {
    @Test func `flipped, cut and doubled headers crash nothing and never tile badly`() throws {
        let originals =
            try Fixtures.files(in: "written").map { try Fixtures.bytes("written/\($0)") }
            + Fixtures.files(in: "acceptance").filter { $0.hasSuffix(".safetensors") }
            .map { try Fixtures.bytes("acceptance/\($0)") }
        Fuzz.run("safetensors") { random in
            var file = originals.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...3, using: &random) { Fuzz.damage(&file, &random) }
            guard let header = try? SafetensorsHeader(file: file) else { return false }
            Fuzz.expect(tiles(header, file))
            return true
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
        let original = Array(
            #"{"a":[1,-2,3.5e10,18446744073709551615],"b\u00e9\ud83d\ude00":{"c":"\n/\"","é":null},"d":[true,false,[]]}"#
                .utf8)
        Fuzz.run("JSON") { random in
            var text = original
            Fuzz.damage(&text, &random)
            guard let value = try? JSON(parsing: text) else { return false }
            try Fuzz.expect(try JSON(parsing: value.serialized()) == value)
            try Fuzz.expect(
                try JSON(parsing: value.serialized(.python), allowNonFinite: true).serialized(.python)
                    == value.serialized(.python))
            return true
        }
    }
}
