extension DCPMetadataReader {
    func invalid(_ what: String) -> TensorFileError {
        TensorFileError(.invalidPickle, what + ", in the metadata of the distributed checkpoint.")
    }

    /// The attributes of these names; all nil for what has none.
    func fields(of index: Pickle.Index, _ names: [String]) -> [Pickle.Index?] {
        var found = [Pickle.Index?](repeating: nil, count: names.count)
        guard let state = pickle.object(index)?.state, let items = dictionary(state) else { return found }
        for (key, value) in items {
            if let field = names.firstIndex(where: { pickle.isText(key, $0) }) { found[field] = value }
        }
        return found
    }

    func dictionary(_ index: Pickle.Index) -> [(key: Pickle.Index, value: Pickle.Index)]? {
        guard case .dictionary(let chain) = pickle[index] else { return nil }
        let items = pickle.elements(of: chain)
        return stride(from: 0, to: items.count, by: 2).map { (items[$0], items[$0 + 1]) }
    }

    func count(_ index: Pickle.Index) -> UInt64? {
        guard case .integer(let value) = pickle[index], value >= 0 else { return nil }
        return UInt64(value)
    }

    /// A list or tuple of texts; nil where it is another thing, and none where there is nothing.
    func texts(_ index: Pickle.Index?) -> [String]? {
        guard let index else { return [] }
        let nodes: [Pickle.Index]
        switch pickle[index] {
        case .none: return []
        case .list(let chain): nodes = pickle.elements(of: chain)
        case .tuple: nodes = Array(pickle.tuple(index) ?? [])
        default: return nil
        }
        let texts = nodes.compactMap { pickle.text($0) }
        return texts.count == nodes.count ? texts : nil
    }

    /// A text, or a path of Python's.
    mutating func path(_ index: Pickle.Index) -> String? {
        guard let object = pickle.object(index), classOf(object.function) == .posixPath else {
            return pickle.text(index)
        }
        guard let parts = texts(object.arguments) else { return nil }
        return parts.first == "/"
            ? "/" + parts.dropFirst().joined(separator: "/") : parts.joined(separator: "/")
    }

    /// What `torch.Size` holds.
    mutating func dimensions(_ index: Pickle.Index) -> [UInt64]? {
        guard let object = pickle.object(index), classOf(object.function) == .size,
            let size = pickle.tuple(object.arguments), size.count == 1, let first = size.first,
            let items = pickle.tuple(first), items.count <= PyTorchLimits.dimensionCount
        else { return nil }
        var dimensions: [UInt64] = []
        dimensions.reserveCapacity(items.count)
        for item in items {
            guard let length = count(item) else { return nil }
            dimensions.append(length)
        }
        return dimensions
    }

    mutating func classOf(_ function: Pickle.Index) -> Class? {
        if let known = classes[function] { return known }
        guard case .global(_, let name) = pickle[function] else { return nil }
        let found = pickle.text(name, maximumLength: 64).flatMap { Class(rawValue: $0) }
        classes[function] = .some(found)
        return found
    }
}
