/// Plans a checkpoint of `torch.distributed.checkpoint` (DCP), as its file system writer writes it on one rank.
///
/// Any number of ranks, in any layout, load it; `dcp_to_torch_save` and the readers of PyTorch 2.3 and later do as well.
/// The metadata is a pickle of protocol 2, where PyTorch takes Python's default, and names no folder and no random id of
/// the save: the same items give the same bytes.
public struct DCPWriter: Sendable {
    /// A step on the way from the top of the state dictionary to an item.
    public enum Key: Sendable, Equatable {
        /// In a dictionary. Numbers, such as those of an optimizer's parameters, are texts here.
        case name(String)
        /// In a list.
        case index(Int)

        var text: String {
            switch self {
            case .name(let name): name
            case .index(let index): String(index)
            }
        }
    }

    /// A block of a tensor, whose elements lie one behind the other in a content of the caller's.
    public struct Chunk: Sendable {
        /// Elements in front of it along each axis.
        public var offsets: [UInt64]
        public var sizes: [UInt64]
        public var content: Int

        public init(offsets: [UInt64], sizes: [UInt64], content: Int) {
            self.offsets = offsets
            self.sizes = sizes
            self.content = content
        }
    }

    public enum Value: Sendable {
        /// The chunks fill the tensor without overlapping. `shape` is as safetensors counts it.
        case tensor(dtype: DType, shape: [UInt64], chunks: [Chunk])
        /// Anything else. It names no tensors.
        case object(TorchValue)
    }

    /// A leaf of the state dictionary.
    public struct Item: Sendable {
        /// From the top of the state dictionary; not empty.
        public var path: [Key]
        public var value: Value

        public init(path: [Key], value: Value) {
            self.path = path
            self.value = value
        }

        /// The whole of a tensor.
        public init(path: [Key], dtype: DType, shape: [UInt64], content: Int) {
            let chunk = Chunk(offsets: shape.map { _ in 0 }, sizes: shape, content: content)
            self.init(path: path, value: .tensor(dtype: dtype, shape: shape, chunks: [chunk]))
        }

        /// The path with dots between its steps: what PyTorch calls the fully qualified name.
        public var name: String { path.map(\.text).joined(separator: ".") }
    }

    /// A file of the checkpoint's folder.
    public struct File: Sendable {
        /// Such as `__0_0.distcp`.
        public var name: String
        public var parts: FileParts
    }

    /// The name of the file that is written last: what has it is complete.
    public static let metadataFileName = ".metadata"

    /// The data, in the order of their numbers.
    public private(set) var files: [File] = []
    /// What is to be in the file `metadataFileName`.
    public private(set) var metadata: [UInt8] = []

    /// Where each chunk of each item lies; one place for an object.
    private(set) var places: [[Place]]

    struct Place {
        var file: Int
        var offset: UInt64
        var length: UInt64
    }

    /// - Parameters:
    ///   - items: their names differ, and none is on the way to another.
    ///   - maximumFileSize: another file is begun where an item would bring one beyond so many bytes.
    /// - Throws: `TensorFileError` with the name of the item that can't be written.
    public init(_ items: [Item], maximumFileSize: UInt64 = .max) throws(TensorFileError) {
        try Self.checkNames(items)
        places = items.map { _ in [] }
        // Objects come before tensors, as PyTorch has them.
        for (number, item) in items.enumerated() {
            guard case .object(let value) = item.value else { continue }
            let zip = try TorchFileWriter.file(of: value, tensors: [])
            append(zip, of: number, maximumFileSize)
        }
        for (number, item) in items.enumerated() {
            guard case .tensor(let dtype, let shape, let chunks) = item.value else { continue }
            try Self.check(chunks, fill: shape, of: dtype, name: item.name)
            for chunk in chunks {
                let tensor = TorchFileWriter.Tensor(
                    name: item.name, dtype: dtype, shape: chunk.sizes, content: chunk.content)
                append(
                    try TorchFileWriter.file(of: .tensor(0), tensors: [tensor]), of: number, maximumFileSize)
            }
        }
        metadata = pickledMetadata(items)
    }

    private mutating func append(_ zip: FileParts, of item: Int, _ maximumFileSize: UInt64) {
        let current = files.last?.parts.length ?? 0
        if files.isEmpty
            || current > 0 && (current >= maximumFileSize || zip.length > maximumFileSize - current)
        {
            files.append(File(name: "__0_\(files.count).distcp", parts: FileParts()))
        }
        let file = files.count - 1
        places[item].append(Place(file: file, offset: files[file].parts.length, length: zip.length))
        files[file].parts.append(zip)
    }
}

// MARK: Checks

extension DCPWriter {
    private static func checkNames(_ items: [Item]) throws(TensorFileError) {
        var leaves: Set<ExactText> = []
        var containers: Set<[ExactText]> = []
        for item in items {
            guard !item.path.isEmpty, item.path.count <= PyTorchLimits.depth else {
                throw TensorFileError(
                    .invalidName, "The path of an item has \(item.path.count) steps; 1 to 500 are allowed.")
            }
            // PyTorch fills a list up to the index.
            let indices = item.path.compactMap { if case .index(let index) = $0 { index } else { nil } }
            guard indices.allSatisfy({ items.indices.contains($0) }) else {
                throw TensorFileError(
                    .invalidName,
                    "The name \(item.name.quoted) has a place in a list that has not so many items.")
            }
            guard item.name.utf8.count <= PyTorchLimits.nameLength else {
                throw TensorFileError(.invalidName, "The name \(item.name.quoted) has over 4,096 bytes.")
            }
            guard leaves.insert(ExactText(item.name)).inserted else {
                throw TensorFileError(.invalidName, "Two items have the name \(item.name.quoted).")
            }
            for count in 1..<item.path.count { containers.insert(item.path.prefix(count).map(\.exactText)) }
        }
        for item in items where containers.contains(item.path.map(\.exactText)) {
            throw TensorFileError(
                .invalidName, "The name \(item.name.quoted) is an item's, and another item lies in it.")
        }
    }

    /// That each chunk lies in the tensor, and that they have as many elements together: then they fill it unless they
    /// overlap, which is the caller's matter.
    private static func check(
        _ chunks: [Chunk], fill shape: [UInt64], of dtype: DType, name: String
    ) throws(TensorFileError) {
        func fail(_ what: String) -> TensorFileError {
            TensorFileError(.invalidShape, "The tensor \(name.quoted) of shape \(shape) \(what).")
        }
        guard let byteCount = dtype.byteCount(shape: shape) else { throw fail("is beyond 64 bits") }
        var sum: UInt64 = 0
        for chunk in chunks {
            let isInside =
                chunk.offsets.count == shape.count && chunk.sizes.count == shape.count
                && shape.indices.allSatisfy {
                    chunk.sizes[$0] <= shape[$0] && chunk.offsets[$0] <= shape[$0] - chunk.sizes[$0]
                }
            guard isInside, dtype.torchShape(chunk.offsets) != nil || shape.isEmpty,
                let length = dtype.byteCount(shape: chunk.sizes)
            else { throw fail("has no chunk of \(chunk.sizes) at \(chunk.offsets)") }
            let (total, overflow) = sum.addingReportingOverflow(length)
            guard !overflow else { throw fail("has chunks that overlap") }
            sum = total
        }
        guard sum == byteCount, !chunks.isEmpty else { throw fail("is not what its chunks fill") }
    }
}

extension DCPWriter.Key {
    fileprivate var exactText: ExactText { ExactText(text) }
}
