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
    public static let indexFileName = "model.safetensors.index.json"
    /// What transformers 5 takes unless told otherwise: 50 GB. Version 4 took 5 GB.
    public static let defaultMaximumShardSize: UInt64 = 50_000_000_000

    public let items: [Item]
    /// In the order of their numbers. One is called `model.safetensors` and needs no index; without items there is
    /// none.
    public let shards: [Shard]

    /// - Parameters:
    ///   - items: in the order of the state dictionary.
    ///   - maximumShardSize: in bytes of tensors, without headers. A larger tensor gets a shard of its own.
    public init(_ items: [Item], maximumShardSize: UInt64) {
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
        self.items = items
        shards = groups.enumerated().map { number, items in
            Shard(fileName: Self.fileName(number: number + 1, of: groups.count), items: items)
        }
    }

    /// `model-00001-of-00004.safetensors`, counted from 1; of one it is `model.safetensors`.
    public static func fileName(number: Int, of count: Int) -> String {
        func padded(_ number: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
        }
        return count == 1 ? "model.safetensors" : "model-\(padded(number))-of-\(padded(count)).safetensors"
    }

    /// The bytes of `model.safetensors.index.json`, as `save_pretrained` writes them.
    ///
    /// - Parameter parameterCount: what the model reports. The default, all elements of all tensors, is the same
    ///   number unless tensors are buffers (which count for nothing) or packed (4-bit ones count per value).
    public func indexJSON(parameterCount: UInt64? = nil) -> [UInt8] {
        let weightMap = shards.flatMap { shard in
            shard.items.map { JSON.Member(items[$0].name, .string(shard.fileName)) }
        }
        let elementCount = items.reduce(0 as UInt64) { $0 + $1.elementCount }
        let index = JSON.object([
            .init(
                "metadata",
                .object([
                    .init("total_parameters", JSON(parameterCount ?? elementCount)),
                    .init("total_size", JSON(items.reduce(0 as UInt64) { $0 + $1.byteCount })),
                ])),
            .init("weight_map", .object(weightMap)),
        ])
        return index.serialized(.python) + [UInt8(ascii: "\n")]
    }
}

extension HuggingFaceSharding {
    /// Reads a size such as `5GB`, `1.5 mb`, `100KB` or `4096`: decimal units as in huggingface_hub, any case, a
    /// fraction allowed and cut to whole bytes.
    ///
    /// - Returns: nil for anything else, among it binary units and sizes beyond 2^63.
    public static func parseSize(_ text: String) -> UInt64? {
        let spaces: [UInt8] = [0x20, 0x09, 0x0A, 0x0D]
        func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
            var bytes = bytes.drop { spaces.contains($0) }
            while let last = bytes.last, spaces.contains(last) { bytes.removeLast() }
            return bytes
        }
        let bytes = trimmed(Array(text.utf8)[...])
        let units: [([UInt8], Double)] = [
            (Array("KB".utf8), 1e3), (Array("MB".utf8), 1e6), (Array("GB".utf8), 1e9),
            (Array("TB".utf8), 1e12),
        ]
        let unit = bytes.suffix(2).map { $0 & 0xDF }
        guard let multiplier = units.first(where: { $0.0 == unit })?.1 else {
            guard bytes.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
            return UInt64(String(decoding: bytes, as: UTF8.self))
        }
        let digits = trimmed(bytes.dropLast(2))
        guard digits.allSatisfy({ (0x30...0x39).contains($0) || $0 == UInt8(ascii: ".") }),
            let value = Double(String(decoding: digits, as: UTF8.self)), value * multiplier < 0x1p63
        else { return nil }
        return UInt64(value * multiplier)
    }
}
