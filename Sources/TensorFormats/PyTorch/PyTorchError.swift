/// Why a file is not taken as a checkpoint of PyTorch whose tensors are known.
///
/// A caller that stores files keeps such a file as plain bytes, and says `message`.
public struct PyTorchError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure it is. Open: later versions add codes.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// It does not end as a zip file does, or is a zip file without a pickle of PyTorch. So are the tar files
        /// of the first versions of PyTorch and zip files whose writing was cut off.
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

    /// What reading the zip file ended with.
    private init(_ error: TensorFileError) {
        let codes: [TensorFileError.Code: Code] = [
            .otherFormat: .notPyTorch, .compressed: .compressed, .tooLarge: .tooLarge,
        ]
        self.init(codes[error.code] ?? .invalidArchive, error.message)
    }

    /// What `body` returns, where the errors of reading zip files are errors of this type.
    static func from<Value>(_ body: () throws -> Value) throws -> Value {
        do {
            return try body()
        } catch let error as TensorFileError {
            throw PyTorchError(error)
        }
    }

    public var description: String { message }
}

/// What a file may need at most; what passes it is refused, so that no file can take memory or time without bound.
enum PyTorchLimits {
    /// Classes and functions that a pickle names. Python's pickler names each once.
    static let globalCount = 1 << 20
    /// Values on the unpickler's stack. Python's pickler leaves lists in parts of a thousand.
    static let stackCount = 4 << 20
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
}

/// What one pickle may need at most.
struct PickleLimits {
    /// Bytes. Strings are ranges of the pickle, so that it bounds their memory as well.
    let length: Int
    /// Values that it builds, entries of the unpickler's memo, and stretches of lists and dictionaries.
    let nodeCount: Int
    /// Those among them that are made by calls.
    let objectCount: Int
    /// Places in lists, tuples and dictionaries; twice as many for keys with their values.
    let edgeCount: Int

    /// Of checkpoints with tensors, of which one takes about a dozen values and 150 bytes.
    ///
    /// Measured on a Zen 4 core: 1,000,000 objects of three attributes, 5,000,000 values in 50 MB, take 0.6 s, and 320 MiB with the
    /// pickle. What was tried to take the most (objects, numbers, and appends to two lists by turns) took
    /// 1.5 s and 660 MiB.
    static let tensors = PickleLimits(
        length: 64 << 20, nodeCount: 12 << 20, objectCount: 4 << 20, edgeCount: 32 << 20)
}
