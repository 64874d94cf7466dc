import Testing

@testable import TensorFormats

/// Damaged metadata: never a crash, and never a description that does not hold together.
struct MindFormersFuzzTests {
    @Test func `damaged metadata crashes nothing, and what is read writes back the same`() throws {
        let originals = try ["complete-2.1.json", "balanced-2.1.json"].map {
            try Fixtures.bytes("mindformers/\($0)")
        }
        Fuzz.run("metadata of MindFormers", share: 2) { random in
            var file = originals.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...3, using: &random) { Fuzz.damage(&file, &random) }
            guard let metadata = try? MindFormersMetadata(parsing: file) else { return false }
            try Fuzz.expect(try MindFormersMetadata(parsing: metadata.serialized()) == metadata)
            for tensor in metadata.tensors where tensor.layout?.isInterleaved != true {
                for chunk in tensor.chunks {
                    let area = try tensor.area(ofSlice: chunk.slice)
                    Fuzz.expect(area.map { $0.upperBound - $0.lowerBound } == chunk.shape)
                    Fuzz.expect(zip(area, tensor.shape).allSatisfy { $0.upperBound <= $1 })
                }
            }
            return true
        }
    }

    @Test func `damaged names and small files crash nothing`() throws {
        let originals = [
            "qwen3-model-0000000-0000004.safetensors", "a_rank_0_1-2_3.ckpt",
            #"{"global_step":1,"loss_scale":1e5}"#,
            #"{"last_epoch": 1, "last_step": 3, "last_ckpt_file": "a"}"#, #"'a\x01\'"'"#, "dp=2,tp=4",
        ].map { Array($0.utf8) }
        Fuzz.run("names and small files of MindFormers", share: 2) { random in
            var taken = false
            var bytes = originals.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...4, using: &random) { Fuzz.damage(&bytes, &random) }
            let text = String(decoding: bytes, as: UTF8.self)
            // Numbers may have lost zeros in front, so it is the second time that nothing changes.
            if let name = MindFormersFileName(parsing: text) {
                taken = true
                Fuzz.expect(MindFormersFileName(parsing: name.text) == name)
            }
            if let name = MindFormers1FileName(parsing: text) {
                taken = true
                Fuzz.expect(MindFormers1FileName(parsing: name.text) == name)
            }
            if let (value, _) = PythonText.read(Substring(text).unicodeScalars) {
                let literal = PythonText.literal(of: value)
                taken = true
                Fuzz.expect(
                    PythonText.read(Substring(literal).unicodeScalars)?.0.hasSameBytes(as: value) == true)
            }
            if let common = try? MindFormersCommon(parsing: bytes), common.lossScale?.isNaN != true {
                taken = true
                try Fuzz.expect(try MindFormersCommon(parsing: common.serialized()) == common)
            }
            if let meta = try? MindFormers1Meta(parsing: bytes) {
                taken = true
                try Fuzz.expect(try MindFormers1Meta(parsing: meta.serialized()) == meta)
            }
            if (try? DeviceMesh(parsing: text)) != nil { taken = true }
            return taken
        }
    }
}
