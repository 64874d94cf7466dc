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
        /// Bytes or a bytearray; nobody asks which.
        case bytes
        /// A range of `edges`.
        case tuple(start: Int32, count: Int32)
        /// A list or a set.
        case list(Chain)
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
        var state: Index?
        var elements = Chain()
        /// Keys and values by turns.
        var items = Chain()
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

    mutating func add(_ node: Node) throws(PyTorchError) -> Index {
        guard nodes.count < limits.nodeCount else {
            throw PyTorchError(.tooLarge, "The pickle in the file builds over \(limits.nodeCount) values.")
        }
        nodes.append(node)
        return Index(nodes.count - 1)
    }

    mutating func addTuple(_ items: ArraySlice<Index>) throws(PyTorchError) -> Index {
        let start = Int32(edges.count)
        try addEdges(items)
        return try add(.tuple(start: start, count: Int32(items.count)))
    }

    mutating func addObject(function: Index, arguments: Index) throws(PyTorchError) -> Index {
        guard objects.count < limits.objectCount else {
            throw PyTorchError(.tooLarge, "The pickle in the file builds over \(limits.objectCount) objects.")
        }
        objects.append(Object(function: function, arguments: arguments))
        return try add(.object(Int32(objects.count - 1)))
    }

    /// Appends to a list, or to an object as to a list.
    /// - Returns: false where the node is neither.
    mutating func append(_ items: ArraySlice<Index>, to node: Index) throws(PyTorchError) -> Bool {
        switch nodes[Int(node)] {
        case .list(var chain):
            try append(items, to: &chain)
            nodes[Int(node)] = .list(chain)
        case .object(let object):
            var chain = objects[Int(object)].elements
            try append(items, to: &chain)
            objects[Int(object)].elements = chain
        default: return false
        }
        return true
    }

    /// Sets items of a dictionary, or of an object as of a dictionary. A key that comes twice stands there twice.
    mutating func setItems(_ items: ArraySlice<Index>, of node: Index) throws(PyTorchError) -> Bool {
        guard items.count % 2 == 0 else { return false }
        switch nodes[Int(node)] {
        case .dictionary(var chain):
            try append(items, to: &chain)
            nodes[Int(node)] = .dictionary(chain)
        case .object(let object):
            var chain = objects[Int(object)].items
            try append(items, to: &chain)
            objects[Int(object)].items = chain
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

    private mutating func append(_ items: ArraySlice<Index>, to chain: inout Chain) throws(PyTorchError) {
        guard !items.isEmpty else { return }
        let start = Int32(edges.count)
        try addEdges(items)
        if chain.last >= 0, segments[Int(chain.last)].start + segments[Int(chain.last)].count == start {
            segments[Int(chain.last)].count += Int32(items.count)
            return
        }
        guard segments.count < limits.nodeCount else {
            throw PyTorchError(
                .tooLarge, "The pickle in the file appends to lists over \(limits.nodeCount) times.")
        }
        segments.append(Segment(start: start, count: Int32(items.count)))
        let segment = Int32(segments.count - 1)
        if chain.last >= 0 { segments[Int(chain.last)].next = segment } else { chain.first = segment }
        chain.last = segment
    }

    private mutating func addEdges(_ items: ArraySlice<Index>) throws(PyTorchError) {
        guard items.count <= limits.edgeCount - edges.count else {
            throw PyTorchError(
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
        guard case .tuple(let start, let count) = self[index] else { return nil }
        return edges[Int(start)..<Int(start) + Int(count)]
    }

    func elements(of chain: Chain) -> [Index] {
        var elements: [Index] = []
        var segment = chain.first
        while segment >= 0 {
            let (start, count) = (segments[Int(segment)].start, segments[Int(segment)].count)
            elements += edges[Int(start)..<Int(start) + Int(count)]
            segment = segments[Int(segment)].next
        }
        return elements
    }

    /// The object that a node is; nil for anything else.
    func object(_ index: Index) -> Object? {
        guard case .object(let object) = self[index] else { return nil }
        return objects[Int(object)]
    }

    /// The text that a node is, with what is not UTF-8 replaced; nil for anything else, and where it is longer.
    func text(_ index: Index, maximumLength: Int = PyTorchLimits.nameLength) -> String? {
        guard case .text(let start, let count) = self[index], count <= maximumLength else { return nil }
        return String(decoding: bytes[Int(start)..<Int(start) + Int(count)], as: UTF8.self)
    }

    /// The full name of a class or function, such as `torch._utils._rebuild_tensor_v2`; nil for anything else.
    func globalName(_ index: Index) -> String? {
        guard case .global(let module, let name) = self[index],
            let module = text(module, maximumLength: 256), let name = text(name, maximumLength: 256)
        else { return nil }
        return module + "." + name
    }
}
