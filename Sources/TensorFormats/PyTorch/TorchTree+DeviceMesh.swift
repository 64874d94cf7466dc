extension TorchTree.DeviceMesh {
    /// Reads every mesh once: the tensors of a file share a few, each of which may have a rank for every process.
    /// Their ranks are limited, so that no file can make this take long.
    static func all(in source: TorchTree.Source) -> [Pickle.Index: Result<Self, TensorFileError>] {
        let isThere = source.classes.values.contains { if case .deviceMesh = $0 { true } else { false } }
        guard isThere else { return [:] }
        let pickle = source.pickle
        var (meshes, rest) = ([Pickle.Index: Result<Self, TensorFileError>](), 16 * MeshLayout.limit)
        for index in pickle.nodes.indices {
            let index = Pickle.Index(index)
            guard let object = pickle.object(index), case .deviceMesh = source.classes[object.function] else {
                continue
            }
            let mesh = TorchTree.Value(source: source, index: index)
            meshes[index] = Result { () throws(TensorFileError) in
                guard rest > 0 else {
                    throw TensorFileError(.tooLarge, "The file holds too many meshes of processes.")
                }
                let field = mesh.field("_flatten_mesh_list") ?? mesh.field("_flatten_rank_map")
                let ranks = field?.integers(atMost: MeshLayout.limit)
                rest -= 1024 + (ranks?.count ?? MeshLayout.limit)
                guard let ranks else { throw .unsupported("a mesh without its ranks") }
                guard let layout = mesh.field("_layout") else {
                    return try Self(ofTensor: mesh, ranks: ranks)
                }
                return try Self(mesh, layout: MeshLayout(layout), over: ranks)
            }
        }
        return meshes
    }

    /// Before PyTorch 2.10 the mesh is a tensor, whose elements are the ranks.
    private init(ofTensor mesh: TorchTree.Value, ranks: [Int]) throws(TensorFileError) {
        guard let shape = mesh.field("mesh")?.tensor?.shape.map({ Int(exactly: $0) ?? 0 }),
            ranks.count == MeshLayout.count(of: shape)
        else { throw .unsupported("a mesh in an unknown form") }
        self.shape = shape
        self.ranks = ranks
        names = try mesh.field("mesh_dim_names")?.names(count: shape.count)
        coordinate = try mesh.field("_coordinate_on_dim")?.coordinate(in: shape)
    }

    /// Since PyTorch 2.10 the mesh is a layout over a list of ranks, which may have more than the mesh.
    private init(_ mesh: TorchTree.Value, layout: MeshLayout, over list: [Int]) throws(TensorFileError) {
        guard layout.span <= list.count else { throw .unsupported("a mesh without its ranks") }
        shape = layout.axes.map(\.length)
        names = try mesh.field("_mesh_dim_names")?.names(count: shape.count)
        coordinate = try mesh.field("_coordinate_on_dim")?.coordinate(in: shape)
        // Of a longer list that part is meant which this process is in.
        var start: Int?
        if layout.count == list.count {
            start = 0
        } else if let rank = mesh.field("_rank")?.int, let place = list.firstIndex(of: rank), let coordinate {
            let first = place - layout.offset(of: coordinate)
            guard first >= 0, layout.span <= list.count - first else {
                throw .unsupported("a mesh that its process is not in")
            }
            start = first
        }
        ranks = start.map { start in layout.offsets.map { list[start + $0] } }
    }
}

/// Where the elements of a mesh lie in a list: for each axis lengths with strides, the last of which runs fastest.
private struct MeshLayout {
    struct Axis {
        var modes: [(length: Int, stride: Int)]

        var length: Int { modes.reduce(1) { $0 * $1.length } }

        /// Of one element of the axis.
        func offset(of position: Int) -> Int {
            var (offset, rest) = (0, position)
            for mode in modes.reversed() {
                offset += rest % mode.length * mode.stride
                rest /= mode.length
            }
            return offset
        }
    }

