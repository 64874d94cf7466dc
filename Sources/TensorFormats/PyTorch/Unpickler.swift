/// The stack machine of a pickle, which makes nodes where Python would make objects.
///
/// It takes protocols 0 to 5 but for what no checkpoint holds: the opcodes INST, OBJ, EXT1, EXT2, EXT4, PERSID,
/// NEXT_BUFFER and READONLY_BUFFER. Bytes behind STOP are not looked at, as in Python.
///
/// An opcode takes its arguments before it changes anything, so that one whose arguments are not all there yet can
/// be performed again when they are.
struct Unpickler {
    var pickle: Pickle
    /// Where the next opcode or argument stands.
    private(set) var position = 0
    /// Whether the last failure was that the bytes came to an end.
    private(set) var isShort = false
    private var stack: [Pickle.Index] = []
    /// The height of the stack at each open mark.
    private var marks: [Int] = []
    /// By number; -1 where nothing was put. Numbers are dense in what Python writes.
    private var memo: [Pickle.Index] = []
    private var memoCount = 0
    private var globalCount = 0
    private let limits: PickleLimits
    private let shared: SharedNodes

    /// The tree of a whole pickle.
    static func read(
        _ bytes: [UInt8], limits: PickleLimits = .tensors
    ) throws(TensorFileError) -> Pickle {
        guard bytes.count <= limits.length else { throw tooLong(limits) }
        var unpickler = try Unpickler(bytes, limits)
        while let opcode = try unpickler.next() { try unpickler.perform(opcode) }
        return unpickler.pickle
    }

    /// The tree of a pickle of which nobody knows yet where it ends.
    /// - Parameter more: gives the bytes behind those that it gave before; none where there are no more.
    /// - Returns: also how many bytes the pickle has.
    static func read(
        limits: PickleLimits = .tensors, more: () throws -> [UInt8]
    ) throws -> (pickle: Pickle, length: Int) {
        var unpickler = try Unpickler([], limits)
        while true {
            let start = unpickler.position
            do {
                guard let opcode = try unpickler.next() else { break }
                try unpickler.perform(opcode)
            } catch {
                guard unpickler.isShort else { throw error }
                guard unpickler.pickle.bytes.count < limits.length else { throw tooLong(limits) }
                let bytes = try more()
                guard !bytes.isEmpty else { throw error }
                unpickler.pickle.append(bytes)
                (unpickler.position, unpickler.isShort) = (start, false)
            }
        }
        return (unpickler.pickle, unpickler.position)
    }

    private init(_ bytes: [UInt8], _ limits: PickleLimits) throws(TensorFileError) {
        self.limits = limits
        pickle = Pickle(bytes: bytes, limits: limits)
        shared = try SharedNodes(in: &pickle)
    }

    private static func tooLong(_ limits: PickleLimits) -> TensorFileError {
        TensorFileError(.tooLarge, "The pickle in the file has over \(limits.length >> 20) MiB.")
    }

    /// The opcode there; nil for STOP, which also sets the root.
    private mutating func next() throws(TensorFileError) -> Opcode? {
        let code = try byte()
        guard let opcode = Opcode(rawValue: code) else {
            position -= 1
            throw fail("the opcode \(code), which is refused,")
        }
        guard opcode == .stop else { return opcode }
        pickle.root = try pop()
        return nil
    }

    func fail(_ what: String) -> TensorFileError {
        TensorFileError(
            .invalidPickle, "The pickle in the file is not one of tensors: \(what) at byte \(position).")
    }

    // MARK: Arguments

    mutating func byte() throws(TensorFileError) -> UInt8 {
        guard position < pickle.bytes.count else {
            isShort = true
            throw fail("it ends before its end")
        }
        position += 1
        return pickle.bytes[position - 1]
    }

    mutating func number<Number: FixedWidthInteger & UnsignedInteger>(
        _ type: Number.Type
    ) throws(TensorFileError) -> Number {
        let start = try skip(MemoryLayout<Number>.size)
        return pickle.bytes.number(type, at: start)
    }

    /// - Returns: where what is skipped begins.
    mutating func skip(_ count: some BinaryInteger) throws(TensorFileError) -> Int {
        guard count >= 0, count <= pickle.bytes.count - position else {
            isShort = count <= limits.length
            throw fail("it ends before its end")
        }
        position += Int(count)
        return position - Int(count)
    }

    /// The bytes up to a line feed, which is skipped.
    mutating func line() throws(TensorFileError) -> Range<Int> {
        let start = position
        while try byte() != UInt8(ascii: "\n") {}
        return start..<position - 1
    }

    // MARK: Stack

    /// Values above the last mark that `pop` may take.
    private var available: Int { stack.count - (marks.last ?? 0) }

    mutating func push(_ index: Pickle.Index) throws(TensorFileError) {
        guard stack.count < PyTorchLimits.stackCount else {
            throw TensorFileError(.tooLarge, "The pickle in the file needs a stack of over 4,194,304 values.")
        }
        stack.append(index)
    }

    mutating func push(_ node: Pickle.Node) throws(TensorFileError) {
        if let index = shared.index(of: node) { return try push(index) }
        try push(try pickle.add(node))
    }

