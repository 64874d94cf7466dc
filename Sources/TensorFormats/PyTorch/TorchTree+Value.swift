extension TorchTree {
    /// A value of the tree. It keeps the tree alive.
    public struct Value: Sendable {
        let source: Source
        let index: Pickle.Index

        func at(_ index: Pickle.Index) -> Value { Value(source: source, index: index) }
    }

    /// What a value is. What Python's own classes and PyTorch's make is seen as what it becomes: an `OrderedDict` is
    /// a dictionary, a `torch.Size` a tuple.
    public enum Kind: Sendable {
        case none, bool, integer, float, text
        /// Bytes and bytearrays.
        case bytes
        case list, tuple, set, frozenSet
        /// Also an OrderedDict, a defaultdict and a Counter.
        case dictionary
        /// A class or a function itself, such as `torch.float32`.
        case global
        /// What a class or function that is not known here would make.
        case object
        /// The bytes that tensors lie in.
        case storage
        /// One that lies in a storage. Others (sparse, nested, distributed ones) are objects.
        case tensor
    }
}

extension TorchTree.Value {
    public var kind: TorchTree.Kind {
        switch source.pickle[index] {
        case .none: .none
        case .bool: .bool
        case .integer, .bigInteger: .integer
        case .float: .float
        case .text, .escapedText: .text
        case .bytes: .bytes
        case .tuple: .tuple
        case .frozenSet: .frozenSet
        case .list: .list
        case .set: .set
        case .dictionary: .dictionary
        case .global: .global
        case .persistent: .storage
        case .object: objectKind
        }
    }

    private var objectKind: TorchTree.Kind {
        switch knownClass {
        case .orderedDictionary, .counter: .dictionary
        case .set: .set
        case .frozenSet: .frozenSet
        case .size: .tuple
        case .encoded, .byteArray: bytes == nil ? .object : .bytes
        case .numpyScalar: numpyScalar?.kind ?? .object
        case .builder, .variable: isTensor ? .tensor : .object
        default: .object
        }
    }

    /// The class or function that makes the object, where it is a known one.
    var knownClass: TorchClass? {
        source.pickle.object(index).flatMap { source.classes[$0.function] }
    }

    // MARK: Scalars

    public var isNone: Bool {
        if case .none = source.pickle[index] { true } else { false }
    }

    /// The value of a bool, of Python or NumPy; nil for anything else.
    public var bool: Bool? {
        if case .bool(let value) = source.pickle[index] { return value }
        if case .bool(let value) = numpyScalar { return value }
        return nil
    }

    /// The value of an integer, of Python or NumPy; nil for anything else, and where it is beyond 64 bits.
    public var int: Int? {
        if case .integer(let value) = source.pickle[index] { return Int(value) }
        if case .integer(let value) = numpyScalar { return value }
        return nil
    }

    /// The value of a float or an integer, of Python or NumPy; nil for anything else.
    public var double: Double? {
        if case .float(let value) = source.pickle[index] { return value }
        if case .float(let value) = numpyScalar { return value }
        return int.map { Double($0) }
    }

    /// The value of a text, with what is not UTF-8 replaced; nil for anything else.
    public var string: String? {
        source.pickle.text(index, maximumLength: source.pickle.bytes.count)
    }

    /// The contents of bytes or a bytearray; nil for anything else.
    public var bytes: [UInt8]? {
        if let bytes = plainBytes { return bytes }
        guard case .byteArray = knownClass else { return nil }
        let arguments = callArguments
        guard let first = arguments.first else { return [] }
        return arguments.count == 1 ? at(first).plainBytes : source.pickle.encoded(arguments)
    }

    /// Bytes as such, or as protocols below 3 write them.
    private var plainBytes: [UInt8]? {
        if let bytes = source.pickle.bytes(index) { return Array(bytes) }
        guard case .encoded = knownClass else { return nil }
        return source.pickle.encoded(callArguments)
    }

    // MARK: Names

    /// The full name of a class or function that the value itself is, such as `torch.float32`; nil for anything else.
    ///
    /// What protocols below 3 say to be in Python 2's `__builtin__` is in `builtins`.
    public var globalName: String? {
        guard let name = source.pickle.globalName(index) else { return nil }
        return name.hasPrefix("__builtin__.") ? "builtins." + name.dropFirst(12) : name
    }

    /// The dtype that the value itself is, such as `torch.float32`, by the name that `TensorMap` has for it; nil for
    /// anything else, and where it is not known.
    public var dtype: String? { globalName.flatMap { TorchDType(global: $0) }?.name }

    /// The lengths in a `torch.Size`, or in a tuple or list of at most 64 of them; nil for anything else.
    public var dimensions: [UInt64]? { source.pickle.dimensions(index) }
}
