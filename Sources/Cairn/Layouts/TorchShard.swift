internal import TensorFormats

/// The part of a distributed tensor of torch's that one rank's file holds. (torch, `distributed/tensor/_utils.py`,
/// `distributed/_shard/sharded_tensor`)
struct TorchShard {
    /// Of the whole.
    var shape: [UInt64]
    /// The first element of the part, along each axis.
    var offset: [UInt64]
    var part: TorchTree.Tensor

    /// - Returns: several where a rank has several; none where it has none; nil where the value is no such tensor.
    /// - Throws: `.inconsistent` where it is one that can't be put together.
    static func all(in value: TorchTree.Value, _ name: String) throws -> [TorchShard]? {
        // A function, a type, the function's arguments and a state. The arguments are a type, a dtype, a shape and others.
        let call = value.arguments
        guard call.count > 3, let type = call[1].globalName?.split(separator: ".").last,
            let arguments = call[2].elements, arguments.count > 2, let shape = arguments[2].dimensions
        else { return nil }
        switch type {
        case "DTensor": return try distributed(value, shape, name)
        case "ShardedTensor": return try sharded(value, shape, name)
        default: return nil
        }
    }

    // MARK: DTensor

    /// What a mesh of ranks says: how many there are along each of its dimensions, and where among them this one is.
    struct Mesh {
        var names: [String]
        var sizes: [UInt64]
        var coordinates: [UInt64]

        init?(_ value: TorchTree.Value?) {
            guard let value, let place = value.attribute("_coordinate_on_dim")?.dimensions,
                let sizes = Self.sizes(value), sizes.count == place.count,
                zip(place, sizes).allSatisfy({ $0 < $1 })
            else { return nil }
            (self.sizes, coordinates) = (sizes, place)
            let names = value.attribute("_mesh_dim_names") ?? value.attribute("mesh_dim_names")
            self.names = (names?.elements ?? []).compactMap(\.string)
        }

        /// In the layout of newer versions, or as the shape of the tensor that has the ranks.
        private static func sizes(_ value: TorchTree.Value) -> [UInt64]? {
            guard let layout = value.attribute("_layout") else {
                return value.attribute("mesh")?.tensor?.shape
            }
            let axes = layout.attribute("axes")?.elements?.map { $0.attribute("shape") }
            let shape = layout.attribute("shape")
            let sizes = axes ?? shape?.elements?.map { Optional($0) } ?? [shape]
            let products = sizes.map { size in size.flatMap { product($0, depth: 0) } }
            return products.contains(nil) ? nil : products.compactMap { $0 }
        }

        /// Of a number, or numbers nested in tuples, as dimensions that were flattened have it.
        private static func product(_ value: TorchTree.Value, depth: Int) -> UInt64? {
            if let number = value.int { return UInt64(exactly: number) }
            guard depth < 4, let parts = value.elements?.map({ product($0, depth: depth + 1) }),
                !parts.contains(nil)
            else { return nil }
            return parts.compactMap { $0 }.product
        }
    }

    private static func distributed(
        _ value: TorchTree.Value, _ shape: [UInt64], _ name: String
    ) throws -> [TorchShard]? {
        guard let spec = value.attribute("_spec"), let part = value.attribute("_local_tensor")?.tensor,
            let placements = spec.attribute("placements")?.elements,
            let mesh = Mesh(spec.attribute("mesh")), mesh.sizes.count == placements.count
        else { throw Assembly.refused("nothing says where the parts of \(name) belong") }
        var (lengths, offset) = (shape, [UInt64](repeating: 0, count: shape.count))
        for (dimension, placement) in placements.enumerated() {
            switch placement.className?.split(separator: ".").last {
            case "Replicate": break
            case "Shard":
                guard let axis = placement.attribute("dim", position: 0)?.int, lengths.indices.contains(axis)
                else { throw Assembly.refused("\(name) is cut along an axis that it does not have") }
                // Each rank but the last ones has as many as go into equal parts, rounded up. (torch, `Tensor.chunk`)
                let count = mesh.sizes[dimension]
                let length = lengths[axis] / count + (lengths[axis] % count == 0 ? 0 : 1)
                let (product, overflow) = mesh.coordinates[dimension].multipliedReportingOverflow(by: length)
                let start = overflow ? lengths[axis] : min(product, lengths[axis])
                offset[axis] += start
                lengths[axis] = min(length, lengths[axis] - start)
            case let other:
                throw Assembly.refused(
                    "\(name) is placed among its ranks in a way that can't be merged: \(other ?? "unknown")")
            }
        }
        if lengths.contains(0), part.shape.contains(0) { return [] }
        guard part.shape == lengths else {
            throw Assembly.refused("a rank has \(part.shape) of \(name), where \(lengths) is its part")
        }
        return [TorchShard(shape: shape, offset: offset, part: part)]
    }