    let axes: [Axis]
    /// Elements of the mesh.
    let count: Int
    /// From the first one to behind the last.
    let span: Int

    /// More processes than there are.
    static let limit = 1 << 20

    init(_ layout: TorchTree.Value) throws(TensorFileError) {
        let known = "torch.distributed._mesh_layout._MeshLayout"
        guard layout.className == known, let axes = Self.axes(layout),
            axes.count <= PyTorchLimits.dimensionCount,
            let count = Self.count(of: axes.flatMap { $0.modes.map(\.length) })
        else { throw .unsupported("a layout of a mesh in an unknown form") }
        self.axes = axes
        self.count = count
        // Each factor is below the limit, and each length but 1 at least halves what the others may be.
        span = 1 + axes.flatMap(\.modes).reduce(0) { $0 + ($1.length - 1) * $1.stride }
    }

    /// The product, each factor being at least 1; nil where it is beyond the limit.
    static func count(of lengths: [Int]) -> Int? {
        var count = 1
        for length in lengths {
            guard length > 0, length <= limit, count <= limit / length else { return nil }
            count *= length
        }
        return count
    }

    private static func axes(_ layout: TorchTree.Value) -> [Axis]? {
        // Since PyTorch 2.13 a flat layout for each axis; before, shape and stride for all, with tuples in tuples.
        if let axes = layout.field("axes")?.elements() {
            var found: [Axis] = []
            for axis in axes {
                guard axis.className == "torch.distributed._mesh_layout._FlatLayout",
                    let shape = axis.field("shape"), let stride = axis.field("stride"),
                    let axis = Self.axis(shape, stride)
                else { return nil }
                found.append(axis)
            }
            return found
        }
        guard let shape = layout.field("shape"), let stride = layout.field("stride") else {
            return nil
        }
        guard let shapes = shape.elements, let strides = stride.elements else {
            return axis(shape, stride).map { [$0] }
        }
        guard shapes.count == strides.count, shapes.count <= PyTorchLimits.dimensionCount else { return nil }
        let axes = zip(shapes, strides).compactMap { axis($0, $1) }
        return axes.count == shapes.count ? axes : nil
    }

    /// Numbers, or tuples of them.
    private static func axis(_ shape: TorchTree.Value, _ stride: TorchTree.Value) -> Axis? {
        let lengths = shape.integers() ?? shape.int.map { [$0] }
        let strides = stride.integers() ?? stride.int.map { [$0] }
        guard let lengths, let strides, lengths.count == strides.count,
            lengths.allSatisfy({ (1...limit).contains($0) }), strides.allSatisfy({ (0...limit).contains($0) })
        else { return nil }
        return Axis(modes: zip(lengths, strides).map { ($0, $1) })
    }

    func offset(of coordinate: [Int]) -> Int {
        zip(axes, coordinate).reduce(0) { $0 + $1.0.offset(of: $1.1) }
    }

    /// Of all elements, in the order of the axes.
    var offsets: [Int] {
        var offsets = [0]
        for axis in axes {
            let steps = (0..<axis.length).map { axis.offset(of: $0) }
            offsets = offsets.flatMap { offset in steps.map { offset + $0 } }
        }
        return offsets
    }
}

extension TorchTree.Value {
    /// The names of a mesh's axes; nil for None.
    fileprivate func names(count: Int) throws(TensorFileError) -> [String]? {
        if isNone { return nil }
        let names = (elements() ?? []).compactMap(\.string)
        guard names.count == count else {
            throw .unsupported("a mesh with another number of names than axes")
        }
        return names
    }

    /// A place in a mesh; nil for None.
    fileprivate func coordinate(in shape: [Int]) throws(TensorFileError) -> [Int]? {
        if isNone { return nil }
        guard let coordinate = integers(), coordinate.count == shape.count,
            zip(coordinate, shape).allSatisfy({ (0..<$1).contains($0) })
        else { throw .unsupported("a place outside of its mesh") }
        return coordinate
    }
}
