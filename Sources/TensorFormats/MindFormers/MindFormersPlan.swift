/// Plans a checkpoint of MindSpore Transformers: which slices are in which file, and what `metadata.json` of 2.0 says of it.
public struct MindFormersPlan: Sendable {
    /// A tensor to be written.
    public struct Tensor: Sendable {
        public var name: String
        public var dtype: DType
        public var shape: [UInt64]
        /// How it is spread over the ranks.
        public var layout: MindFormersLayout
        public var kind: MindFormersFileName.Kind
        /// Whether each rank that holds it writes it, whatever becomes of other replicas.
        public var isEverywhere: Bool

        public init(
            name: String, dtype: DType, shape: [UInt64], layout: MindFormersLayout,
            kind: MindFormersFileName.Kind, isEverywhere: Bool = false
        ) {
            self.name = name
            self.dtype = dtype
            self.shape = shape
            self.layout = layout
            self.kind = kind
            self.isEverywhere = isEverywhere
        }
    }

    /// What becomes of a slice that several ranks hold.
    public enum Replicas: Sendable {
        /// Each of them writes it.
        case kept
        /// One writes it, chosen so that their files are about as large: as 2.0 does.
        case balanced
        /// One writes it: of the slices of the same ranks one by turns, in the order of their names. As MindSpore does for 1.0.
        case dealt
    }

    /// A slice in a file.
    public struct Piece: Sendable, Equatable {
        /// A place in the tensors that were given.
        public var tensor: Int
        /// Its number, row by row over the cuts.
        public var slice: Int
        /// Where it lies in the tensor: a range of each axis.
        public var area: [Range<UInt64>]
        /// Bytes of its elements.
        public var byteCount: UInt64
    }

    /// A safetensors file: `header`, then the elements of each piece, row by row.
    public struct File: Sendable {
        public var name: MindFormersFileName
        /// The rank whose tensors are in it.
        public var rank: Int
        public var header: [UInt8]
        public var pieces: [Piece]
    }

    /// Slices that all ranks hold together, and ranks that `metadata.json` may list as holders of slices: where each rank
    /// writes what it holds, it lists every holder of a slice once for each of them.
    public static let maximumPieceCount = 1 << 24

    /// The model's first, then the optimizer's where it has tensors; those of each in the order of their numbers.
    public private(set) var files: [File] = []
    /// What is to be in `metadata.json`. The library writes none for a single rank.
    public private(set) var metadata: MindFormersMetadata

    /// - Parameters:
    ///   - tensors: in the order in which each rank has them.
    ///   - rankCount: ranks from 0 on; those of all layouts are among them.
    ///   - prefix: what the names of the files begin with; nil for nothing.
    ///   - metadata: of the files, `format` first.
    /// - Throws: `TensorFileError` with the name of a tensor that doesn't divide, or that MindSpore has no type for.
    public init(
        _ tensors: [Tensor], rankCount: Int, prefix: String? = nil, replicas: Replicas = .kept,
        metadata fields: [(key: String, value: String)] = [("format", "ms")],
        style: MindFormersMetadata.Style = .indented
    ) throws(TensorFileError) {
        let spread = try MindFormersSpread(tensors, rankCount: rankCount)
        if replicas == .kept { try Self.checkHolders(spread) }
        metadata = MindFormersMetadata(style: style, tensors: spread.descriptions(), slices: [])
        var places: [(slice: MindFormersSpread.Slice, file: Int)] = []
        for kind in [MindFormersFileName.Kind.model, .optimizer]
        where tensors.contains(where: { $0.kind == kind }) {
            let shares =
                switch replicas {
                case .kept: spread.shares(of: kind)
                case .balanced: spread.balancedShares(of: kind)
                case .dealt: spread.dealtShares(of: kind)
                }
            for (index, share) in shares.enumerated() {
                let name = MindFormersFileName(prefix: prefix, kind: kind, index: index, count: shares.count)
                places += share.slices.map { ($0, files.count) }
                files.append(spread.file(name, share, fields))
            }
        }
        if replicas == .kept {
            // Rank by rank, each with its tensors in their order.
            places.sort { (files[$0.file].rank, $0.slice.tensor) < (files[$1.file].rank, $1.slice.tensor) }
        }
        store(places, spread)
    }

    private static func checkHolders(_ spread: MindFormersSpread) throws(TensorFileError) {
        let count = spread.holders.values.reduce(0) { $0 + $1.count * $1.count }
        guard count <= maximumPieceCount else {
            throw TensorFileError(
                .tooLarge,
                "The file metadata.json would list \(count) holders of slices, over 16,777,216; remove redundancy, so that each "
                    + "slice is stored once.")
        }
    }

    private mutating func store(
        _ places: [(slice: MindFormersSpread.Slice, file: Int)], _ spread: MindFormersSpread
    ) {
        let names = files.map(\.name.text)
        var stored: [MindFormersSpread.Slice: Int] = [:]
        for (slice, file) in places {
            let place = MindFormersMetadata.Place(
                fileName: names[file], rank: files[file].rank, holders: spread.holders[slice])
            if let index = stored[slice] {
                metadata.slices[index].places.append(place)
            } else {
                stored[slice] = metadata.slices.count
                metadata.slices.append(
                    .init(tensor: spread.tensors[slice.tensor].name, slice: slice.number, places: [place]))
            }
        }
    }
}
