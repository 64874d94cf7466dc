/// Finds the tensors in a pickle, each with its path.
///
/// It goes through containers in their order, and through the arguments and the state of objects whatever their
/// class is. A container that stands at several places is gone through at the first; a tensor is found at each.
struct TensorWalk {
    /// A step of a path.
    enum Step {
        /// None: what an object wraps has the object's name.
        case same
        /// A dictionary's key.
        case key(Pickle.Index)
        case index(Int32)
        case part(TorchBuilder.Part)
    }

    /// Something to look at, under a path that is `step` longer than the one at `parent`.
    struct Place {
        /// A value, or where `arguments` is set, a function called with them.
        var node: Pickle.Index
        var arguments: Pickle.Index?
        var parent: Int32
        var step: Step
        /// Whether it is part of what `parent` is, rather than in it: such places are looked at each time.
        var isWrapped = false

        var wrapped: Place {
            var place = self
            place.isWrapped = true
            return place
        }
    }

    /// There may be one for each value, so that they are small.
    private struct Path {
        var parent: Int32
        var step: Step
        var depth: Int16
        /// How many wrappers are right around it.
        var wrapperCount: UInt8
    }

    let pickle: Pickle
    private(set) var tensors: [TorchTensor] = []

    private var paths: [Path] = []
    /// The next one is the last.
    private var waiting: [Place] = []
    private(set) var spent: TorchSpending
    private var seen: [Bool]
    private var builders: [Pickle.Index: TorchBuilder?] = [:]

    /// - Parameter spent: what other pickles of the file have taken of its limits.
    init(_ pickle: Pickle, spent: TorchSpending = TorchSpending()) throws(TensorFileError) {
        self.pickle = pickle
        self.spent = spent
        seen = [Bool](repeating: false, count: pickle.nodes.count)
        try wait(for: [Place(node: pickle.root, parent: -1, step: .same)])
        while let place = waiting.popLast() {
            try visit(place)
        }
        (waiting, seen, builders) = ([], [], [:])
    }

    private static let tooMany = TensorFileError(
        .tooLarge, "The file holds too many objects to look for tensors in.")

    // MARK: Going through

    private mutating func visit(_ place: Place) throws(TensorFileError) {
        if let arguments = place.arguments {
            let path = try path(to: place)
            guard try !visit(function: place.node, arguments: arguments, state: nil, at: path) else { return }
            return try wait(for: try children(of: arguments, at: path).map { $0.wrapped })
        }
        switch pickle[place.node] {
        case .tuple, .frozenSet, .list, .set, .dictionary:
            guard isNew(place.node) else { return }
            let path = try path(to: place)
            try wait(for: try children(of: place.node, at: path))
        case .object:
            guard let object = pickle.object(place.node) else { return }
            let isNew = isNew(place.node)
            // A tensor is found wherever it stands.
            guard isNew || builder(object.function) != nil else { return }
            let path = try path(to: place)
            let isBuilt = try visit(
                function: object.function, arguments: object.arguments, state: object.state, at: path)
            guard isNew else { return }
            if !isBuilt { try wait(for: try children(of: object.arguments, at: path)) }
            let elements = pickle.elements(of: object.elements)
            try wait(for: try items(object.items, at: path) + places(elements[...], at: path))
        default: break
        }
    }

