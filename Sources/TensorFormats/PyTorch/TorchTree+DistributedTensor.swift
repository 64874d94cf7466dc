extension TorchTree {
    /// The part of a distributed tensor (DTensor) that one process held, with where it belongs.
    public struct DistributedTensor: Sendable, Equatable {
        /// The part in this file.
        public let local: Tensor
        /// Of the whole tensor, as are shape and stride. By the name that `TensorMap` has for it.
        public let dtype: String
        public let shape: [UInt64]
        public let stride: [UInt64]
        /// For each axis of the mesh how the tensor lies along it. Where several cut one dimension, the first cuts first.
        public let placements: [Placement]
        public let mesh: DeviceMesh
    }

    /// How a tensor lies along one axis of a mesh.
    public enum Placement: Sendable, Equatable {
        /// Cut along this dimension of the tensor, as `torch.chunk` does.
        case shard(Int)
        /// Cut along this dimension, and that within each of so many parts, into which a later axis of the mesh cuts it.
        case stridedShard(Int, splitFactor: Int)
        case replicate
        /// Each process has a summand, or what else this operation takes.
        case partial(String)
    }

    /// The processes among which a tensor is distributed.
    public struct DeviceMesh: Sendable, Equatable {
        public let shape: [Int]
        /// The global ranks, in the order of the shape; nil where the file does not tell: PyTorch 2.10 does not for
        /// part of a mesh.
        public let ranks: [Int]?
        /// Of the axes, such as `dp`; nil where they have none.
        public let names: [String]?
        /// Where the process that wrote the file stands; nil where it is not in the mesh.
        public let coordinate: [Int]?

        /// The global rank of the process that wrote the file, where it is known.
        public var rank: Int? {
            guard let ranks, let coordinate else { return nil }
            return ranks[zip(shape, coordinate).reduce(0) { $0 * $1.0 + $1.1 }]
        }
    }
}

extension TorchTree.Value {
    /// The distributed tensor that the value is, also inside of a parameter; nil for anything else.
    ///
    /// The forms of PyTorch 2.4 to 2.15 are known.
    /// - Throws: `TensorFileError` with `notUnderstood` for one in another form.
    public func distributedTensor() throws(TensorFileError) -> TorchTree.DistributedTensor? {
        guard let wrapper = try WrapperSubclass(self, oneOf: Self.distributedClasses) else { return nil }
        guard let local = wrapper.state?.fieldOfState("_local_tensor")?.tensor else {
            throw .unsupported("a distributed tensor without a local one")
        }
        guard let specification = wrapper.state?.fieldOfState("_spec"),
            let placements = specification.field("placements")?.elements(),
            let mesh = specification.field("mesh")
        else { throw .unsupported("a distributed tensor without its specification") }
        guard let dtype = wrapper.dtype, let shape = wrapper.shape, let stride = wrapper.stride,
            shape.count == stride.count, shape.count == local.shape.count
        else { throw .unsupported("a distributed tensor without dtype and shape") }
        guard let mesh = try source.meshes[mesh.index]?.get() else {
            throw .unsupported("a distributed tensor without a mesh")
        }
        let tensor = TorchTree.DistributedTensor(
            local: local, dtype: dtype, shape: shape, stride: stride,
            placements: try placements.map { value throws(TensorFileError) in
                try TorchTree.Placement(value, dimensionCount: shape.count)
            }, mesh: mesh)
        guard tensor.placements.count == tensor.mesh.shape.count else {
            throw .unsupported(
                "a distributed tensor with another number of placements than its mesh has axes")
        }
        try tensor.checkOrder(specification)
        return tensor
    }

    private static let distributedClasses = [
        "torch.distributed.tensor.DTensor", "torch.distributed.tensor._api.DTensor",
        // Before PyTorch 2.5.
        "torch.distributed._tensor.api.DTensor",
    ]
}

