internal import Platform
internal import TensorFormats

extension CairnState {
    /// A box of a tensor that a rank has.
    private struct Shard {
        var name: String
        /// Of the whole.
        var shape: [UInt64]
        var offset: [UInt64]
    }

    private struct Whole {
        var tensor: Assembly.Tensor
        /// Where its pieces begin: ranks that have the same do not count.
        var offsets: Set<[UInt64]> = []
    }

    /// A tensor of one part.
    private struct Key: Hashable {
        var part: String
        var name: ExactText
    }

    func assembly(of view: CheckpointView) throws -> Assembly? {
        var wholes: [Key: Whole] = [:]
        var order: [Key] = []
        let model = Self.modelParts.first { part in
            Self.folders(view).contains { view.has($0 + part + ".safetensors") }
        }
        for folder in Self.folders(view) {
            let shards = try Self.shards(view, folder)
            for file in view.files.map(\.path) where Self.isPart(file, of: folder) {
                let part = String(file.dropFirst(folder.count).dropLast(".safetensors".count))
                for tensor in try view.tensors(in: file)?.tensors ?? [] {
                    let shard = shards[part]?[tensor.name]
                    // What is whole stands under its own name where it is no part of the model.
                    guard shard != nil || part == model else { continue }
                    let key = Key(part: part, name: ExactText(shard?.name ?? tensor.name))
                    if wholes[key] == nil { order.append(key) }
                    let prefix = part == model ? "" : part + "."
                    try Self.add(tensor, shard, file, prefix, to: &wholes[key])
                }
            }
        }
        var assembly = Assembly(fileName: model ?? "model")
        for key in order {
            if key.part == model {
                assembly.tensors.append(wholes[key]!.tensor)
            } else {
                assembly.optimizer.append(wholes[key]!.tensor)
            }
        }
        assembly.files = view.files.map(\.path).filter {
            !$0.contains("/") && $0 != Self.stateFile && HuggingFace.isBeside($0)
                && !$0.hasSuffix(".safetensors")
        }.map { ($0, $0) }
        return assembly
    }

    private static func isPart(_ path: String, of folder: String) -> Bool {
        path.hasPrefix(folder) && path.hasSuffix(".safetensors")
            && !path.dropFirst(folder.count).contains("/")
    }

    private static func add(
        _ tensor: TensorMap.Tensor, _ shard: Shard?, _ file: String, _ prefix: String, to whole: inout Whole?
    ) throws {
        let shape = shard?.shape ?? tensor.shape
        let offset = shard?.offset ?? [UInt64](repeating: 0, count: tensor.shape.count)
        let isInside =
            offset.count == shape.count && tensor.shape.count == shape.count
            && zip(zip(offset, tensor.shape), shape).allSatisfy { part, length in
                let (end, overflow) = part.0.addingReportingOverflow(part.1)
                return !overflow && end <= length
            }
        guard isInside, whole.map({ $0.tensor.shape == shape && $0.tensor.dtype == tensor.dtype }) ?? true
        else {
            throw Assembly.refused(
                "the shards of \(shard?.name ?? tensor.name) that its ranks have don't fit together", file)
        }
        if whole == nil {
            let name = shard?.name ?? tensor.name
            whole = Whole(
                tensor: Assembly.Tensor(
                    name: prefix + name, dtype: tensor.dtype, shape: shape, pieces: []))
        }
        guard tensor.length > 0 || shape.contains(0) else { return }
        guard whole!.offsets.insert(offset).inserted else {
            whole!.tensor.copies.append(.init(file: file, tensor: tensor.name))
            return
        }
        whole!.tensor.pieces.append(
            .init(file: file, tensor: tensor.name, place: .box(offset: offset, shape: tensor.shape)))
    }

    /// By part and stored tensor: of what larger one it is a box.
    private static func shards(_ view: CheckpointView, _ folder: String) throws -> [String: [String: Shard]] {
        var shards: [String: [String: Shard]] = [:]
        let path = folder + stateFile
        for member in try view.json(path)?["shards"]?.members ?? [] {
            for box in member.value.array ?? [member.value] {
                guard let file = box["file"]?.stringValue, file.hasSuffix(".safetensors"),
                    let tensor = box["tensor"]?.stringValue, let shape = numbers(box["shape"]),
                    let offset = numbers(box["offset"])
                else {
                    throw Assembly.refused(
                        "\(path) says nothing of where a shard of \(member.key) lies", path)
                }
                shards[String(file.dropLast(".safetensors".count)), default: [:]][tensor] = Shard(
                    name: member.key, shape: shape, offset: offset)
            }
        }
        return shards
    }

    private static func numbers(_ json: JSON?) -> [UInt64]? {
        guard let values = json?.array else { return nil }
        let numbers = values.compactMap(\.uint64)
        return numbers.count == values.count ? numbers : nil
    }
}
