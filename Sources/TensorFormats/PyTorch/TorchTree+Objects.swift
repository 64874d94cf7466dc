extension TorchTree.Value {
    /// The full name of the class or function that makes an object, such as `argparse.Namespace`; nil for anything
    /// else, and where it is not there by name. Also what is seen as something else has one: an OrderedDict, say.
    public var className: String? {
        guard let object = source.pickle.object(index) else { return nil }
        switch source.classes[object.function] {
        case .reconstructor, .newObject: return source.pickle.tuple(object.arguments)?.first.flatMap(name)
        default: return name(of: object.function)
        }
    }

    private func name(of function: Pickle.Index) -> String? {
        // A class in a class, which protocols below 4 name by its steps.
        var (function, steps) = (function, "")
        while steps.utf8.count < 256, case .attribute = at(function).knownClass,
            let object = source.pickle.object(function),
            let parts = source.pickle.tuple(object.arguments), parts.count == 2,
            let step = source.pickle.text(parts[parts.startIndex + 1], maximumLength: 256)
        {
            function = parts[parts.startIndex]
            steps = "." + step + steps
        }
        return at(function).globalName.map { $0 + steps }
    }

    /// What the class or function of an object is called with; empty for anything else.
    ///
    /// A member of an enumeration has its value there, a named tuple all its fields.
    public var arguments: [TorchTree.Value] { callArguments.map(at) }

    /// The dictionary of arguments that are given by name; nil where there is none.
    public var namedArguments: TorchTree.Value? {
        source.pickle.object(index).flatMap { $0.named }.map(at)
    }

    var callArguments: ArraySlice<Pickle.Index> {
        guard let object = source.pickle.object(index), let arguments = source.pickle.tuple(object.arguments)
        else { return [] }
        switch source.classes[object.function] {
        // What the base is made with, if that is a tuple, are a named tuple's fields.
        case .reconstructor: return baseState.flatMap { source.pickle.tuple($0) } ?? []
        case .newObject: return arguments.dropFirst()
        default: return arguments
        }
    }

    /// What the base of an object is made with in protocols 0 and 1: its contents, where that is a container.
    var baseState: Pickle.Index? {
        guard case .reconstructor = knownClass, let object = source.pickle.object(index),
            let arguments = source.pickle.tuple(object.arguments), arguments.count == 3
        else { return nil }
        return arguments.last
    }

    /// What an object's attributes are set from: a dictionary as a rule; nil for anything else, and where it has none.
    public var state: TorchTree.Value? {
        guard let object = source.pickle.object(index) else { return nil }
        if let state = object.state { return at(state) }
        // Tensors with attributes have them among their arguments.
        guard case .builder(let builder) = source.classes[object.function], let place = builder.stateIndex,
            let arguments = source.pickle.tuple(object.arguments), arguments.count > place
        else { return nil }
        return at(arguments[arguments.startIndex + place])
    }

    /// An object's attribute of this name, or nil.
    ///
    /// - Parameter position: the place of the attribute among a named tuple's fields, whose names no pickle has: what a
    ///   framework writes as a dataclass in one version may be a named tuple in another.
    public func attribute(_ name: String, position: Int? = nil) -> TorchTree.Value? {
        for state in states.reversed() {
            if let value = state[name] { return value }
        }
        let arguments = callArguments
        guard let position, position >= 0, position < arguments.count else { return nil }
        return at(arguments[arguments.startIndex + position])
    }

    /// An object's attributes; none for anything else.
    public var attributes: [(key: TorchTree.Value, value: TorchTree.Value)] {
        states.flatMap { $0.items ?? [] }
    }

    /// The dictionaries that attributes are set from, in that order: one, or a pair for those with and without slots.
    private var states: [TorchTree.Value] {
        guard let state else { return [] }
        if let pair = source.pickle.tuple(state.index), pair.count == 2 {
            return pair.map(at).filter { $0.kind == .dictionary }
        }
        return state.kind == .dictionary ? [state] : []
    }
}
