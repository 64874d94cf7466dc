extension TorchTree {
    /// A tensor that lies in a storage.
    public struct Tensor: Sendable, Equatable {
        /// The name under which the file's `TensorMap` lists it; nil for one that it does not list.
        ///
        /// A tensor that stands at several places is listed under several names; a value has the first.
        public let name: String?
        /// Why it has no name, in one sentence; nil where it has one.
        public let problem: String?
        /// By the name that `TensorMap` has for it; nil where it is not known.
        public let dtype: String?
        /// As PyTorch counts: of `F4`, pairs of numbers along the last axis.
        public let shape: [UInt64]
        /// Elements of the storage from one to the next along each axis.
        public let stride: [UInt64]
        /// Elements of the storage in front of it.
        public let storageOffset: UInt64
        /// Tensors of one key lie in one storage.
        public let storageKey: String
        /// Where its bytes lie in the file; nil where it has no name.
        public let range: Range<UInt64>?
        /// Where its storage lies in the file, for one whose values all stand there, but by `stride` and not in the order of its shape:
        /// a transposed tensor, or columns of another one. An extent of the file's `TensorMap`; nil for all others.
        public let viewedStorage: Range<UInt64>?
    }

    /// A step of the path to a tensor.
    public enum Step: Sendable {
        /// The key of a dictionary, or the name of an attribute.
        case key(Value)
        /// The place in a list, a tuple or a set.
        case index(Int)
        /// What a tensor is made of: `values` of a sparse one, `scales` of a quantised one.
        case part(String)
    }

    /// The tensors of a file with the paths to them, each read when it is asked for.
    public struct Tensors: RandomAccessCollection, Sendable {
        let source: Source

        public var startIndex: Int { 0 }
        public var endIndex: Int { source.tensors.count }

        public subscript(position: Int) -> (path: [Step], tensor: Tensor) {
            (source.path(ofTensor: position), source.tensor(position))
        }
    }

    /// Every tensor, in the order of the pickle, at each place where it stands; none for a pickle that stands alone.
    public var tensors: Tensors { Tensors(source: source) }
}

extension TorchTree.Step {
    /// As it stands in the names of tensors.
    public var name: String {
        switch self {
        case .key(let key): key.source.pickle.name(of: .key(key.index))
        case .index(let index): String(index)
        case .part(let name): name
        }
    }
}

extension TorchTree.Value {
    /// The tensor that the value is, also inside of a parameter or with attributes; nil for anything else.
    public var tensor: TorchTree.Tensor? {
        guard let call = tensorCall, case .builder(let builder) = call.function,
            let isV3 = builder.tensorIsV3,
            let tensor = try? TorchTensor("", arguments: call.arguments, isV3: isV3, in: source.pickle)
        else { return nil }
        guard source.map != nil else {
            return TorchTree.Tensor(tensor, problem: "Its bytes are not in the pickle.")
        }
        guard let found = source.tensorOfArguments[call.arguments] else {
            return TorchTree.Tensor(tensor, problem: "It stands where no tensors are looked for.")
        }
        return source.tensor(Int(found))
    }

    var isTensor: Bool {
        if case .builder(let builder) = tensorCall?.function { builder.tensorIsV3 != nil } else { false }
    }

    /// The call that makes a tensor or a wrapper of some, inside of those that make a parameter or a subclass of it.
    var tensorCall: TensorCall? {
        guard var call = TensorCall(of: self) else { return nil }
        for _ in 0..<PyTorchLimits.wrapperCount {
            switch call.function {
            case .variable: break
            case .builder(let builder) where builder.tensorIsV3 == nil: break
            default: return call
            }
            guard let inner = call.inner(in: source) else { return nil }
            call = inner
        }
        return nil
    }
}

/// A call that makes a tensor.
struct TensorCall {
    let function: TorchClass
    let arguments: Pickle.Index
    /// What the attributes are set from.
    let state: Pickle.Index?

    init?(of value: TorchTree.Value) {
        guard let object = value.source.pickle.object(value.index),
            let function = value.source.classes[object.function]
        else { return nil }
        (self.function, arguments, state) = (function, object.arguments, object.state)
    }

    private init(function: TorchClass, arguments: Pickle.Index, state: Pickle.Index?) {
        (self.function, self.arguments, self.state) = (function, arguments, state)
    }

    /// The call that makes what this one wraps.
    fileprivate func inner(in source: TorchTree.Source) -> TensorCall? {
        let items = source.pickle.tuple(arguments).map { Array($0) } ?? []
        switch function {
        case .builder(.parameter), .builder(.parameterWithState), .builder(.onDevice):
            return items.first.flatMap { TensorCall(of: TorchTree.Value(source: source, index: $0)) }
        case .builder(.fromType), .builder(.fromTypeBefore):
            guard items.count > 2, let function = source.classes[items[0]] else { return nil }
            return TensorCall(
                function: function, arguments: items[2], state: items.count > 3 ? items[3] : nil)
        case .variable:
            guard let state = state.flatMap({ source.pickle.tuple($0) }), state.count == 5 else { return nil }
            return state.first.flatMap { TensorCall(of: TorchTree.Value(source: source, index: $0)) }
        default: return nil
        }
    }
}

// MARK: In the file

extension TorchTree.Source {
    /// A tensor of the file.
    func tensor(_ position: Int) -> TorchTree.Tensor {
        guard let map else { preconditionFailure("only a file has tensors") }
        let tensor = tensors[position]
        guard entries[position] >= 0 else {
            return TorchTree.Tensor(
                tensor, problem: tensor.problem, viewedStorage: viewedStorage(tensor))
        }
        let entry = map.tensors[Int(entries[position])]
        let start = map.extents[entry.extent].offset + entry.offset
        return TorchTree.Tensor(tensor, name: entry.name, range: start..<start + entry.length)
    }

    private func viewedStorage(_ tensor: TorchTensor) -> Range<UInt64>? {
        guard !tensor.isContiguous, !tensor.isFlagged, let dtype = tensor.dtype, dtype.packed == 1,
            let range = storages[tensor.storage], let reach = tensor.reach
        else { return nil }
        let (length, overflow) = reach.multipliedReportingOverflow(by: dtype.elementLength)
        return overflow || length > range.upperBound - range.lowerBound ? nil : range
    }

    func path(ofTensor position: Int) -> [TorchTree.Step] {
        guard let walk else { return [] }
        return walk.reversedSteps(of: tensors[position].path).compactMap { step in
            switch step {
            case .same: nil
            case .key(let key): .key(TorchTree.Value(source: self, index: key))
            case .index(let index): .index(Int(index))
            case .part(let part): .part(part.rawValue)
            }
        }.reversed()
    }
}

extension TorchTree.Tensor {
    fileprivate init(
        _ tensor: TorchTensor, name: String? = nil, problem: String? = nil, range: Range<UInt64>? = nil,
        viewedStorage: Range<UInt64>? = nil
    ) {
        self.init(
            name: name, problem: problem, dtype: tensor.dtype?.name, shape: tensor.shape,
            stride: tensor.stride,
            storageOffset: tensor.offset, storageKey: tensor.key, range: range, viewedStorage: viewedStorage)
    }
}

extension TorchTensor {
    /// Why no map lists it.
    fileprivate var problem: String {
        if isFlagged { return "Its values are to be conjugated or negated." }
        if !isContiguous { return "Its elements are not in the order of its shape." }
        return "The length of its elements is not known."
    }
}
