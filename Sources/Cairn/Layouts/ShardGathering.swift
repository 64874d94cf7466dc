internal import TensorFormats

/// Puts tensors together whose parts are in the files of ranks, as FSDP has them. (torch, `distributed/tensor/_utils.py`,
/// `distributed/_shard/sharded_tensor`)
struct ShardGathering {
    /// The part that one rank's file has of a tensor.
    private struct Part {
        /// Of the whole.
        var shape: [UInt64]
        /// Its first element, along each axis.
        var offset: [UInt64]
        var tensor: TorchTree.Tensor
    }

    private struct Whole {
        var shape: [UInt64]
        var dtype: String
        var pieces: [Assembly.Piece] = []
        var copies: [Assembly.Stored] = []
        /// Where those begin: ranks that have the same do not count.
        var offsets: Set<[UInt64]> = []
        var count: UInt64 = 0
    }

    private var names: [String] = []
    private var wholes: [String: Whole] = [:]

    /// Adds what a file has of a tensor. Of one that is not distributed, the first is taken.
    /// - Throws: `.inconsistent` where it can't be put together.
    mutating func add(_ name: String, _ value: TorchTree.Value, file: String) throws {
        do {
            if let tensor = value.tensor {
                guard wholes[name] == nil else { return note(copy: tensor, of: name, file) }
                let offset = [UInt64](repeating: 0, count: tensor.shape.count)
                try add(name, Part(shape: tensor.shape, offset: offset, tensor: tensor), file)
            } else if let tensor = try value.distributedTensor() {
                try add(name, try Self.part(tensor, name), file)
            } else if let tensor = try value.shardedTensor() {
                for shard in tensor.local {
                    try add(
                        name, Part(shape: tensor.shape, offset: shard.offsets, tensor: shard.tensor), file)
                }
            }
        } catch let error as TensorFileError {
            throw Assembly.refused("of \(name), \(CheckpointView.inner(error.message))", file)
        }
    }

    /// Where the part of a rank belongs.
    private static func part(_ tensor: TorchTree.DistributedTensor, _ name: String) throws -> Part {
        guard let coordinates = tensor.mesh.coordinate else {
            throw Assembly.refused("a rank that has a part of \(name) is in none of its meshes")
        }
        var (lengths, offset) = (tensor.shape, [UInt64](repeating: 0, count: tensor.shape.count))
        for (axis, placement) in tensor.placements.enumerated() {
            switch placement {
            case .replicate: break
            case .shard(let dimension):
                // Each rank but the last ones has as many as go into equal parts, rounded up. (torch, `Tensor.chunk`)
                let count = UInt64(tensor.mesh.shape[axis])
                let share = lengths[dimension] / count + (lengths[dimension] % count == 0 ? 0 : 1)
                let (product, overflow) = UInt64(coordinates[axis]).multipliedReportingOverflow(by: share)
                let start = overflow ? lengths[dimension] : min(product, lengths[dimension])
                offset[dimension] += start
                lengths[dimension] = min(share, lengths[dimension] - start)
            case .stridedShard, .partial:
                throw Assembly.refused(
                    "\(name) lies among its ranks in a way that can't be merged: \(placement)")
            }
        }
        let isEmpty = lengths.contains(0) && tensor.local.shape.contains(0)
        guard isEmpty || tensor.local.shape == lengths else {
            throw Assembly.refused(
                "a rank has \(tensor.local.shape) of \(name), where \(lengths) is its part")
        }
        return Part(shape: tensor.shape, offset: offset, tensor: tensor.local)
    }

    private mutating func add(_ name: String, _ part: Part, _ file: String) throws {
        let (stored, dtype) = try part.tensor.stored(in: file)
        if wholes[name] == nil {
            names.append(name)
            wholes[name] = Whole(shape: part.shape, dtype: dtype)
        }
        guard let whole = wholes[name], whole.shape == part.shape, whole.dtype == dtype else {
            throw Assembly.refused(
                "\(file) has another shape or dtype for \(name) than the files before it", file)
        }
        guard part.tensor.count > 0, wholes[name]!.offsets.insert(part.offset).inserted else {
            return note(copy: part.tensor, of: name, file)
        }
        wholes[name]!.count += part.tensor.count
        wholes[name]!.pieces.append(
            .init(file: file, tensor: stored, place: .box(offset: part.offset, shape: part.tensor.shape)))
    }

    private mutating func note(copy tensor: TorchTree.Tensor, of name: String, _ file: String) {
        if let stored = tensor.name { wholes[name]!.copies.append(.init(file: file, tensor: stored)) }
    }

    /// - Throws: `.inconsistent` where something is missing of a tensor, or is there twice.
    func tensors() throws -> [Assembly.Tensor] {
        try names.map { name in
            let whole = wholes[name]!
            guard whole.shape.product == whole.count else {
                throw Assembly.refused(
                    "the ranks have \(whole.count) elements of \(name), which has \(whole.shape)")
            }
            return .init(
                name: name, dtype: whole.dtype, shape: whole.shape, pieces: whole.pieces,
                copies: whole.copies)
        }
    }
}