    /// - Returns: whether the function is one that makes tensors, whose arguments are looked at with that.
    private mutating func visit(
        function: Pickle.Index, arguments: Pickle.Index, state: Pickle.Index?, at path: Int32
    ) throws(TensorFileError) -> Bool {
        if let data = state.flatMap({ dataOfVariable(function, state: $0) }) {
            try wait(for: [Place(node: data, parent: path, step: .same, isWrapped: true)])
        } else if let state {
            try wait(for: try attributes(state, at: path))
        }
        guard let items = pickle.tuple(arguments), let builder = builder(function) else { return false }
        if let isV3 = builder.tensorIsV3 {
            spent.tensorCount += 1
            guard spent.tensorCount <= PyTorchLimits.tensorCount else { throw Self.tooMany }
            var tensor = try TorchTensor(try name(of: path), arguments: arguments, isV3: isV3, in: pickle)
            tensor.path = path
            try count(tensor.shape.count)
            tensors.append(tensor)
        }
        var found: [Place] = []
        for part in parts(of: builder, items) {
            var node = arguments
            for index in part.place {
                guard let items = pickle.tuple(node), items.count > index else {
                    node = -1
                    break
                }
                node = items[items.startIndex + index]
            }
            guard node >= 0 else { continue }
            let step = part.name.map { Step.part($0) } ?? .same
            found.append(Place(node: node, parent: path, step: step, isWrapped: true))
        }
        if let index = builder.stateIndex, items.count > index {
            found += try attributes(items[items.startIndex + index], at: path)
        }
        if builder == .fromType || builder == .fromTypeBefore, items.count > 2 {
            // The function and its arguments stand among the arguments.
            found.insert(
                Place(
                    node: items[items.startIndex], arguments: items[items.startIndex + 2], parent: path,
                    step: .same, isWrapped: true), at: 0)
        }
        try wait(for: found)
        return true
    }

    private func parts(
        of builder: TorchBuilder, _ arguments: ArraySlice<Pickle.Index>
    ) -> [(place: [Int], name: TorchBuilder.Part?)] {
        guard builder == .sparse, let layout = arguments.first.flatMap({ pickle.object($0) }),
            let name = pickle.tuple(layout.arguments)?.first, pickle.text(name) != "torch.sparse_coo"
        else { return builder.parts }
        return TorchBuilder.compressedParts
    }

    private mutating func wait(for places: [Place]) throws(TensorFileError) {
        try count(places.count)
        guard places.count <= PyTorchLimits.tensorCount - waiting.count else { throw Self.tooMany }
        waiting += places.reversed()
    }

    mutating func count(_ steps: Int) throws(TensorFileError) {
        spent.stepCount += steps
        guard spent.stepCount <= PyTorchLimits.stepCount else { throw Self.tooMany }
    }

    mutating func isNew(_ node: Pickle.Index) -> Bool {
        defer { seen[Int(node)] = true }
        return !seen[Int(node)]
    }

    private mutating func builder(_ function: Pickle.Index) -> TorchBuilder? {
        if let known = builders[function] { return known }
        let builder = pickle.globalName(function).flatMap { TorchBuilder(rawValue: $0) }
        builders[function] = .some(builder)
        return builder
    }

    // MARK: Paths

    private mutating func path(to place: Place) throws(TensorFileError) -> Int32 {
        let parent = place.parent < 0 ? nil : paths[Int(place.parent)]
        let depth = parent.map { $0.depth + 1 } ?? 0
        let wrapperCount = place.isWrapped ? (parent?.wrapperCount ?? 0) + 1 : 0
        try count(1)
        guard depth <= PyTorchLimits.depth, wrapperCount <= PyTorchLimits.wrapperCount else {
            throw TensorFileError(.tooLarge, "The file holds objects that are nested too deep in each other.")
        }
        paths.append(
            Path(parent: place.parent, step: place.step, depth: depth, wrapperCount: wrapperCount))
        return Int32(paths.count - 1)
    }

    /// The steps of a path that have a name, the last one first.
    func reversedSteps(of path: Int32) -> some Sequence<Step> {
        sequence(state: path) { path in
            while path >= 0 {
                let here = paths[Int(path)]
                path = here.parent
                if case .same = here.step { continue }
                return here.step
            }
            return nil
        }
    }

    /// The steps of a path, joined by dots.
    private mutating func name(of path: Int32) throws(TensorFileError) -> String {
        var (names, length) = ([String](), 0)
        for step in reversedSteps(of: path) where length <= PyTorchLimits.nameLength {
            names.append(pickle.name(of: step))
            length += names[names.count - 1].utf8.count + 1
        }
        spent.nameLength += length
        guard length <= PyTorchLimits.nameLength, spent.nameLength <= PyTorchLimits.totalNameLength else {
            throw TensorFileError(.tooLarge, "The names of the tensors in the file are too long.")
        }
        return names.reversed().joined(separator: ".")
    }
}