extension TorchTree.Placement {
    fileprivate init(_ value: TorchTree.Value, dimensionCount: Int) throws(TensorFileError) {
        let name = value.className ?? ""
        guard
            name.hasPrefix("torch.distributed.tensor.placement_types.")
                // Before PyTorch 2.5.
                || name.hasPrefix("torch.distributed._tensor.placement_types.")
        else { throw .unsupported("a placement of the class \(name.quoted)") }
        let dimension = value.field("dim")?.int
        switch (name.split(separator: ".").last, dimension, value.field("split_factor")?.int) {
        case ("Shard", let dimension?, nil) where (0..<dimensionCount).contains(dimension):
            self = .shard(dimension)
        case ("_StridedShard", let dimension?, let factor?)
        where (0..<dimensionCount).contains(dimension) && factor > 0:
            self = .stridedShard(dimension, splitFactor: factor)
        case ("Replicate", nil, nil): self = .replicate
        case ("Partial", nil, nil):
            guard let operation = value.field("reduce_op")?.string else { fallthrough }
            self = .partial(operation)
        default: throw .unsupported("a placement of the class \(name.quoted) in an unknown form")
        }
    }
}

extension TorchTree.DistributedTensor {
    /// Since PyTorch 2.10 a specification may say in what order the axes of the mesh cut a dimension. All but the usual
    /// order, the mesh's, is refused, unless strided placements say the same.
    fileprivate func checkOrder(_ specification: TorchTree.Value) throws(TensorFileError) {
        let isStrided = placements.contains { if case .stridedShard = $0 { true } else { false } }
        // Explicitly false, strided placements would be taken as others.
        let isTaken = specification.field("use_strided_shard_as_shard_order")?.bool ?? true
        guard !isStrided || isTaken else {
            throw .unsupported("strided placements that are not to be taken as such")
        }
        guard !isStrided, let order = specification.field("shard_order"), !order.isNone else { return }
        let unknown = TensorFileError.unsupported("an order of placements in an unknown form")
        guard let entries = order.elements() else { throw unknown }
        var count = 0
        for entry in entries {
            let fields = entry.callArguments.map(entry.at)
            guard fields.count == 2, let dimension = fields[0].int, let axes = fields[1].integers() else {
                throw unknown
            }
            var last = -1
            for axis in axes {
                guard axis > last, axis < placements.count, placements[axis] == .shard(dimension)
                else {
                    throw .unsupported("placements in another order than the mesh's")
                }
                last = axis
                count += 1
            }
        }
        guard count == placements.filter({ if case .shard = $0 { true } else { false } }).count else {
            throw unknown
        }
    }
}

/// What makes a tensor that wraps others: in checkpoints, one that is distributed.
struct WrapperSubclass {
    let state: TorchTree.Value?
    /// Class, dtype, size, stride, storage offset, layout, device, requires-grad; empty where there are others.
    private let arguments: [TorchTree.Value]

    /// - Parameter classes: full names of one class, which had several.
    /// - Returns: nil for anything else. A class of the same name that is somewhere else is not understood.
    init?(_ value: TorchTree.Value, oneOf classes: [String]) throws(TensorFileError) {
        guard let call = value.tensorCall, case .wrapperSubclass = call.function,
            let arguments = value.source.pickle.tuple(call.arguments),
            let name = arguments.first.map(value.at)?.globalName
        else { return nil }
        guard classes.contains(name) else {
            guard name.split(separator: ".").last == classes[0].split(separator: ".").last else { return nil }
            throw .unsupported("a tensor of the class \(name.quoted)")
        }
        state = call.state.map(value.at)
        self.arguments = arguments.count == 8 ? arguments.map(value.at) : []
    }

    var dtype: String? { arguments.isEmpty ? nil : arguments[1].dtype }
    var shape: [UInt64]? { arguments.isEmpty ? nil : arguments[2].dimensions }
    var stride: [UInt64]? { arguments.isEmpty ? nil : arguments[3].dimensions }
}

extension TensorFileError {
    /// What is in a form that is not known.
    static func unsupported(_ what: String) -> TensorFileError {
        TensorFileError(
            .unsupported, "The file holds \(what), which this version does not understand.")
    }
}