    mutating func pop() throws(TensorFileError) -> Pickle.Index {
        guard available > 0 else { throw fail("an empty stack") }
        return stack.removeLast()
    }

    func top() throws(TensorFileError) -> Pickle.Index {
        guard available > 0 else { throw fail("an empty stack") }
        return stack[stack.count - 1]
    }

    mutating func mark() throws(TensorFileError) {
        guard marks.count < PyTorchLimits.markCount else {
            throw TensorFileError(.tooLarge, "The pickle in the file has over 65,536 open marks.")
        }
        marks.append(stack.count)
    }

    /// Takes the mark, and the values above it.
    mutating func popMark() throws(TensorFileError) -> ArraySlice<Pickle.Index> {
        guard let start = marks.popLast() else { throw fail("a missing mark") }
        // A copy of these alone: a slice that is still alive would make the removal copy the whole stack.
        let items = Array(stack[start...])
        stack.removeSubrange(start...)
        return items[...]
    }

    /// Replaces the topmost values, of which there is at least one, by a tuple of them.
    mutating func makeTuple(_ count: Int) throws(TensorFileError) {
        guard available >= count else { throw fail("an empty stack") }
        let tuple = try pickle.addTuple(stack[(stack.count - count)...])
        stack.removeLast(count)
        try push(tuple)
    }

    mutating func makeTuple(_ items: ArraySlice<Pickle.Index>) throws(TensorFileError) {
        if items.isEmpty { return try push(shared.emptyTuple) }
        try push(try pickle.addTuple(items))
    }

    /// Takes a mark, or where there is none above the last value, that value.
    mutating func popAny() throws(TensorFileError) {
        if available == 0, !marks.isEmpty { marks.removeLast() } else { _ = try pop() }
    }

    // MARK: Memo

    mutating func put(_ number: some BinaryInteger) throws(TensorFileError) {
        guard number < limits.nodeCount else {
            throw TensorFileError(
                .tooLarge, "The pickle in the file needs a memo of over \(limits.nodeCount) values.")
        }
        let (number, value) = (Int(number), try top())
        while memo.count <= number { memo.append(-1) }
        if memo[number] < 0 { memoCount += 1 }
        memo[number] = value
    }

    mutating func memoize() throws(TensorFileError) { try put(memoCount) }

    mutating func get(_ number: some BinaryInteger) throws(TensorFileError) {
        guard number < memo.count, memo[Int(number)] >= 0 else { throw fail("a missing value") }
        try push(memo[Int(number)])
    }

    // MARK: Changes of the tree

    mutating func call(arguments: Pickle.Index, named: Pickle.Index? = nil) throws(TensorFileError) {
        let object = Pickle.Object(function: try pop(), arguments: arguments, named: named)
        try push(try pickle.addObject(object))
    }

    mutating func pushGlobal(module: Pickle.Index, name: Pickle.Index) throws(TensorFileError) {
        globalCount += 1
        guard globalCount <= PyTorchLimits.globalCount else {
            throw TensorFileError(
                .tooLarge, "The pickle in the file names over 1,048,576 classes and functions.")
        }
        try push(.global(module: module, name: name))
    }

    mutating func appendToTop(_ items: ArraySlice<Pickle.Index>) throws(TensorFileError) {
        guard try pickle.append(items, to: try top()) else { throw fail("an append to what is no list") }
    }

    mutating func setItemsOfTop(_ items: ArraySlice<Pickle.Index>) throws(TensorFileError) {
        guard try pickle.setItems(items, of: try top()) else {
            throw fail("an item of what is no dictionary")
        }
    }

    mutating func setStateOfTop(_ state: Pickle.Index) throws(TensorFileError) {
        guard pickle.setState(state, of: try top()) else { throw fail("a state of what is no object") }
    }

    mutating func pushList(_ items: ArraySlice<Pickle.Index>) throws(TensorFileError) {
        try push(.list(Pickle.Chain()))
        try appendToTop(items)
    }

    mutating func pushFrozenSet(_ items: ArraySlice<Pickle.Index>) throws(TensorFileError) {
        try push(try pickle.addFrozenSet(items))
    }

    mutating func pushDictionary(_ items: ArraySlice<Pickle.Index>) throws(TensorFileError) {
        try push(.dictionary(Pickle.Chain()))
        try setItemsOfTop(items)
    }
}

/// Values that pickles repeat most, which are nodes only once.
private struct SharedNodes {
    private let none, first: Pickle.Index
    let emptyTuple: Pickle.Index

    init(in pickle: inout Pickle) throws(TensorFileError) {
        none = try pickle.add(.none)
        _ = try pickle.add(.bool(false))
        _ = try pickle.add(.bool(true))
        first = try pickle.add(.integer(0))
        for value in 1..<256 { _ = try pickle.add(.integer(Int64(value))) }
        emptyTuple = try pickle.addTuple([])
    }

    func index(of node: Pickle.Node) -> Pickle.Index? {
        switch node {
        case .none: none
        case .bool(let value): none + (value ? 2 : 1)
        case .integer(let value) where value >= 0 && value < 256: first + Pickle.Index(value)
        default: nil
        }
    }
}
