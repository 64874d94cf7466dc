internal import ChunkStore

extension IterationInfo {
    /// The manifest id: 64 hex digits.
    public var idText: String { id.hex }
    /// The manifest id of the iteration before, where there is one.
    public var parentText: String? { parent?.hex }
}

/// One iteration with everything in it.
public struct IterationDetails: Sendable {
    public var info: IterationInfo
    /// Those of the model, and of the optimizer where that keeps them by the names of the parameters, whole, as the layout puts them together;
    /// behind them whatever else the files hold, in their order.
    public var tensors: [TensorInfo]
    /// In the order of their paths.
    public var files: [FileInfo]
    /// What its layout says of it: who wrote it, how it is spread over ranks, what it lacks.
    public var understood: [Fact]

    /// A name and a value, for people.
    public struct Fact: Sendable, Hashable {
        public var name: String
        public var value: String
    }

    public init(
        info: IterationInfo, tensors: [TensorInfo], files: [FileInfo], understood: [Fact] = []
    ) {
        self.info = info
        self.tensors = tensors
        self.files = files
        self.understood = understood
    }
}

/// A tensor: one that is whole, from however many files its layout puts it together, or one as a file holds it.
public struct TensorInfo: Sendable, Hashable {
    /// The name that the framework's users know; of one as a file holds it, the one that it has there.
    public var name: String
    /// As safetensors names it, such as `BF16`.
    public var dtype: String
    /// The length of each dimension; empty for a scalar.
    public var shape: [UInt64]
    public var bytes: UInt64
    /// What it belongs to: `model`, `optimizer` or what the layout says; empty where it says nothing.
    public var group: String
    /// How many stored tensors it is put together from.
    public var pieces: Int
    /// The path of the file that holds it; nil where its layout puts it together.
    public var file: String?

    public init(
        name: String, dtype: String, shape: [UInt64], bytes: UInt64, group: String = "", pieces: Int = 1,
        file: String? = nil
    ) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.bytes = bytes
        self.group = group
        self.pieces = pieces
        self.file = file
    }
}

/// A saved file, folder or symbolic link.
public struct FileInfo: Sendable, Hashable {
    public enum Kind: String, Sendable {
        case file
        case folder
        case link
    }

    /// Relative to what was saved; bytes that are not UTF-8 or not printable are escaped.
    public var path: String
    /// The size of a file; 0 for others.
    public var bytes: UInt64
    public var kind: Kind
    /// The permission bits.
    public var mode: UInt16
    /// Nanoseconds since 1970 UTC.
    public var modifiedAt: Int64
    /// What a link points to.
    public var target: String?

    public init(
        path: String, bytes: UInt64, kind: Kind = .file, mode: UInt16 = 0o644, modifiedAt: Int64 = 0,
        target: String? = nil
    ) {
        self.path = path
        self.bytes = bytes
        self.kind = kind
        self.mode = mode
        self.modifiedAt = modifiedAt
        self.target = target
    }
}

/// A name that protects an iteration.
public struct PinInfo: Sendable, Hashable {
    public var name: String
    public var run: String
    public var step: UInt64
    /// The manifest id in hex.
    public var id: String

    public init(name: String, run: String, step: UInt64, id: String) {
        self.name = name
        self.run = run
        self.step = step
        self.id = id
    }
}
