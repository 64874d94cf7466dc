/// Which rank holds which slice of each tensor.
struct MindFormersSpread {
    struct Slice: Hashable {
        /// A place in `tensors`.
        var tensor: Int
        var number: Int
    }

    /// What one rank writes into one file.
    struct Share {
        var rank: Int
        var slices: [Slice]
    }

    let tensors: [MindFormersPlan.Tensor]
    /// For each rank its slices, in the order of the tensors.
    private(set) var held: [[Slice]]
    /// For each slice its ranks, from the lowest on.
    private(set) var holders: [Slice: [Int]] = [:]
    /// The shape of each tensor's slices.
    private var shapes: [[UInt64]] = []

    init(_ tensors: [MindFormersPlan.Tensor], rankCount: Int) throws(TensorFileError) {
        self.tensors = tensors
        guard (1...MindFormersLayout.maximumRankCount).contains(rankCount) else {
            throw TensorFileError(.invalidLayout, "There can't be \(rankCount) ranks.")
        }
        held = .init(repeating: [], count: rankCount)
        try check(rankCount)
        for (index, tensor) in tensors.enumerated() {
            shapes.append(try tensor.layout.sliceShape(of: tensor.shape, name: tensor.name))
            for (rank, number) in zip(tensor.layout.ranks, tensor.layout.slices) {
                held[rank].append(Slice(tensor: index, number: number))
            }
        }
        for (rank, slices) in held.enumerated() {
            for slice in slices { holders[slice, default: []].append(rank) }
        }
    }

    private func check(_ rankCount: Int) throws(TensorFileError) {
        var names: Set<ExactText> = []
        var count = 0
        for tensor in tensors {
            guard names.insert(ExactText(tensor.name)).inserted else {
                throw TensorFileError(.invalidName, "Two tensors have the name \(tensor.name.quoted).")
            }
            guard tensor.dtype.mindSporeName != nil else {
                throw TensorFileError(
                    .unsupportedDType,
                    "MindSpore has no type for the tensor \(tensor.name.quoted), which is \(tensor.dtype.name)."
                )
            }
            guard tensor.layout.ranks.allSatisfy({ $0 < rankCount }) else {
                throw TensorFileError(
                    .invalidLayout,
                    "The tensor \(tensor.name.quoted) is on a rank beyond the \(rankCount) that there are.")
            }
            guard tensor.dtype.byteCount(shape: tensor.shape) != nil else {
                throw TensorFileError(
                    .invalidShape, "The shape of the tensor \(tensor.name.quoted) is beyond 64 bits.")
            }
            count += tensor.layout.ranks.count
            guard count <= MindFormersPlan.maximumPieceCount else {
                throw TensorFileError(.tooLarge, "The ranks hold over 16,777,216 slices together.")
            }
        }
    }

    // MARK: Description

    /// The tensors as `metadata.json` has them: rank by rank, as they are first met.
    func descriptions() -> [MindFormersMetadata.Tensor] {
        var descriptions: [MindFormersMetadata.Tensor] = []
        var places: [Int: Int] = [:]
        var met: Set<Slice> = []
        for slice in held.joined() where met.insert(slice).inserted {
            let place = places[slice.tensor] ?? descriptions.count
            if place == descriptions.count {
                places[slice.tensor] = place
                descriptions.append(description(of: slice.tensor))
            }
            descriptions[place].chunks.append(.init(slice: slice.number, shape: shapes[slice.tensor]))
        }
        return descriptions
    }

    private func description(of index: Int) -> MindFormersMetadata.Tensor {
        let tensor = tensors[index]
        return .init(
            name: tensor.name, dtype: tensor.dtype.mindSporeName ?? "",
            replicas: .each(tensor.layout.replicas),
            allowsShapeMismatch: false, isSaved: true, shape: tensor.shape,
            fragmentations: tensor.layout.fragmentations, layout: tensor.layout, chunks: [])
    }

    // MARK: Files

    /// What each rank holds of a kind.
    func shares(of kind: MindFormersFileName.Kind) -> [Share] {
        held.enumerated().map { rank, slices in
            Share(rank: rank, slices: slices.filter { tensors[$0.tensor].kind == kind })
        }
    }

