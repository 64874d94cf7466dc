import Testing

@testable import TensorFormats

/// The small files, and the names of files.
struct MindFormersFilesTests {
    @Test(arguments: ["mindformers2/single", "mindformers2/dp2tp2"])
    func `common.json of a real checkpoint is read and written the same`(_ folder: String) throws {
        let files = try Samples.files(in: folder).filter { $0.hasSuffix("/common.json") }
        #expect(!files.isEmpty)
        for file in files {
            let bytes = try Samples.bytes(file)
            let common = try MindFormersCommon(parsing: bytes)
            #expect(common.serialized() == bytes)
            #expect(file.contains("iteration_0000000\(common.globalStep ?? -1)/"))
        }
    }

    @Test func `common.json of 2.1 has the samples`() throws {
        let text = """
            {
                "epoch_num": 1,
                "step_num": 20,
                "global_step": 2,
                "loss_scale": 1e-05,
                "global_batch_size": null,
                "consumed_samples": null,
                "ckpt_status": 0
            }
            """
        let common = try MindFormersCommon(parsing: Array(text.utf8))
        #expect(String(decoding: common.serialized(), as: UTF8.self) == text)
        #expect(
            common
                == MindFormersCommon(
                    epoch: 1, step: 20, globalStep: 2, lossScale: 1e-5, hasConsumedSamples: true, status: 0))
        #expect(
            String(decoding: MindFormersCommon().serialized(), as: UTF8.self).contains("samples") == false)
        #expect(
            try MindFormersCommon(parsing: Array(#"{"loss_scale": NaN, "data_plan_state": {}}"#.utf8))
                .lossScale?.isNaN == true)
    }

    @Test(arguments: [
        "", "[]", "{", #"{"global_step":"2"}"#, #"{"global_step":2.5}"#, #"{"loss_scale":"1"}"#,
        #"{"step_num":99999999999999999999}"#,
    ])
    func `what is no common.json is refused with a sentence`(_ text: String) {
        let error = #expect(throws: MindFormersError.self) {
            try MindFormersCommon(parsing: Array(text.utf8))
        }
        #expect(error?.message.hasSuffix(".") == true)
    }

    @Test func `meta.json of a real checkpoint is read and written the same`() throws {
        let bytes = try Samples.bytes("mindformers1/output/checkpoint/rank_0/meta.json")
        let meta = try MindFormers1Meta(parsing: bytes)
        #expect(meta == MindFormers1Meta(epoch: 1, step: 3, file: "qwen3_8b_rank_0-1_3.safetensors"))
        #expect(meta.serialized() == bytes)
        let other = MindFormers1Meta(epoch: -1, step: 0, file: "é\"")
        #expect(
            String(decoding: other.serialized(), as: UTF8.self)
                == #"{"last_epoch": -1, "last_step": 0, "last_ckpt_file": "\u00e9\""}"#)
        #expect(try MindFormers1Meta(parsing: other.serialized()) == other)
        for text in ["", "{}", #"{"last_epoch":"1","last_step":2,"last_ckpt_file":"a"}"#] {
            #expect(throws: MindFormersError.self) { try MindFormers1Meta(parsing: Array(text.utf8)) }
        }
    }

    @Test func `names of real files are read and written the same`() throws {
        let names2 = try Samples.files(in: "mindformers2").filter { $0.hasSuffix(".safetensors") }
        let names1 = try Samples.files(in: "mindformers1/output/checkpoint").filter {
            $0.hasSuffix(".safetensors")
        }
        #expect(names2.count == 12 && names1.count == 4)
        for path in names2 {
            let name = String(path.split(separator: "/").last!)
            #expect(MindFormersFileName(parsing: name)?.text == name)
        }
        for path in names1 {
            let name = String(path.split(separator: "/").last!)
            #expect(MindFormers1FileName(parsing: name)?.text == name)
        }
    }

    @Test func `names of 2.0`() {
        #expect(
            MindFormersFileName(parsing: "a-opt-b-model-0000003-0000010.safetensors")
                == MindFormersFileName(prefix: "a-opt-b", kind: .model, index: 3, count: 10))
        #expect(MindFormersFileName(parsing: "opt-0000000-0000001.safetensors")?.prefix == nil)
        #expect(MindFormersFileName(parsing: "a-opt-12345678-00000001.safetensors")?.index == 12_345_678)
        for text in [
            "", ".safetensors", "model-000000-0000001.safetensors", "-model-0000000-0000001.safetensors",
            "model-0000000-0000001.ckpt", "other-0000000-0000001.safetensors", "model-0000000.safetensors",
            "model-99999999999999999999-0000001.safetensors", "model-+000000-0000001.safetensors",
        ] {
            #expect(MindFormersFileName(parsing: text) == nil, "\(text)")
        }
    }

    @Test func `names of 1.0`() {
        #expect(
            MindFormers1FileName(parsing: "my_rank_model_rank_12_3-4_5.ckpt")
                == MindFormers1FileName(
                    prefix: "my_rank_model", rank: 12, run: 3, epoch: 4, step: 5, format: "ckpt"))
        #expect(MindFormers1FileName(parsing: "a-b_rank_0-1_2.safetensors")?.prefix == "a-b")
        for text in [
            "", "a_rank_0-1_2", "a_rank_0-1.ckpt", "_rank_0-1_2.ckpt", "rank_0-1_2.ckpt", "a_rank_x-1_2.ckpt",
            "a_rank_0-1_2.pt", "a_rank_0_-1_2.ckpt", "a_0-1_2.ckpt", "a_rank_99999999999999999999-1_2.ckpt",
        ] {
            #expect(MindFormers1FileName(parsing: text) == nil, "\(text)")
        }
    }

    @Test(
        arguments: [
            ("", "''"), ("a", "'a'"), ("it's", "\"it's\""), ("\"", "'\"'"), ("'\"", #"'\'"'"#),
            ("\\", #"'\\'"#),
            ("\n\r\t", #"'\n\r\t'"#), ("\u{0}\u{1F}\u{7F}", #"'\x00\x1f\x7f'"#), ("é😀", "'é😀'"),
            ("\u{A0}\u{AD}", #"'\xa0\xad'"#), ("\u{2028}\u{E000}", #"'\u2028\ue000'"#),
            ("\u{E0001}\u{10FFFF}", #"'\U000e0001\U0010ffff'"#), ("e\u{301}", "'e\u{301}'"),
        ])
    func `texts are as Python writes them`(_ text: String, _ literal: String) {
        #expect(PythonText.literal(of: text).hasSameBytes(as: literal))
        let read = PythonText.read(Substring(literal + "rest").unicodeScalars)
        #expect(read?.0.hasSameBytes(as: text) == true && read.map { String($0.rest) } == "rest")
    }

    @Test(arguments: [
        "", "a", "'", "'a", #"'\"#, #"'\q'"#, #"'\x1'"#, #"'\x+1'"#, #"'\ud800'"#, #"'\U00110000'"#,
    ])
    func `what is no text of Python's is none`(_ literal: String) {
        #expect(PythonText.read(Substring(literal).unicodeScalars) == nil)
    }

    @Test func `names of types are MindSpore's`() {
        #expect(DType(mindSporeName: "bfloat16") == .bf16 && DType(mindSporeName: "Float8E4M3FN") == .f8E4M3)
        #expect(DType(mindSporeName: "Int4") == nil)
        for dtype in DType.allCases {
            guard let name = dtype.mindSporeName else { continue }
            #expect(DType(mindSporeName: name) == dtype)
        }
    }
}