    // MARK: ShardedTensor

    /// Its state begins with the parts, each with its place.
    private static func sharded(
        _ value: TorchTree.Value, _ shape: [UInt64], _ name: String
    ) throws -> [TorchShard]? {
        guard let parts = value.state?.elements?.first?.elements else {
            throw Assembly.refused("nothing says where the parts of \(name) belong")
        }
        return try parts.map { part in
            guard let tensor = part.attribute("tensor")?.tensor,
                let offset = part.attribute("metadata")?.attribute("shard_offsets")?.dimensions,
                offset.count == shape.count, tensor.shape.count == shape.count,
                shape.indices.allSatisfy({
                    offset[$0] <= shape[$0] && tensor.shape[$0] <= shape[$0] - offset[$0]
                })
            else { throw Assembly.refused("a part of \(name) is outside of it") }
            return TorchShard(shape: shape, offset: offset, part: tensor)
        }
    }
}

/// Puts tensors together whose parts are in the files of ranks.
struct ShardGathering {
    private struct Whole {
        var shape: [UInt64]
        var dtype: String
        var pieces: [Assembly.Piece] = []
        /// Where those begin: ranks that have the same do not count.
        var offsets: Set<[UInt64]> = []
        var count: UInt64 = 0
    }

    private var names: [String] = []
    private var wholes: [String: Whole] = [:]

    /// Adds what a file has of a tensor. Of one that is not distributed, the first is taken.
    mutating func add(_ name: String, _ value: TorchTree.Value, file: String) throws {
        if let tensor = value.tensor {
            guard wholes[name] == nil else { return }
            let offset = [UInt64](repeating: 0, count: tensor.shape.count)
            try add(name, TorchShard(shape: tensor.shape, offset: offset, part: tensor), file)
        } else {
            for shard in try TorchShard.all(in: value, name) ?? [] { try add(name, shard, file) }
        }
    }

    private mutating func add(_ name: String, _ shard: TorchShard, _ file: String) throws {
        let (stored, dtype) = try shard.part.stored(in: file)
        if wholes[name] == nil {
            names.append(name)
            wholes[name] = Whole(shape: shard.shape, dtype: dtype)
        }
        guard let whole = wholes[name], whole.shape == shard.shape, whole.dtype == dtype else {
            throw Assembly.refused(
                "\(file) has another shape or dtype for \(name) than the files before it", file)
        }
        guard shard.part.count > 0, wholes[name]!.offsets.insert(shard.offset).inserted else { return }
        wholes[name]!.count += shard.part.count
        wholes[name]!.pieces.append(
            .init(file: file, tensor: stored, place: .box(offset: shard.offset, shape: shard.part.shape)))
    }

    /// - Throws: `.inconsistent` where something is missing of a tensor, or is there twice.
    func tensors() throws -> [Assembly.Tensor] {
        try names.map { name in
            let whole = wholes[name]!
            guard whole.shape.product == whole.count else {
                throw Assembly.refused(
                    "the ranks have \(whole.count) elements of \(name), which has \(whole.shape)")
            }
            return .init(name: name, dtype: whole.dtype, shape: whole.shape, pieces: whole.pieces)
        }
    }
}
