import Testing

@testable import TensorFormats

/// Files written by safetensors 0.8.0, to be written again without a look at their headers.
struct SafetensorsWritingTests {
    @Test(arguments: try! Fixtures.files(in: "written"))
    func `the canonical header is the reference's`(_ file: String) throws {
        let bytes = try Fixtures.bytes("written/\(file)")
        let header = try SafetensorsHeader(file: bytes)
        var random = SeededGenerator(seed: 11)
        for _ in 0..<5 {
            let shuffled = header.tensors.shuffled(using: &random)
            let (written, order) = SafetensorsHeader.canonicalHeader(
                tensors: shuffled.map { ($0.name, $0.dtype, $0.shape, $0.byteCount) },
                metadata: header.metadata)
            #expect(written == Array(bytes[..<header.headerLength]))
            #expect(order.map { shuffled[$0] } == header.tensors)
        }
    }

    @Test func `there are fixtures of every kind`() throws {
        let files = try Fixtures.files(in: "written")
        #expect(files.count >= 9)
        let every = try SafetensorsHeader(file: Fixtures.bytes("written/every-dtype.safetensors"))
        // Nothing in Python makes the two F6 types.
        #expect(Set(every.tensors.map(\.dtype)) == Set(DType.allCases).subtracting([.f6E2M3, .f6E3M2]))
    }

    @Test func `what is written reads back`() throws {
        var random = SeededGenerator(seed: 12)
        for _ in 0..<200 {
            let tensors = (0..<Int.random(in: 0...12, using: &random)).map { index in
                let dtype = DType.allCases.randomElement(using: &random)!
                let shape = (0..<Int.random(in: 1...3, using: &random)).map { _ in
                    UInt64.random(in: 0...3, using: &random) * 8
                }
                return ("n\(index)\u{7}é\"", dtype, shape, dtype.byteCount(shape: shape)!)
            }
            let metadata: [(key: String, value: String)]? =
                Bool.random(using: &random) ? [("b", "\u{1}"), ("a", "\\")] : nil
            let (bytes, order) = SafetensorsHeader.canonicalHeader(tensors: tensors, metadata: metadata)
            #expect(bytes.count % 8 == 0)
            let total = tensors.reduce(0) { $0 + $1.3 }
            let header = try SafetensorsHeader(parsing: bytes, fileSize: UInt64(bytes.count) + total)
            #expect(header.tensors.map(\.name) == order.map { tensors[$0].0 })
            #expect(header.tensors.map(\.dtype) == order.map { tensors[$0].1 })
            #expect(header.tensors.map(\.shape) == order.map { tensors[$0].2 })
            #expect(header.metadata?.map(\.key) == metadata?.map(\.key))
            #expect(header.metadata?.map(\.value) == metadata?.map(\.value))
        }
    }

    @Test func `a header of 100,000 tensors is quick`() throws {
        let tensors = (0..<100_000).map {
            (
                name: "model.layers.\($0 / 16).mlp.experts.\($0 % 16).down_proj.weight", dtype: DType.bf16,
                shape: [64, 64] as [UInt64], byteCount: 8192 as UInt64
            )
        }
        let clock = ContinuousClock()
        var bytes: [UInt8] = []
        let writing = clock.measure { bytes = SafetensorsHeader.canonicalHeader(tensors: tensors).bytes }
        var header: SafetensorsHeader?
        let parsing = try clock.measure {
            header = try SafetensorsHeader(parsing: bytes, fileSize: UInt64(bytes.count) + 819_200_000)
        }
        #expect(header?.tensors.count == 100_000)
        print("100,000 tensors, \(bytes.count) bytes of header: written in \(writing), parsed in \(parsing)")
        // A build for debugging takes some ten times as long, beside other tests longer still.
        #if DEBUG
            #expect(parsing < .seconds(30))
        #else
            #expect(parsing < .seconds(1))
        #endif
    }
}
