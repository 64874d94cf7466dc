/// What a pickle would build: values, and objects as the calls that would make them. Nothing is imported or called.
///
/// The values are nodes in one array and name each other by index, so that cycles do no harm, and so that no depth
/// of nesting takes stack when they are built, walked or freed.
struct Pickle {
    /// The place of a value in `nodes`.
    typealias Index = Int32

    enum Node {
        case none
        case bool(Bool)
        case integer(Int64)
        /// An integer beyond 64 bits.
        case bigInteger
        case float(Double)
        /// A range of `bytes`, UTF-8 as a rule.
        case text(start: UInt32, count: UInt32)
        /// A range of `bytes` as protocol 0 writes text: with escapes, in quotes those of Python's literals.
        case escapedText(start: UInt32, count: UInt32, isQuoted: Bool)
        /// Bytes or a bytearray: a range of `bytes`.
        case bytes(start: UInt32, count: UInt32)
        /// A range of `edges`.
        case tuple(start: Int32, count: Int32)
        case frozenSet(start: Int32, count: Int32)
        case list(Chain)
        case set(Chain)
        /// Keys and values by turns.
        case dictionary(Chain)
        /// A class or function: texts.
        case global(module: Index, name: Index)
        /// A place in `objects`.
        case object(Int32)
        /// What a persistent id stands for: in a checkpoint, a storage.
        case persistent(Index)
    }

    /// What a call would return, and what is done to it then.
    struct Object {
        var function: Index
        /// As a rule a tuple.
        var arguments: Index
        /// A dictionary of arguments by name; below 0 where the call has no place for them.
        private var namedIndex: Index
        /// Below 0 where it has none.
        private var stateIndex: Index = -1
        var elements = Chain()
        /// Keys and values by turns.
        var items = Chain()

        init(function: Index, arguments: Index, named: Index?) {
            (self.function, self.arguments, namedIndex) = (function, arguments, named ?? -1)
        }

        var named: Index? { namedIndex < 0 ? nil : namedIndex }

        var state: Index? {
            get { stateIndex < 0 ? nil : stateIndex }
            set { stateIndex = newValue ?? -1 }
        }
    }

    /// The elements of something that grows: segments of `edges`, each naming the next. It appends without moving
    /// what is there.
    struct Chain {
        fileprivate var first: Int32 = -1
        fileprivate var last: Int32 = -1
    }

    private struct Segment {
        var start: Int32
        var count: Int32
        var next: Int32 = -1
    }

    /// What was read, and maybe more than the pickle has.
    private(set) var bytes: [UInt8]
    private let limits: PickleLimits
    private(set) var nodes: [Node] = []
    private(set) var objects: [Object] = []
    private var edges: [Index] = []
    private var segments: [Segment] = []
    /// What the pickle is: its last value.
    var root: Index = 0

    init(bytes: [UInt8], limits: PickleLimits) {
        self.bytes = bytes
        self.limits = limits
    }
}

// MARK: Building

extension Pickle {
    /// Adds bytes behind those that were read before.
    mutating func append(_ bytes: [UInt8]) { self.bytes += bytes }

    mutating func add(_ node: Node) throws(TensorFileError) -> Index {
        guard nodes.count < limits.nodeCount else {
            throw TensorFileError(.tooLarge, "The pickle in the file builds over \(limits.nodeCount) values.")
        }
        nodes.append(node)
        return Index(nodes.count - 1)
    }

    mutating func addTuple(_ items: ArraySlice<Index>) throws(TensorFileError) -> Index {
        let start = Int32(edges.count)
        try addEdges(items)
        return try add(.tuple(start: start, count: Int32(items.count)))
    }

    mutating func addFrozenSet(_ items: ArraySlice<Index>) throws(TensorFileError) -> Index {
        let start = Int32(edges.count)
        try addEdges(items)
        return try add(.frozenSet(start: start, count: Int32(items.count)))
    }

    mutating func addObject(_ object: Object) throws(TensorFileError) -> Index {
        guard objects.count < limits.objectCount else {
            throw TensorFileError(
                .tooLarge, "The pickle in the file builds over \(limits.objectCount) objects.")
        }
        objects.append(object)
        return try add(.object(Int32(objects.count - 1)))
    }

    /// Appends to a list, or to an object as to a list.
    /// - Returns: false where the node is neither.
    mutating func append(_ items: ArraySlice<Index>, to node: Index) throws(TensorFileError) -> Bool {
        switch nodes[Int(node)] {
        case .list(let chain): nodes[Int(node)] = .list(try lengthened(chain, by: items))
        case .set(let chain): nodes[Int(node)] = .set(try lengthened(chain, by: items))
        case .object(let object):
            objects[Int(object)].elements = try lengthened(objects[Int(object)].elements, by: items)
        default: return false
        }
        return true
    }

