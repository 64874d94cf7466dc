extension TorchTree.Value {
    /// What a list, tuple or set holds, and what was appended to an object; nil for anything else.
    public var elements: [TorchTree.Value]? {
        let pickle = source.pickle
        if let elements = pickle.elements(index) { return elements.map(at) }
        guard let object = pickle.object(index) else { return nil }
        switch knownClass {
        case .set, .frozenSet, .size:
            guard let first = callArguments.first else { return [] }
            return pickle.elements(first)?.map(at)
        case .orderedDictionary, .counter, .encoded, .byteArray, .numpyScalar, .builder: return nil
        default: return pickle.elements(of: object.elements).map(at)
        }
    }

    /// What a dictionary holds, and what was set in an object as in one; nil for anything else.
    ///
    /// As in Python, of equal keys the first has the place, and the last the value. Keys that are no texts or numbers
    /// are taken as equal only where they are one and the same value.
    public var items: [(key: TorchTree.Value, value: TorchTree.Value)]? {
        guard let pairs else { return nil }
        var (items, places) = ([(key: TorchTree.Value, value: TorchTree.Value)](), [Key: Int]())
        items.reserveCapacity(pairs.count / 2)
        for place in stride(from: 0, to: pairs.count, by: 2) {
            let (key, value) = (Key(pairs[place], in: source.pickle), at(pairs[place + 1]))
            if let old = places[key] {
                items[old].value = value
            } else {
                places[key] = items.count
                items.append((at(pairs[place]), value))
            }
        }
        return items
    }

    /// The value of a text in a dictionary, or nil. It looks at every key: go through `items` instead where many are
    /// asked for.
    public subscript(key: String) -> TorchTree.Value? {
        value { source.pickle.isText($0, key) }
    }

    /// The value of a number in a dictionary, or nil.
    public subscript(key: Int) -> TorchTree.Value? {
        let wanted = Key.integer(Int64(key))
        return value { Key(number: source.pickle[$0]) == wanted }
    }

    private func value(where isKey: (Pickle.Index) -> Bool) -> TorchTree.Value? {
        guard let own = ownPairs else { return nil }
        if let last = source.pickle.last(of: own, where: isKey) { return at(last) }
        let pairs = initialPairs
        let place = stride(from: pairs.count - 2, through: 0, by: -2).first { isKey(pairs[$0]) }
        return place.map { at(pairs[$0 + 1]) }
    }

    /// Keys and values by turns.
    private var pairs: [Pickle.Index]? {
        ownPairs.map { initialPairs + source.pickle.elements(of: $0) }
    }

    /// What was set in a dictionary, or in an object as in one; nil where nothing can be.
    private var ownPairs: Pickle.Chain? {
        if case .dictionary(let chain) = source.pickle[index] { return chain }
        guard let object = source.pickle.object(index) else { return nil }
        switch knownClass {
        case .set, .frozenSet, .size, .encoded, .byteArray, .numpyScalar, .builder: return nil
        default: return object.items
        }
    }

    /// What a dictionary is made with: a dictionary, or as Python 2 has it, a list of pairs. The argument of a
    /// defaultdict is neither.
    private var initialPairs: [Pickle.Index] {
        let pickle = source.pickle
        switch knownClass {
        case .reconstructor:
            guard let base = baseState, case .dictionary(let chain) = pickle[base] else { return [] }
            return pickle.elements(of: chain)
        case .orderedDictionary, .counter:
            guard let first = callArguments.first else { return [] }
            if case .dictionary(let chain) = pickle[first] { return pickle.elements(of: chain) }
            return (pickle.elements(first) ?? []).flatMap { pair in
                let pair = at(pair).elements(atMost: 2) ?? []
                return pair.count == 2 ? pair.map(\.index) : []
            }
        default: return []
        }
    }
}

// What follows looks at few values, however many there are: for what is short unless a file means harm.
extension TorchTree.Value {
    /// The elements of a tuple or list; nil for anything else, and where there are more.
    func elements(atMost count: Int = PyTorchLimits.dimensionCount) -> [TorchTree.Value]? {
        let pickle = source.pickle
        var elements = pickle.tuple(index)
        if case .list(let chain) = pickle[index] {
            elements = pickle.elements(of: chain, maximumCount: count)[...]
        }
        guard let elements, elements.count <= count else { return nil }
        return elements.map(at)
    }

    /// The numbers in a tuple or list; nil for anything else, and where there are more.
    func integers(atMost count: Int = PyTorchLimits.dimensionCount) -> [Int]? {
        guard let elements = elements(atMost: count) else { return nil }
        let integers = elements.compactMap(\.int)
        return integers.count == elements.count ? integers : nil
    }

    /// An object's attribute of this name, or nil, also where it has many.
    func field(_ name: String) -> TorchTree.Value? { state?.fieldOfState(name) }

    /// The same of what attributes are set from: a dictionary, or a pair for those with and without slots.
    func fieldOfState(_ name: String) -> TorchTree.Value? {
        let pickle = source.pickle
        var states = [index]
        if let pair = pickle.tuple(index) { states = pair.count == 2 ? Array(pair) : [] }
        for case .dictionary(let chain) in states.map({ pickle[$0] }) {
            let items = pickle.elements(of: chain, maximumCount: 2 * PyTorchLimits.dimensionCount)
            guard items.count <= 2 * PyTorchLimits.dimensionCount else { continue }
            for place in stride(from: items.count - 2, through: 0, by: -2)
            where pickle.isText(items[place], name) {
                return at(items[place + 1])
            }
        }
        return nil
    }
}

/// What a dictionary's key is equal by.
private enum Key: Hashable {
    case text(ExactText)
    case integer(Int64)
    case float(Double)
    case none
    /// Equal to nothing but itself.
    case value(Pickle.Index)

    init(_ index: Pickle.Index, in pickle: Pickle) {
        if let number = Key(number: pickle[index]) {
            self = number
        } else if let text = pickle.text(index, maximumLength: pickle.bytes.count) {
            self = .text(ExactText(text))
        } else if case .none = pickle[index] {
            self = .none
        } else {
            self = .value(index)
        }
    }

    /// Equal numbers are equal keys, and the bools are numbers. NaN is equal to nothing but itself.
    init?(number node: Pickle.Node) {
        switch node {
        case .bool(let value): self = .integer(value ? 1 : 0)
        case .integer(let value): self = .integer(value)
        case .float(let value):
            guard !value.isNaN else { return nil }
            // Not `Int64(exactly:)`: that rounds with libm, which nothing in this module links.
            let isWhole = value.magnitude < 0x1p63 && Double(Int64(value)) == value
            self = isWhole ? .integer(Int64(value)) : .float(value)
        default: return nil
        }
    }
}
