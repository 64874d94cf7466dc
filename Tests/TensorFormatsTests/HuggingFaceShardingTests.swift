import Testing

@testable import TensorFormats

struct HuggingFaceShardingTests {
    /// A Llama that transformers 5.23 saved with `max_shard_size="100KB"`, in the order of its state dictionary.
    @Test func `a real model is split as save_pretrained split it`() throws {
        let items = try #require(try Fixtures.json("sharding/llama-state-dict.json").array).map {
            HuggingFaceSharding.Item(
                name: $0.array![0].stringValue!, byteCount: $0.array![1].uint64!,
                elementCount: $0.array![2].uint64!)
        }
        let size = try #require(HuggingFaceSharding.parseSize("100KB"))
        let sharding = HuggingFaceSharding(items, maximumShardSize: size)
        #expect(sharding.shards.count == 4)
        #expect(try sharding.indexJSON() == Fixtures.bytes("sharding/llama-100KB.index.json"))

        let whole = HuggingFaceSharding(items, maximumShardSize: HuggingFaceSharding.defaultMaximumShardSize)
        #expect(whole.shards.map(\.fileName) == ["model.safetensors"])
        #expect(whole.shards[0].items == Array(items.indices))
    }

    static let splits = try! Fixtures.json("sharding/splits.json").array!

    /// Random sizes that huggingface_hub split.
    @Test(arguments: splits.indices)
    func `sizes are split as huggingface_hub splits them`(_ index: Int) throws {
        let example = Self.splits[index]
        let sizes = try #require(example["sizes"]?.array)
        let sharding = HuggingFaceSharding(
            sizes.enumerated().map { .init(name: "t\($0)", byteCount: $1.uint64!, elementCount: 1) },
            maximumShardSize: example["maximum"]!.uint64!)
        let expected = try #require(example["files"]?.array).map { file in
            HuggingFaceSharding.Shard(
                fileName: file.array![0].stringValue!, items: file.array![1].array!.map { $0.int! })
        }
        #expect(sharding.shards == expected)
    }

    @Test(
        arguments: [
            ("5GB", 5_000_000_000), ("5gb", 5_000_000_000), ("50GB", 50_000_000_000), (" 1MB ", 1_000_000),
            ("100 KB", 100_000), ("1.5MB", 1_500_000), ("0.0015KB", 1), ("2TB", 2_000_000_000_000),
            ("0KB", 0),
            (".5KB", 500), ("5.KB", 5000), ("2.675KB", 2675), ("0.1GB", 100_000_000), ("4096", 4096),
            ("KB", nil), ("5GiB", nil), ("5G", nil), ("-1KB", nil), ("", nil), ("5B", nil), ("1.2.3MB", nil),
            ("1\u{212A}B", nil), ("99999999TB", nil), ("nanKB", nil), ("0x10KB", nil), (".KB", nil),
            ("-5", nil),
        ] as [(String, UInt64?)])
    func `sizes have decimal units`(_ text: String, _ bytes: UInt64?) {
        #expect(HuggingFaceSharding.parseSize(text) == bytes)
    }

    @Test func `file names count from one with five digits`() {
        #expect(HuggingFaceSharding.fileName(number: 1, of: 1) == "model.safetensors")
        #expect(HuggingFaceSharding.fileName(number: 3, of: 12) == "model-00003-of-00012.safetensors")
        #expect(
            HuggingFaceSharding.fileName(number: 123_456, of: 123_456) == "model-123456-of-123456.safetensors"
        )
    }
}