    /// The same with each slice once, as the library chooses: those that the fewest ranks hold first, of these the largest,
    /// of these by their keys; each to the rank among its holders that has the least so far. Ranks without any are left
    /// out.
    func balancedShares(of kind: MindFormersFileName.Kind) -> [Share] {
        let slices = holders.keys.filter { tensors[$0.tensor].kind == kind }.map { slice in
            (
                slice: slice, holders: holders[slice] ?? [], size: weight(of: slice),
                key: MindFormersMetadata.StoredSlice(
                    tensor: tensors[slice.tensor].name, slice: slice.number, places: []
                ).key
            )
        }
        var shares = held.indices.map { Share(rank: $0, slices: []) }
        var loads = [UInt64](repeating: 0, count: held.count)
        let order = slices.sorted { a, b in
            if a.holders.count != b.holders.count { return a.holders.count < b.holders.count }
            return a.size != b.size ? a.size > b.size : a.key.precedesByBytes(b.key)
        }
        for (slice, holders, size, _) in order {
            guard let rank = holders.min(by: { (loads[$0], $0) < (loads[$1], $1) }) else { continue }
            shares[rank].slices.append(slice)
            let (load, overflow) = loads[rank].addingReportingOverflow(size)
            loads[rank] = overflow ? .max : load
        }
        return shares.filter { !$0.slices.isEmpty }
    }

    /// The same as MindSpore does it for 1.0: the slices that the same ranks hold are dealt to them by turns, in the order of their
    /// names. (mindspore, `train/_utils.py:remove_param_redundancy`)
    func dealtShares(of kind: MindFormersFileName.Kind) -> [Share] {
        var shares = held.indices.map { Share(rank: $0, slices: []) }
        let slices = holders.keys.filter { tensors[$0.tensor].kind == kind }.sorted { a, b in
            a.tensor == b.tensor
                ? a.number < b.number : tensors[a.tensor].name.precedesByBytes(tensors[b.tensor].name)
        }
        var dealt: [[Int]: Int] = [:]
        for slice in slices {
            let holders = holders[slice] ?? []
            if tensors[slice.tensor].isEverywhere {
                for rank in holders { shares[rank].slices.append(slice) }
            } else {
                let turn = dealt[holders, default: 0]
                shares[holders[turn % holders.count]].slices.append(slice)
                dealt[holders] = turn + 1
            }
        }
        return shares
    }

    /// What the library counts a slice as: its bits, but one for a truth value, and 16 for types that it has no size of.
    private func weight(of slice: Slice) -> UInt64 {
        let dtype = tensors[slice.tensor].dtype
        let bits: UInt64 =
            switch dtype {
            case .bool: 1
            case .c64, .f8E4M3, .f8E5M2: 16
            default: UInt64(dtype.bitsPerElement)
            }
        return shapes[slice.tensor].reduce(bits) { $0.multipliedReportingOverflow(by: $1).partialValue }
    }

    /// A file of a share, in the order that safetensors has its tensors in.
    func file(
        _ name: MindFormersFileName, _ share: Share, _ metadata: [(key: String, value: String)]
    ) -> MindFormersPlan.File {
        let entries = share.slices.map { slice in
            let (tensor, shape) = (tensors[slice.tensor], shapes[slice.tensor])
            return (tensor.name, tensor.dtype, shape, tensor.dtype.byteCount(shape: shape) ?? 0)
        }
        let (header, order) = SafetensorsHeader.canonicalHeader(tensors: entries, metadata: metadata)
        let pieces = order.map { index in
            let slice = share.slices[index]
            return MindFormersPlan.Piece(
                tensor: slice.tensor, slice: slice.number, area: area(of: slice), byteCount: entries[index].3)
        }
        return .init(name: name, rank: share.rank, header: header, pieces: pieces)
    }

    private func area(of slice: Slice) -> [Range<UInt64>] {
        // Every layout was found to divide its tensor when the slices' shapes were.
        let (layout, shape) = (tensors[slice.tensor].layout, shapes[slice.tensor])
        return layout.area(ofSlice: slice.number, lengths: shape)
    }
}
