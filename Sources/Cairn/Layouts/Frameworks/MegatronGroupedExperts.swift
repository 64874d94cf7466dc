import TensorFormats

/// Experts of which one tensor has all of a rank's, one behind the other, whatever its shape says. (Megatron-LM,
/// `core/transformer/moe/experts.py:GroupedMLP`)
struct MegatronGroupedExperts {
    private let arguments: MegatronArguments
    /// Of expert parallelism.
    private let ranks: UInt64

    init(_ arguments: MegatronArguments, ranks: UInt64) { (self.arguments, self.ranks) = (arguments, ranks) }

    /// - Parameter parts: for each rank of expert parallelism, those of tensor parallelism.
    func merged(_ name: String, as global: String, _ parts: [[MegatronRules.Part]]) throws -> Assembly.Tensor
    {
        let first = parts[0][0]
        guard let count = arguments.int("num_experts"), count > 0, UInt64(count).isMultiple(of: ranks) else {
            throw Assembly.refused(
                "nothing says how many experts are in \(name), which \(parts[0].count) ranks of tensor parallelism divide",
                first.file)
        }
        let own = UInt64(count) / ranks
        let isFirst = name.hasSuffix("weight1")
        // Each expert's is `hidden` by what it gives, and that by `hidden`.
        guard first.tensor.shape.count == 2, let all = first.tensor.shape.product, all > 0,
            all.isMultiple(of: own), [all, UInt64(parts.count * parts[0].count)].product != nil,
            first.tensor.shape[isFirst ? 1 : 0].isMultiple(of: own)
        else { throw unlike(global, first) }
        let (rows, columns) = (first.tensor.shape[0], first.tensor.shape[1])
        let shape = isFirst ? [own, rows, columns / own] : [own, rows / own, columns]
        let halves: UInt64 = isFirst && first.partner?.shape.first.map { $0 * 2 == columns } == true ? 2 : 1
        guard isFirst == false || first.partner != nil, shape[2].isMultiple(of: halves) else {
            throw unlike(global, first)
        }
        return try whole(global, parts, shape, axis: isFirst ? 2 : 1, halves: halves)
    }

    private func whole(
        _ name: String, _ parts: [[MegatronRules.Part]], _ shape: [UInt64], axis: Int, halves: UInt64
    ) throws -> Assembly.Tensor {
        let (tensors, step) = (UInt64(parts[0].count), shape[axis] / halves)
        var whole = Assembly.Tensor(whole: name, parts[0][0].tensor, file: parts[0][0].file)
        whole.pieces = []
        whole.partShape = [shape[0] * ranks, shape[1], shape[2]]
        whole.partShape![axis] *= tensors
        let length =
            axis == 2 ? whole.partShape![0] * whole.partShape![2] : whole.partShape![0] * whole.partShape![1]
        whole.shape = axis == 2 ? [shape[1], length] : [length, shape[2]]
        for (expert, parts) in parts.enumerated() {
            for (rank, part) in parts.enumerated() {
                let (stored, dtype) = try part.tensor.stored(in: part.file)
                guard part.tensor.shape == self.shape(shape, axis), dtype == whole.dtype else {
                    throw unlike(name, part)
                }
                let row = Assembly.Piece(
                    file: part.file, tensor: stored, place: .run(start: 0, count: part.tensor.count, from: 0))
                let boxes = (0..<halves).map { half in
                    var box = Assembly.Part.Box(
                        region: shape.map { 0..<$0 }, offset: [UInt64(expert) * shape[0], 0, 0])
                    box.region[axis] = half * step..<(half + 1) * step
                    box.offset[axis] = (half * tensors + UInt64(rank)) * step
                    return box
                }
                whole.parts.append(
                    .init(tensor: .init(name: name, dtype: dtype, shape: shape, pieces: [row]), boxes: boxes))
            }
        }
        return whole
    }

    /// The shape in which it is stored.
    private func shape(_ shape: [UInt64], _ axis: Int) -> [UInt64] {
        axis == 2 ? [shape[1], shape[0] * shape[2]] : [shape[0] * shape[1], shape[2]]
    }

    private func unlike(_ name: String, _ part: MegatronRules.Part) -> any Error {
        Assembly.refused(
            "the part of \(name) in \(part.file) does not fit to that of the first rank", part.file)
    }
}
