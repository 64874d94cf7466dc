internal import ChunkStore
internal import Platform
internal import TensorFormats

/// How a file is cut into blobs.
struct FilePlan {
    /// Where a blob's bytes lie in the file.
    struct Extent: Hashable {
        var offset: UInt64
        var length: UInt64
        /// Bytes of its numbers: 1, 2, 4 or 8.
        var elementSize = 1
    }

    /// In the order of the file, without gaps but for what `schema` holds literally.
    var extents: [Extent]
    /// How blobs and literal bytes make up the file; nil where it is one opaque blob.
    var schema: Schema?
    /// Bytes of the file.
    var size: UInt64 { schema?.fileSize ?? extents.first?.length ?? 0 }
    /// Why a file that looks as if it held tensors is kept as one blob, as the end of a sentence.
    var warning: String?

    init(extents: [Extent], schema: Schema) { (self.extents, self.schema) = (extents, schema) }

    /// Looks at what says where tensors lie. The rest of the file stays unread.
    /// - Parameter size: the file's bytes.
    init(name: [UInt8], file: File, size: UInt64) throws {
        self.init(opaque: size)
        do {
            guard let map = try Self.map(Path(name), file, size), !map.tensors.isEmpty else { return }
            try self.init(map, file: file, size: size)
        } catch let error as TensorFileError {
            // Anything may have a name of PyTorch's; but what begins as a zip file is meant to be one.
            let isMeant =
                try error.code != .otherFormat || !Self.namesOfPyTorch.contains(Path(name).fileExtension)
                || file.read(Int(min(4, size)), at: 0) == Self.zipStart
            if isMeant {
                warning = "is kept as it is, without its tensors being known: \(error.message)"
            }
        }
    }

    /// The first bytes of a zip file with anything in it.
    private static let zipStart: [UInt8] = [0x50, 0x4B, 3, 4]

    private static let namesOfPyTorch: Set = ["pt", "pth", "bin", "ckpt"]

    /// nil for a file whose name is none of those that hold tensors.
    static func map(_ path: Path, _ file: File, _ size: UInt64) throws -> TensorMap? {
        let read = { (range: Range<UInt64>) in
            try file.read(Int(range.upperBound - range.lowerBound), at: range.lowerBound)
        }
        switch path.fileExtension {
        case "safetensors": return try safetensors(size, read)
        case "distcp":
            // PyTorch can be told to write safetensors under this name.
            let prefix = try read(0..<min(9, size))
            return prefix.count == 9 && prefix.last == UInt8(ascii: "{")
                ? try safetensors(size, read) : try TensorMap(distributed: size, read: read)
        // MindSpore's checkpoints have the name that PyTorch's have as well, and tell themselves by their first bytes.
        case "ckpt" where TensorMap.isMindSpore(try read(0..<min(16, size))):
            return try TensorMap(mindSpore: size, read: read)
        case "pt", "pth", "bin", "ckpt": return try TensorMap(pyTorch: size, read: read)
        case "gguf": return try TensorMap(GGUFHeader(size: size, read: read), fileSize: size)
        case "npy": return try TensorMap(npy: size, read: read)
        case "npz": return try TensorMap(npz: size, read: read)
        default: return nil
        }
    }

    private static func safetensors(
        _ size: UInt64, _ read: (Range<UInt64>) throws -> [UInt8]
    ) throws -> TensorMap {
        let length = try SafetensorsHeader.headerLength(prefix: read(0..<min(8, size)), fileSize: size)
        return TensorMap(try SafetensorsHeader(parsing: read(0..<UInt64(length)), fileSize: size))
    }

    /// One blob.
    init(opaque size: UInt64) { extents = size == 0 ? [] : [Extent(offset: 0, length: size)] }

    private init(_ map: TensorMap, file: File, size: UInt64) throws {
        extents = map.extents.map {
            Extent(offset: $0.offset, length: $0.length, elementSize: $0.elementSize)
        }
        var parts: [Schema.Part] = []
        var end: UInt64 = 0
        let literal = { (start: UInt64) in
            if start > end { parts.append(.literal(try file.read(Int(start - end), at: end))) }
        }
        for (index, extent) in extents.enumerated() {
            try literal(extent.offset)
            parts.append(.blob(index))
            end = extent.offset + extent.length
        }
        try literal(size)
        schema = Schema(
            format: map.format, blobLengths: extents.map(\.length),
            tensors: map.tensors.map { tensor in
                Schema.Tensor(
                    name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, blob: tensor.extent,
                    offset: tensor.offset, length: tensor.length)
            }, parts: parts)
    }
}
