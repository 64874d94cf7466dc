public import ChunkStore

/// What a split file looks like, the same from step to step: its tensors, and how to put it together again
/// from literal bytes and blobs. (Docs/format.md 6)
public struct Schema: Sendable, Equatable {
    /// A tensor, or the shard of one that this file holds.
    public struct Tensor: Sendable {
        public var name: String
        /// As the file's format spells it, such as `BF16`.
        public var dtype: String
        /// Elements along each axis; empty for a scalar.
        public var shape: [UInt64]
        /// Its place in `blobLengths`.
        public var blob: Int
        /// Bytes from the blob's first one.
        public var offset: UInt64
        /// Bytes.
        public var length: UInt64

        public init(name: String, dtype: String, shape: [UInt64], blob: Int, offset: UInt64, length: UInt64) {
            self.name = name
            self.dtype = dtype
            self.shape = shape
            self.blob = blob
            self.offset = offset
            self.length = length
        }
    }

    /// A stretch of the file.
    public enum Part: Sendable, Equatable {
        /// Bytes that are no tensor's: headers, records, padding.
        case literal([UInt8])
        /// All of the blob at this place in `blobLengths`.
        case blob(Int)
    }

    /// The format of the file, such as `safetensors`.
    public var format: String
    /// Bytes of each blob.
    public var blobLengths: [UInt64]
    public var tensors: [Tensor]
    /// In the order of the file, tiling it exactly.
    public var parts: [Part]

    public init(format: String, blobLengths: [UInt64], tensors: [Tensor], parts: [Part]) {
        self.format = format
        self.blobLengths = blobLengths
        self.tensors = tensors
        self.parts = parts
    }

    /// Bytes of the whole file.
    ///
    /// - Precondition: `check` passes, as it does for everything that was decoded.
    public var fileSize: UInt64 {
        parts.reduce(0) { $0 + length(of: $1) }
    }

    /// Bytes of one part.
    public func length(of part: Part) -> UInt64 {
        switch part {
        case .literal(let bytes): UInt64(bytes.count)
        case .blob(let index): blobLengths[index]
        }
    }

    /// That parts and tensors name blobs that exist, that every blob stands in a part, that tensors lie
    /// inside their blobs, and that the parts add up to a size that a file can have (and to `fileSize`, where
    /// it is given).
    public func check(fileSize: UInt64? = nil) throws(FormatError) {
        var used = [Bool](repeating: false, count: blobLengths.count)
        var size: UInt64 = 0
        for part in parts {
            if case .blob(let index) = part {
                guard used.indices.contains(index) else {
                    throw FormatError("holds a part of a blob that is not there")
                }
                used[index] = true
            }
            let (sum, overflow) = size.addingReportingOverflow(length(of: part))
            guard !overflow, sum <= UInt64(Int64.max) else {
                throw FormatError("holds a file beyond 2^63 bytes")
            }
            size = sum
        }
        guard used.allSatisfy(\.self) else {
            throw FormatError("holds a blob that stands nowhere in the file")
        }
        if let fileSize, size != fileSize {
            throw FormatError("describes \(size) bytes of a file that has \(fileSize)")
        }
        for tensor in tensors {
            guard blobLengths.indices.contains(tensor.blob) else {
                throw FormatError("holds a tensor in a blob that is not there")
            }
            let (end, overflow) = tensor.offset.addingReportingOverflow(tensor.length)
            guard !overflow, end <= blobLengths[tensor.blob] else {
                throw FormatError("holds a tensor that reaches beyond its blob")
            }
        }
    }

    /// Equal to the last bit: names compare by their bytes, not by what Unicode calls equal.
    public static func == (a: Schema, b: Schema) -> Bool { a.written() == b.written() }
}