    /// Sets items of a dictionary, or of an object as of a dictionary. A key that comes twice stands there twice.
    mutating func setItems(_ items: ArraySlice<Index>, of node: Index) throws(TensorFileError) -> Bool {
        guard items.count % 2 == 0 else { return false }
        switch nodes[Int(node)] {
        case .dictionary(let chain): nodes[Int(node)] = .dictionary(try lengthened(chain, by: items))
        case .object(let object):
            objects[Int(object)].items = try lengthened(objects[Int(object)].items, by: items)
        default: return false
        }
        return true
    }

    /// Gives an object its state.
    /// - Returns: false where it is no object or has one already.
    mutating func setState(_ state: Index, of node: Index) -> Bool {
        guard case .object(let object) = nodes[Int(node)], objects[Int(object)].state == nil else {
            return false
        }
        objects[Int(object)].state = state
        return true
    }

    private mutating func lengthened(_ chain: Chain, by items: ArraySlice<Index>) throws(TensorFileError)
        -> Chain
    {
        guard !items.isEmpty else { return chain }
        var chain = chain
        let start = Int32(edges.count)
        try addEdges(items)
        if chain.last >= 0, segments[Int(chain.last)].start + segments[Int(chain.last)].count == start {
            segments[Int(chain.last)].count += Int32(items.count)
            return chain
        }
        guard segments.count < limits.nodeCount else {
            throw TensorFileError(
                .tooLarge, "The pickle in the file appends to lists over \(limits.nodeCount) times.")
        }
        segments.append(Segment(start: start, count: Int32(items.count)))
        let segment = Int32(segments.count - 1)
        if chain.last >= 0 { segments[Int(chain.last)].next = segment } else { chain.first = segment }
        chain.last = segment
        return chain
    }

    private mutating func addEdges(_ items: ArraySlice<Index>) throws(TensorFileError) {
        guard items.count <= limits.edgeCount - edges.count else {
            throw TensorFileError(
                .tooLarge, "The pickle in the file has over \(limits.edgeCount) places in lists.")
        }
        edges += items
    }
}

// MARK: Reading

extension Pickle {
    subscript(index: Index) -> Node { nodes[Int(index)] }

    /// The items of a tuple; nil for anything else.
    func tuple(_ index: Index) -> ArraySlice<Index>? {
        guard case .tuple = self[index] else { return nil }
        return fixed(index)
    }

    /// The items of what can't grow, a tuple or a frozen set; nil for anything else.
    func fixed(_ index: Index) -> ArraySlice<Index>? {
        switch self[index] {
        case .tuple(let start, let count), .frozenSet(let start, let count):
            edges[Int(start)..<Int(start) + Int(count)]
        default: nil
        }
    }

    /// The elements of a tuple, list or set; nil for anything else.
    func elements(_ index: Index) -> [Index]? {
        switch self[index] {
        case .list(let chain), .set(let chain): elements(of: chain)
        default: fixed(index).map { Array($0) }
        }
    }

    /// - Parameter maximumCount: how many to gather; one more where there are more.
    func elements(of chain: Chain, maximumCount: Int = .max - 1) -> [Index] {
        var elements: [Index] = []
        forEachSegment(of: chain) { range in
            elements += edges[range].prefix(maximumCount + 1 - elements.count)
            return elements.count <= maximumCount
        }
        return elements
    }

    /// Gives the stretches of `edges` in their order, until `body` returns false.
    private func forEachSegment(of chain: Chain, _ body: (Range<Int>) -> Bool) {
        var segment = chain.first
        while segment >= 0 {
            let (start, count) = (Int(segments[Int(segment)].start), Int(segments[Int(segment)].count))
            guard body(start..<start + count) else { return }
            segment = segments[Int(segment)].next
        }
    }

    /// The value of the last key of a dictionary that `isKey` takes.
    func last(of chain: Chain, where isKey: (Index) -> Bool) -> Index? {
        var found: Index?
        // Items are set in pairs, so that none is in two segments.
        forEachSegment(of: chain) { range in
            for place in stride(from: range.lowerBound, to: range.upperBound, by: 2) where isKey(edges[place])
            {
                found = edges[place + 1]
            }
            return true
        }
        return found
    }

    /// The object that a node is; nil for anything else.
    func object(_ index: Index) -> Object? {
        guard case .object(let object) = self[index] else { return nil }
        return objects[Int(object)]
    }

    /// The full name of a class or function, such as `torch._utils._rebuild_tensor_v2`; nil for anything else.
    func globalName(_ index: Index) -> String? {
        guard case .global(let module, let name) = self[index],
            let module = text(module, maximumLength: 256), let name = text(name, maximumLength: 256)
        else { return nil }
        return module + "." + name
    }
}
