/// How Hugging Face's `save_pretrained` spreads a model over files, from the tensors' sizes alone.
///
/// It follows `split_state_dict_into_shards_factory` of huggingface_hub for tensors that share no memory:
/// `save_pretrained` has dropped tied weights before it comes here. The outcome depends on the order of the tensors,
/// which an index does not keep.
public struct HuggingFaceSharding: Sendable {
    /// A tensor to place. `byteCount` is its size in the file; `elementCount` is the product of its shape.
    public struct Item: Sendable {
        public var name: String
        public var byteCount: UInt64
        public var elementCount: UInt64

        public init(name: String, byteCount: UInt64, elementCount: UInt64) {
            self.name = name
            self.byteCount = byteCount
            self.elementCount = elementCount
        }
    }

    /// One file: its name, and the tensors in it as indices of the items, in their order.
    public struct Shard: Sendable, Equatable {
        public let fileName: String
        public let items: [Int]
    }

    /// The name of the file that `indexJSON` is for.
    public static let indexFileName = indexFileName(stem: "model")

    /// The same for files that are called otherwise.
    public static func indexFileName(stem: String) -> String { "\(stem).safetensors.index.json" }

    /// In the order of their numbers. One is called `model.safetensors` and needs no index; without items there is
    /// none.
    public let shards: [Shard]

    /// - Parameters:
    ///   - items: in the order of the state dictionary.
    ///   - maximumShardSize: in bytes of tensors, without headers. A larger tensor gets a shard of its own.
    ///   - stem: what the files' names begin with.
    public init(_ items: [Item], maximumShardSize: UInt64, stem: String = "model") {
        var groups: [[Int]] = []
        var current: [Int] = []
        var currentSize: UInt64 = 0
        for (index, item) in items.enumerated() {
            // At once, and so in front of the shard that is being filled: the reference's order.
            if item.byteCount > maximumShardSize {
                groups.append([index])
                continue
            }
            if item.byteCount > maximumShardSize - currentSize {
                groups.append(current)
                current = []
                currentSize = 0
            }
            current.append(index)
            currentSize += item.byteCount
        }
        if !current.isEmpty { groups.append(current) }
        shards = groups.enumerated().map { number, items in
            Shard(fileName: Self.fileName(number: number + 1, of: groups.count, stem: stem), items: items)
        }
    }

    /// `model-00001-of-00004.safetensors`, counted from 1; of one it is `model.safetensors`.
    public static func fileName(number: Int, of count: Int, stem: String = "model") -> String {
        func padded(_ number: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
        }
        return count == 1
            ? "\(stem).safetensors" : "\(stem)-\(padded(number))-of-\(padded(count)).safetensors"
    }

    /// The bytes of `model.safetensors.index.json`, as `save_pretrained` writes them.
    ///
    /// It counts all elements of all tensors as parameters. A model reports the same number unless tensors are buffers (which
    /// count for nothing) or packed (4-bit ones count per value).
    ///
    /// - Parameter shards: the tensors of each file, in the order of the files.
    public static func indexJSON(of shards: [[Item]], stem: String = "model") -> [UInt8] {
        let items = shards.flatMap(\.self)
        let weightMap = shards.enumerated().flatMap { number, items in
            let name = fileName(number: number + 1, of: shards.count, stem: stem)
            return items.map { JSON.Member($0.name, .string(name)) }
        }
        let index = JSON.object([
            .init(
                "metadata",
                .object([
                    .init("total_parameters", JSON(items.reduce(0 as UInt64) { $0 + $1.elementCount })),
                    .init("total_size", JSON(items.reduce(0 as UInt64) { $0 + $1.byteCount })),
                ])),
            .init("weight_map", .object(weightMap)),
        ])
        return index.serialized(.python) + [UInt8(ascii: "\n")]
    }
}
