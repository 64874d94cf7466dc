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
    /// Why a file that looks as if it held tensors is kept as one blob, as the end of a sentence.
    var warning: String?

    /// Looks at the file's beginning. The file stays unread but for its header.
    /// - Parameter size: the file's bytes.
    init(name: [UInt8], file: File, size: UInt64) throws {
        self.init(opaque: size)
        guard name.suffix(12).elementsEqual(".safetensors".utf8) else { return }
        do {
            let prefix = try file.read(Int(min(8, size)), at: 0)
            let length = try SafetensorsHeader.headerLength(prefix: prefix, fileSize: size)
            let bytes = try file.read(length, at: 0)
            self.init(try SafetensorsHeader(parsing: bytes, fileSize: size), header: bytes)
        } catch let error as SafetensorsError {
            warning = "is kept as it is, without its tensors being known: \(error.message)"
        }
    }

    private init(opaque size: UInt64) { extents = size == 0 ? [] : [Extent(offset: 0, length: size)] }

    private init(_ header: SafetensorsHeader, header bytes: [UInt8]) {
        let start = UInt64(header.headerLength)
        extents = header.tensors.map {
            Extent(offset: start + $0.begin, length: $0.byteCount, elementSize: $0.dtype.elementSize)
        }
        schema = Schema(
            format: "safetensors", blobLengths: extents.map(\.length),
            tensors: header.tensors.enumerated().map { index, tensor in
                Schema.Tensor(
                    name: tensor.name, dtype: tensor.dtype.rawValue, shape: tensor.shape, blob: index,
                    offset: 0,
                    length: tensor.byteCount)
            },
            parts: [.literal(bytes)] + header.tensors.indices.map { .blob($0) })
    }
}
