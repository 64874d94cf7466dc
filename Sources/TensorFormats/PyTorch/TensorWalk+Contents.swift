extension TensorWalk {
    /// The elements of a list, the items of a dictionary; of anything else, that.
    mutating func children(of node: Pickle.Index, at path: Int32) throws(TensorFileError) -> [Place] {
        if case .dictionary(let chain) = pickle[node] { return try items(chain, at: path) }
        guard let elements = pickle.elements(node) else {
            return [Place(node: node, parent: path, step: .same)]
        }
        return try places(elements[...], at: path)
    }

    mutating func places(
        _ nodes: ArraySlice<Pickle.Index>, at path: Int32
    ) throws(TensorFileError) -> [Place] {
        try count(nodes.count)
        // Most are numbers and texts.
        return nodes.enumerated().compactMap { index, node in
            pickle[node].mayHoldTensors
                ? Place(node: node, parent: path, step: .index(Int32(index))) : nil
        }
    }

    mutating func items(_ chain: Pickle.Chain, at path: Int32) throws(TensorFileError) -> [Place] {
        let items = pickle.elements(of: chain)
        try count(items.count)
        return stride(from: 0, to: items.count, by: 2).compactMap { index in
            pickle[items[index + 1]].mayHoldTensors
                ? Place(node: items[index + 1], parent: path, step: .key(items[index])) : nil
        }
    }

    /// What a state holds: a dictionary of attributes, or a pair of such for those with and without slots.
    mutating func attributes(_ state: Pickle.Index, at path: Int32) throws(TensorFileError) -> [Place] {
        guard let pair = pickle.tuple(state), pair.count == 2 else {
            return try attributesOfOne(state, at: path)
        }
        var places: [Place] = []
        for state in pair { places += try attributesOfOne(state, at: path) }
        return places
    }

    /// The part of a distributed tensor that this file holds has the name of the whole, and is found at each place
    /// of that, as any tensor is.
    private mutating func attributesOfOne(
        _ state: Pickle.Index, at path: Int32
    ) throws(TensorFileError) -> [Place] {
        guard case .dictionary(let chain) = pickle[state] else {
            return [Place(node: state, parent: path, step: .same, isWrapped: true)]
        }
        let isNew = isNew(state)
        var places = try items(chain, at: path)
        for index in places.indices {
            guard case .key(let key) = places[index].step,
                pickle.isText(key, "_local_tensor")
            else { continue }
            places[index].step = .same
            places[index].isWrapped = true
            if !isNew { return [places[index]] }
        }
        return isNew ? places : []
    }
}

extension TensorWalk {
    /// The tensor in what parameters were until PyTorch 0.3: objects whose state begins with it.
    func dataOfVariable(_ function: Pickle.Index, state: Pickle.Index) -> Pickle.Index? {
        guard let items = pickle.tuple(state), items.count == 5, let name = pickle.globalName(function),
            ["torch.nn.parameter.Parameter", "torch.autograd.variable.Variable"].contains(name)
        else { return nil }
        return items.first
    }
}

extension Pickle.Node {
    fileprivate var mayHoldTensors: Bool {
        switch self {
        case .tuple, .frozenSet, .list, .set, .dictionary, .object: true
        default: false
        }
    }
}
