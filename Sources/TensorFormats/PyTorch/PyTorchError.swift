/// Why a file is not taken as a checkpoint of PyTorch whose tensors are known.
///
/// A caller that stores files keeps such a file as plain bytes, and says `message`.
public struct PyTorchError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure it is. Open: later versions add codes.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// It does not end as a zip file does, or is a zip file without a pickle of PyTorch. So are files of
        /// PyTorch before 1.6 and files whose writing was cut off.
        public static let notPyTorch = Code(rawValue: "not-pytorch")
        /// The zip file contradicts itself, or has something between its records.
        public static let invalidArchive = Code(rawValue: "invalid-archive")
        /// A record is compressed, so that no tensor's bytes stand in the file.
        public static let compressed = Code(rawValue: "compressed")
        /// The pickle is not one, or does what no pickle of tensors does.
        public static let invalidPickle = Code(rawValue: "invalid-pickle")
        /// A tensor or its storage is not in the file as the pickle says.
        public static let invalidStorage = Code(rawValue: "invalid-storage")
        /// Something known by its name is built in a way that this reader does not know.
        public static let notUnderstood = Code(rawValue: "not-understood")
        /// The numbers are big endian.
        public static let byteOrder = Code(rawValue: "byte-order")
        /// A limit of this reader is passed.
        public static let tooLarge = Code(rawValue: "too-large")
    }

    public let code: Code
    /// One sentence for people.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// What is wrong with the zip file.
    static func archive(_ what: String) -> PyTorchError {
        PyTorchError(.invalidArchive, "The zip file is not as PyTorch writes one: \(what).")
    }

    public var description: String { message }
}

/// What a file may need at most; what passes it is refused, so that no file can take memory or time without bound.
///
/// Measured on a Zen 4 core: 1,000,000 objects of three attributes, 5,000,000 values in 50 MB, take 0.6 s, and 320 MiB with the
/// pickle. What was tried to take the most (128 MiB of objects, numbers, and appends to two lists by turns) took 3 s and 1,020 MiB.
/// A tensor takes about a dozen values and 150 bytes of pickle.
enum PyTorchLimits {
    /// Bytes of the zip file's central directory.
    static let directoryLength = 64 << 20
    /// Bytes of `data.pkl`. Strings are ranges of it, so that it bounds their memory as well.
    static let pickleLength = 128 << 20
    /// Values that the pickle builds, and how many of them may be objects.
    static let nodeCount = 12 << 20
    static let objectCount = 4 << 20
    /// Classes and functions. Python's pickler names each once.
    static let globalCount = 64 << 10
    /// Places in lists, tuples and dictionaries; twice as many for keys with their values.
    static let edgeCount = 32 << 20
    /// Values on the unpickler's stack. Python's pickler leaves lists in parts of a thousand.
    static let stackCount = 4 << 20
    /// Entries of the unpickler's memo, which Python's pickler makes for nearly every value.
    static let memoCount = 16 << 20
    /// Open marks on that stack.
    static let markCount = 64 << 10
    /// Containers in containers. Python's own pickler ends at less.
    static let depth = 500
    /// Calls around calls that make one tensor: a parameter that is a distributed tensor of a subclass has five.
    static let wrapperCount = 8
    /// Places that the walk looks at, each of a shared tensor's places being one, and dimensions of tensors.
    static let stepCount = 16 << 20
    /// Tensors, and objects that wait for the walk.
    static let tensorCount = 1 << 20
    /// Dimensions of a tensor: PyTorch's own limit for most operations.
    static let dimensionCount = 64
    /// UTF-8 bytes of a tensor's name, and of all names together.
    static let nameLength = 4096
    static let totalNameLength = 64 << 20
    /// Bytes of the file that are in no extent.
    static let literalLength: UInt64 = 16 << 20
}
