import Foundation
import Testing

@testable import TensorFormats

struct MindFormersMetadataTests {
    private static let sample = "mindformers2/dp2tp2/checkpoint/iteration_00000002/"

    @Test func `the file of a real checkpoint is read and written the same`() throws {
        let bytes = try Samples.bytes(Self.sample + "metadata.json")
        let metadata = try MindFormersMetadata(parsing: bytes)
        #expect(metadata.serialized() == bytes && metadata.style == .indented)
        #expect(
            metadata.tensors.count == 16 && metadata.tensors.allSatisfy { $0.layout?.ranks == [0, 1, 2, 3] })
        let folder = try Samples.files(in: Self.sample).compactMap {
            $0.split(separator: "/").last.map(String.init)
        }
        #expect(metadata.slices.allSatisfy { $0.places.allSatisfy { folder.contains($0.fileName) } })
    }

    @Test(arguments: ["complete.json", "complete-2.1.json", "balanced-2.1.json"])
    func `what the library writes is read and written the same`(_ file: String) throws {
        let bytes = try Fixtures.bytes("mindformers/\(file)")
        #expect(try MindFormersMetadata(parsing: bytes).serialized() == bytes)
    }

    @Test func `both styles say the same`() throws {
        var metadata = try MindFormersMetadata(parsing: Fixtures.bytes("mindformers/complete-2.1.json"))
        #expect(metadata.style == .compact)
        metadata.style = .indented
        #expect(try metadata.serialized() == Fixtures.bytes("mindformers/complete.json"))
        #expect(metadata.tensors[3].name == "norm \\ é\u{200B}\n.weight")
    }

    @Test func `what other versions write is read`() throws {
        // Without the holders, as in 1.8; without a layout, as in 2.1; with members that are not known.
        let text = #"""
            {"version":[1,{}],"state_dict_metadata":{"a":{"properties":{"dtype":"Int8","replica_id":0,"allow_shape_mismatch":true,
            "allow_to_save":false,"more":1},"global_shape":[2,3],"axis_fragmentations":[1,1],"layout":null,
            "chunk":[{"global_offset":[0],"local_shape":[2,3]}]}},
            "storage_data":{"('a', (0,))":[{"file_name":"a.safetensors","storage_rank":0}]}}
            """#
        let metadata = try MindFormersMetadata(parsing: Array(text.utf8))
        #expect(metadata.tensors[0].layout == nil && metadata.tensors[0].replicas == .one(0))
        #expect(metadata.tensors[0].allowsShapeMismatch && !metadata.tensors[0].isSaved)
        #expect(metadata.slices[0].places == [.init(fileName: "a.safetensors", rank: 0, holders: nil)])
        #expect(try metadata.tensors[0].area(ofSlice: 0) == [0..<2, 0..<3])
        let empty = Array(#"{"state_dict_metadata":{},"storage_data":{}}"#.utf8)
        #expect(try MindFormersMetadata(parsing: empty).serialized() == empty)
    }

    /// Changes of a valid file that make it none.
    static let changes: [(from: String, to: String)] = [
        (#""axis_fragmentations":[2,1]"#, #""axis_fragmentations":[1,2]"#),
        (#""axis_fragmentations":[2,1]"#, #""axis_fragmentations":[2]"#),
        (#""device_matrix":[2,2]"#, #""device_matrix":[2,3]"#),
        (#""device_matrix":[2,2]"#, #""device_matrix":[4294967296,4294967296]"#),
        (#""device_matrix":[2,2]"#, #""device_matrix":[0,0]"#),
        (#""tensor_map":[0,-1]"#, #""tensor_map":[2,-1]"#),
        (#""tensor_map":[0,-1]"#, #""tensor_map":[0,0]"#),
        (#""tensor_map":[0,-1]"#, #""tensor_map":[0]"#),
        (#""tensor_map":[0,-1]"#, #""tensor_map":[-2,-1]"#),
        (#""tensor_map":[0,-1]"#, #""tensor_map":"x""#),
        (#""alias_name":["dp","tp"]"#, #""alias_name":["dp"]"#),
        (#""alias_name":["dp","tp"]"#, #""alias_name":[1,2]"#),
        (#""rank_list":[0,1,2,3]"#, #""rank_list":[0,1,2]"#),
        (#""rank_list":[0,1,2,3]"#, #""rank_list":[0,1,2,2]"#),
        (#""rank_list":[0,1,2,3]"#, #""rank_list":[0,1,2,99999999999]"#),
        (#""rank_list":[0,1,2,3]"#, #""rank_list":[0,1,2,-3]"#),
        (#""rank_list":[0,1,2,3]"#, #""rank_list":[0,1,2,3.5]"#),
        (#""replica_id":[0,0,1,1]"#, #""replica_id":[0,0,1]"#),
        (#""dtype":"BFloat16""#, #""dtype":"""#), (#""dtype":"BFloat16""#, #""dtype":7"#),
        (#""dtype":"BFloat16","#, ""),
        (#""global_shape":[8,4]"#, #""global_shape":[9,4]"#),
        (#""global_shape":[8,4]"#, #""global_shape":[8,4,1]"#),
        (#""global_shape":[8,4]"#, #""global_shape":[9223372036854775807,4]"#),
        (#""global_shape":[8,4]"#, #""global_shape":[-8,4]"#),
        (#""global_offset":[1]"#, #""global_offset":[0]"#),
        (#""global_offset":[1]"#, #""global_offset":[2]"#),
        (#""global_offset":[1]"#, #""global_offset":[1,0]"#),
        (#""global_offset":[1]"#, #""global_offset":[]"#),
        (#""local_shape":[4,4]"#, #""local_shape":[4,5]"#), (#""local_shape":[4,4]"#, #""local_shape":[4]"#),
        ("\"('embedding.weight', (0,))\"", "\"('embedding.weight', (2,))\""),
        ("\"('embedding.weight', (0,))\"", "\"('embedding', (0,))\""),
        ("\"('embedding.weight', (0,))\"", "\"('embedding.weight', (0))\""),
        ("\"('embedding.weight', (0,))\"", "\"('embedding.weight', (00,))\""),
        ("\"('embedding.weight', (0,))\"", "\"embedding.weight\""),
        (#""qwen3-model-0000000-0000004.safetensors""#, #""../qwen3""#),
        (#""qwen3-model-0000000-0000004.safetensors""#, #""..""#),
        (#""qwen3-model-0000000-0000004.safetensors""#, #""a\u0000b""#),
        (#""qwen3-model-0000000-0000004.safetensors""#, #""""#),
        (#""storage_rank":0"#, #""storage_rank":null"#), (#""storage_rank":0"#, #""storage_rank":-1"#),
        (#""storage_data""#, #""state_dict_metadata""#), (#""storage_data""#, #""other""#),
        (#""adam_m.embedding.weight""#, #""embedding.weight""#),
        ("\"('global_step', (0,))\"", "\"('adam_m.embedding.weight', (0,))\""),
        (#""global_shape":[8,4]"#, #""global_shape":["# + String(repeating: "1,", count: 64) + "1]"),
        (
            #""alias_name":["dp","tp"]"#,
            #""alias_name":["# + String(repeating: "\"a\",", count: 64) + "\"b\"]"
        ),
    ]

    @Test(arguments: changes.indices)
    func `a file that contradicts itself is refused with a sentence`(_ number: Int) throws {
        let text = String(decoding: try Fixtures.bytes("mindformers/complete-2.1.json"), as: UTF8.self)
        let change = Self.changes[number]
        let place = try #require(text.range(of: change.from), "\(change.from)")
        let changed = text.replacingCharacters(in: place, with: change.to)
        let error = #expect(throws: MindFormersError.self, "\(change)") {
            try MindFormersMetadata(parsing: Array(changed.utf8))
        }
        #expect(error?.message.hasSuffix(".") == true)
    }

    @Test(arguments: ["", "[]", "{", "null", #"{"state_dict_metadata":[],"storage_data":{}}"#, "\u{FEFF}{}"])
    func `what is no such file is refused`(_ text: String) {
        #expect(throws: MindFormersError.self) { try MindFormersMetadata(parsing: Array(text.utf8)) }
    }

    @Test func `a file of many ranks is read in no time`() throws {
        let ranks = Array(0..<256)
        let layout = try DeviceMesh(parsing: "dp=32,tp=8").layout(cuts: [["tp"], []])
        let tensors = (0..<500).map { number in
            MindFormersPlan.Tensor(
                name: "layers.\(number).weight", dtype: .bf16, shape: [64, 64], layout: layout, kind: .model)
        }
        let clock = ContinuousClock()
        var plan: MindFormersPlan?
        let planning = try clock.measure {
            plan = try MindFormersPlan(
                tensors, rankCount: ranks.count, replicas: .balanced, style: .compact)
        }
        var (bytes, metadata): ([UInt8], MindFormersMetadata?) = ([], nil)
        let writing = clock.measure { bytes = plan!.metadata.serialized() }
        let reading = try clock.measure { metadata = try MindFormersMetadata(parsing: bytes) }
        #expect(metadata == plan?.metadata)
        print(
            "256 ranks, 500 tensors: planned in \(planning), \(bytes.count) bytes written in \(writing), read in \(reading)"
        )
    }
}
