/// `metadata.json` of MindSpore Transformers 2.0: which slices each tensor of a checkpoint has, and in which files they
/// are.
///
/// Read and written again it is the same, byte for byte.
public struct MindFormersMetadata: Sendable, Equatable {
    /// How the file is laid out.
    public enum Style: Sendable {
        /// With 4 spaces a level, as 1.8 and 1.9 of the library write it.
        case indented
        /// Without white space, as 2.1 writes it.
        case compact
    }

    /// One of the pieces that a tensor is cut into.
    public struct Chunk: Sendable, Equatable {
        /// Its number, row by row over the cuts: `global_offset` in the file.
        public var slice: Int
        public var shape: [UInt64]

        public init(slice: Int, shape: [UInt64]) {
            self.slice = slice
            self.shape = shape
        }
    }

    /// For each of the layout's ranks how many before it hold the same slice.
    public enum Replicas: Sendable, Equatable {
        /// Without a layout, 0.
        case one(Int)
        case each([Int])
    }

    public struct Tensor: Sendable, Equatable {
        public var name: String
        /// As MindSpore spells it, such as `BFloat16`.
        public var dtype: String
        public var replicas: Replicas
        public var allowsShapeMismatch: Bool
        public var isSaved: Bool
        /// Elements along each axis of the whole.
        public var shape: [UInt64]
        /// Slices along each axis.
        public var fragmentations: [Int]
        /// nil where the tensor is whole.
        public var layout: MindFormersLayout?
        /// Those of its slices that some rank holds, in the order of the first rank.
        public var chunks: [Chunk]
    }

    /// Where a slice is stored.
    public struct Place: Sendable, Equatable {
        public var fileName: String
        /// The rank that wrote the file.
        public var rank: Int
        /// The ranks that hold the slice; nil where the file was written before 1.9.
        public var holders: [Int]?

        public init(fileName: String, rank: Int, holders: [Int]?) {
            self.fileName = fileName
            self.rank = rank
            self.holders = holders
        }
    }

    /// The places of one slice.
    public struct StoredSlice: Sendable, Equatable {
        public var tensor: String
        public var slice: Int
        public var places: [Place]

        public init(tensor: String, slice: Int, places: [Place]) {
            self.tensor = tensor
            self.slice = slice
            self.places = places
        }
    }

    public static let fileName = "metadata.json"

    public var style: Style
    /// In the order of the file. No two have one name.
    public var tensors: [Tensor]
    /// In the order of the file.
    public var slices: [StoredSlice]

    public init(style: Style = .indented, tensors: [Tensor], slices: [StoredSlice]) {
        self.style = style
        self.tensors = tensors
        self.slices = slices
    }
}

extension MindFormersMetadata.Tensor {
    /// Where a slice lies in the tensor: a range of each axis.
    /// - Throws: `TensorFileError` where there is no such slice, or the tensor is interleaved.
    public func area(ofSlice slice: Int) throws(TensorFileError) -> [Range<UInt64>] {
        guard let layout else { return shape.map { 0..<$0 } }
        return try layout.area(ofSlice: slice, of: shape, name: name)
    }
}

/// Why a file of MindSpore Transformers is not taken as one.
public struct MindFormersError: Error, Sendable, Equatable, CustomStringConvertible {
    /// One sentence for people.
    public let message: String

    init(_ message: String) { self.message = message }

    public var description: String { message }
}
