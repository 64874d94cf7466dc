import Testing

@testable import TensorFormats

/// The index of a TensorFlow checkpoint, written by TensorFlow 2.21 (tools/python/libraries/write_tensorflow.py).
struct TensorBundleTests {
    private static let index = try! Fixtures.bytes("tensorflow/ckpt-30.index")

    @Test func `an index names tensors, and where they lie`() throws {
        let bundle = try TensorBundle(parsing: Self.index)
        #expect(bundle.shardCount == 1)
        #expect(
            bundle.tensors.map(\.name) == [
                "_CHECKPOINTABLE_OBJECT_GRAPH", "model/bias/.ATTRIBUTES/VARIABLE_VALUE",
                "model/kernel/.ATTRIBUTES/VARIABLE_VALUE",
                "save_counter/.ATTRIBUTES/VARIABLE_VALUE", "step/.ATTRIBUTES/VARIABLE_VALUE",
            ])
        let step = try #require(bundle.tensors.last)
        #expect(
            step.dtype == "I64" && step.shape == [] && step.shard == 0 && step.offset == 0 && step.length == 8
        )
        let kernel = bundle.tensors[2]
        #expect(
            kernel.dtype == "F32" && kernel.shape == [6, 10] && kernel.offset == 16 && kernel.length == 240)
        #expect(bundle.tensors[1].dtype == "BF16" && bundle.tensors[0].dtype == nil)
        #expect(bundle.shardLengths == [0: 649])
        #expect(TensorBundle.shardSuffix(3, of: 12) == ".data-00003-of-00012")
    }

    @Test func `a file that is cut off is no index`() {
        for length in Self.index.indices {
            #expect(throws: TensorFileError.self) { try TensorBundle(parsing: Array(Self.index[..<length])) }
        }
    }

    @Test func `damage crashes nothing, and takes neither time nor memory`() {
        Fuzz.run("indexes of TensorFlow") { random in
            var bytes = Self.index
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count - 8, using: &random)] = UInt8.random(
                    in: 0...255, using: &random)
            }
            guard let bundle = try? TensorBundle(parsing: bytes) else { return false }
            Fuzz.expect(bundle.tensors.count < 300)
            _ = bundle.shardLengths
            return true
        }
    }

    @Test func `a table that names a block twice, or none, is refused`() throws {
        // One block for the data, whose place stands in the index twice.
        let entry: [UInt8] = [0, 0, 2, 0x08, 1]
        let data = entry + [0, 0, 0, 0, 1, 0, 0, 0]
        func table(_ places: [[UInt8]]) -> [UInt8] {
            var index: [UInt8] = []
            for (number, place) in places.enumerated() {
                index += [0, 1, UInt8(place.count), UInt8(number)] + place
            }
            index += [0, 0, 0, 0, 1, 0, 0, 0]
            let start = data.count + 5
            var footer: [UInt8] = [0, 0, UInt8(start), UInt8(index.count)]
            footer += [UInt8](repeating: 0, count: 40 - footer.count)
            return data + [0, 0, 0, 0, 0] + index + [0, 0, 0, 0, 0] + footer + [
                0x57, 0xFB, 0x80, 0x8B, 0x24, 0x75, 0x47, 0xDB,
            ]
        }
        let place: [UInt8] = [0, UInt8(data.count)]
        #expect(try TensorBundle(parsing: table([place])) == TensorBundle(shardCount: 1, tensors: []))
        #expect(throws: TensorFileError.self) { try TensorBundle(parsing: table([place, place])) }
        #expect(throws: TensorFileError.self) { try TensorBundle(parsing: table([])) }
        #expect(throws: TensorFileError.self) {
            try TensorBundle(parsing: table([[0xFF, 0xFF, 0xFF, 0x7F, 1]]))
        }
    }
}
