/// How MindSpore Transformers 2.0 spreads a tensor over devices: a matrix of devices, and for each axis of the tensor
/// the axes of the matrix that cut it.
///
/// A slice is numbered row by row over the cuts; that number is what its files call `global_offset`.
public struct MindFormersLayout: Sendable, Hashable {
    /// What cuts an axis of the tensor. Axes of the device matrix are counted from its last, which is 0.
    public enum Cut: Sendable, Hashable {
        case none
        case axis(Int)
        /// Several axes, the first being the coarsest.
        case axes([Int])

        /// The axes of the device matrix, coarsest first.
        public var axes: [Int] {
            switch self {
            case .none: []
            case .axis(let axis): [axis]
            case .axes(let axes): axes.filter { $0 >= 0 }
            }
        }
    }

    /// Devices along each axis of the matrix.
    public let deviceMatrix: [Int]
    /// One for each axis of the tensor.
    public let tensorMap: [Cut]
    /// Whether slices are cut once more for two streams. Nothing is known here of where such slices lie.
    public let isInterleaved: Bool
    /// The names of the matrix's axes.
    public let axisNames: [String]
    /// The ranks in the order of the matrix, its last axis running fastest.
    public let ranks: [Int]

    /// What ranks and devices may amount to: more than any cluster has, and little enough to count through.
    public static let maximumRankCount = 1 << 20
    static let maximumAxisCount = 64

    /// - Throws: `TensorFileError` where these contradict each other.
    public init(
        deviceMatrix: [Int], tensorMap: [Cut], isInterleaved: Bool = false, axisNames: [String], ranks: [Int]
    ) throws(TensorFileError) {
        self.deviceMatrix = deviceMatrix
        self.tensorMap = tensorMap
        self.isInterleaved = isInterleaved
        self.axisNames = axisNames
        self.ranks = ranks
        if let problem { throw TensorFileError(.invalidLayout, "A layout of MindSpore has \(problem).") }
    }

    /// What makes it none.
    private var problem: String? {
        guard (1...Self.maximumAxisCount).contains(deviceMatrix.count), deviceMatrix.allSatisfy({ $0 > 0 }),
            let count = Self.product(deviceMatrix)
        else { return "a device matrix of \(deviceMatrix.prefix(8)), which no cluster has" }
        guard axisNames.count == deviceMatrix.count else {
            return "\(axisNames.count) names for \(deviceMatrix.count) axes"
        }
        // Interleaved ones have an axis more than they have devices for.
        guard ranks.count == count || isInterleaved && ranks.count <= count, !ranks.isEmpty else {
            return "\(ranks.count) ranks for \(count) devices"
        }
        guard ranks.allSatisfy({ (0..<Self.maximumRankCount).contains($0) }), Set(ranks).count == ranks.count
        else { return "a rank twice, or one that no cluster has" }
        let axes = tensorMap.flatMap(\.axes)
        guard tensorMap.count <= Self.maximumAxisCount,
            axes.allSatisfy({ deviceMatrix.indices.contains($0) }),
            Set(axes).count == axes.count
        else { return "a tensor map that cuts along an axis twice, or along one that is not there" }
        return nil
    }

    /// nil where it is beyond what ranks there may be.
    private static func product(_ sizes: [Int]) -> Int? {
        var product = 1
        for size in sizes {
            guard size <= maximumRankCount / product else { return nil }
            product *= size
        }
        return product
    }
}

// MARK: Slices

extension MindFormersLayout {
    /// Slices along each axis of the tensor: `axis_fragmentations` in its files.
    public var fragmentations: [Int] {
        tensorMap.map { $0.axes.reduce(1) { $0 * size(ofAxis: $1) } }
    }

    /// Slices of a tensor.
    public var sliceCount: Int { fragmentations.reduce(1, *) }

    private func size(ofAxis axis: Int) -> Int { deviceMatrix[deviceMatrix.count - 1 - axis] }

    /// The number of the slice that each of `ranks` holds, in their order.
    public var slices: [Int] {
        // How far apart ranks are that are neighbours along an axis of the matrix.
        var strides = [Int](repeating: 1, count: deviceMatrix.count)
        for axis in 1..<max(1, strides.count) { strides[axis] = strides[axis - 1] * size(ofAxis: axis - 1) }
        let axes = tensorMap.flatMap(\.axes)
        return ranks.indices.map { place in
            axes.reduce(0) { slice, axis in
                slice * size(ofAxis: axis) + place / strides[axis] % size(ofAxis: axis)
            }
        }
    }

    /// For each of `ranks` how many ranks before it hold the same slice: `replica_id` in its files.
    public var replicas: [Int] {
        var counts: [Int: Int] = [:]
        return slices.map { slice in
            defer { counts[slice, default: 0] += 1 }
            return counts[slice, default: 0]
        }
    }

    /// The shape of each slice.
    /// - Parameter name: the tensor, for the error's sentence.
    /// - Throws: `TensorFileError` where the shape has not as many axes as the layout, or one doesn't divide.
    public func sliceShape(of shape: [UInt64], name: String) throws(TensorFileError) -> [UInt64] {
        guard !isInterleaved else {
            throw TensorFileError(
                .invalidLayout,
                "The tensor \(name.quoted) is interleaved, and where its slices lie is not known here.")
        }
        guard shape.count == tensorMap.count else {
            throw TensorFileError(
                .invalidLayout,
                "The tensor \(name.quoted) has \(shape.count) axes, and its tensor map is for \(tensorMap.count)."
            )
        }
        let counts = fragmentations
        for (axis, count) in counts.enumerated() where shape[axis] % UInt64(count) != 0 {
            throw TensorFileError(
                .invalidLayout,
                "Axis \(axis) of the tensor \(name.quoted) has length \(shape[axis]), which does not divide among "
                    + "\(count) devices.")
        }
        return zip(shape, counts).map { $0 / UInt64($1) }
    }

    /// Where a slice lies in the tensor: a range of each axis.
    /// - Parameter slice: its number, below `sliceCount`.
    /// - Throws: `TensorFileError` as for `sliceShape`, and where there is no such slice.
    public func area(
        ofSlice slice: Int, of shape: [UInt64], name: String
    ) throws(TensorFileError) -> [Range<UInt64>] {
        let lengths = try sliceShape(of: shape, name: name)
        guard (0..<sliceCount).contains(slice) else {
            throw TensorFileError(
                .invalidLayout,
                "The tensor \(name.quoted) has \(sliceCount) slices, and none is number \(slice).")
        }
        return self.area(ofSlice: slice, lengths: lengths)
    }

    /// - Parameter lengths: the shape of each slice.
    func area(ofSlice slice: Int, lengths: [UInt64]) -> [Range<UInt64>] {
        var (rest, area): (Int, [Range<UInt64>]) = (slice, [])
        for (count, length) in zip(fragmentations, lengths).reversed() {
            let start = UInt64(rest % count) * length
            area.append(start..<start + length)
            rest /= count
        }
        return area.reversed()
    }

    /// Where the slice that a rank holds lies in the tensor; nil where the rank holds none.
    public func area(
        ofRank rank: Int, of shape: [UInt64], name: String
    ) throws(TensorFileError) -> [Range<UInt64>]? {
        guard let place = ranks.firstIndex(of: rank) else { return nil }
        return try area(ofSlice: slices[place], of: shape, name: name)
    }
}
