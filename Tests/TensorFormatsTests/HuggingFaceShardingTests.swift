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
        let sharding = HuggingFaceSharding(items, maximumShardSize: 100_000)
        #expect(sharding.shards.count == 4)
        let shards = sharding.shards.map { $0.items.map { items[$0] } }
        #expect(
            try HuggingFaceSharding.indexJSON(of: shards)
                == Fixtures.bytes("sharding/llama-100KB.index.json"))

        let whole = HuggingFaceSharding(items, maximumShardSize: 50_000_000_000)
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

    @Test func `file names count from one with five digits`() {
        #expect(HuggingFaceSharding.fileName(number: 1, of: 1) == "model.safetensors")
        #expect(HuggingFaceSharding.fileName(number: 3, of: 12) == "model-00003-of-00012.safetensors")
        #expect(
            HuggingFaceSharding.fileName(number: 123_456, of: 123_456) == "model-123456-of-123456.safetensors"
        )
    }
}
