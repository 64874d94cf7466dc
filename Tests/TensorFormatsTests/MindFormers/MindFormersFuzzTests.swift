import Testing

@testable import TensorFormats

/// Damaged metadata: never a crash, and never a description that does not hold together.
struct MindFormersFuzzTests {
    @Test func `damaged metadata crashes nothing, and what is read writes back the same`() throws {
        let seed = UInt64.random(in: 0..<1_000_000)
        var random = SeededGenerator(seed: seed)
        let originals = try ["complete-2.1.json", "balanced-2.1.json"].map {
            try Fixtures.bytes("mindformers/\($0)")
        }
        let clock = ContinuousClock()
        let end = clock.now + .seconds(3)
        var (tried, accepted) = (0, 0)
        while clock.now < end {
            var file = originals.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...3, using: &random) { damage(&file, &random) }
            tried += 1
            guard let metadata = try? MindFormersMetadata(parsing: file) else { continue }
            accepted += 1
            #expect(try MindFormersMetadata(parsing: metadata.serialized()) == metadata, "seed \(seed)")
            for tensor in metadata.tensors where tensor.layout?.isInterleaved != true {
                for chunk in tensor.chunks {
                    let area = try tensor.area(ofSlice: chunk.slice)
                    #expect(area.map { $0.upperBound - $0.lowerBound } == chunk.shape, "seed \(seed)")
                    #expect(zip(area, tensor.shape).allSatisfy { $0.upperBound <= $1 }, "seed \(seed)")
                }
            }
        }
        print("fuzz: seed \(seed), \(tried) files tried, \(accepted) accepted")
        #expect(accepted > 0, "seed \(seed)")
    }

    @Test func `damaged names and small files crash nothing`() throws {
        let seed = UInt64.random(in: 0..<1_000_000)
        var random = SeededGenerator(seed: seed)
        let originals = [
            "qwen3-model-0000000-0000004.safetensors", "a_rank_0_1-2_3.ckpt",
            #"{"global_step":1,"loss_scale":1e5}"#,
            #"{"last_epoch": 1, "last_step": 3, "last_ckpt_file": "a"}"#, #"'a\x01\'"'"#, "dp=2,tp=4",
        ].map { Array($0.utf8) }
        for _ in 0..<20_000 {
            var bytes = originals.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...4, using: &random) { damage(&bytes, &random) }
            let text = String(decoding: bytes, as: UTF8.self)
            // Numbers may have lost zeros in front, so it is the second time that nothing changes.
            if let name = MindFormersFileName(parsing: text) {
                #expect(MindFormersFileName(parsing: name.text) == name)
            }
            if let name = MindFormers1FileName(parsing: text) {
                #expect(MindFormers1FileName(parsing: name.text) == name)
            }
            if let (value, _) = PythonText.read(Substring(text).unicodeScalars) {
                let literal = PythonText.literal(of: value)
                #expect(
                    PythonText.read(Substring(literal).unicodeScalars)?.0.hasSameBytes(as: value) == true)
            }
            if let common = try? MindFormersCommon(parsing: bytes), common.lossScale?.isNaN != true {
                #expect(try MindFormersCommon(parsing: common.serialized()) == common)
            }
            if let meta = try? MindFormers1Meta(parsing: bytes) {
                #expect(try MindFormers1Meta(parsing: meta.serialized()) == meta)
            }
            _ = try? DeviceMesh(parsing: text)
        }
    }

    private func damage(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
        guard !bytes.isEmpty else { return }
        let place = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<6, using: &random) {
        case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes[place] = #"{}[]",:'\-0123456789e.n"#.utf8.randomElement(using: &random)!
        case 2: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...4, using: &random)))
        case 3:
            bytes.insert(contentsOf: bytes[place...].prefix(Int.random(in: 1...9, using: &random)), at: place)
        default:
            // One digit for another: the damage that stays JSON.
            let digits = bytes.indices.filter { (0x30...0x39).contains(bytes[$0]) }
            guard let digit = digits.randomElement(using: &random) else { return }
            bytes[digit] = 0x30 + UInt8.random(in: 0...9, using: &random)
        }
    }
}
