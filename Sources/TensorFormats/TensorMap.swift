/// Where the tensors of a file lie, and at which bytes to cut it so that each tensor is a blob of its own.
///
/// What no extent covers (headers, padding, the records of a zip file) is for the template of the file.
public struct TensorMap: Sendable, Equatable {
    /// A stretch of the file that is stored as a blob of its own.
    public struct Extent: Sendable, Equatable {
        /// Bytes from the start of the file.
        public var offset: UInt64
        /// Bytes. 0 stands only for tensors without elements, so that they have a blob as well.
        public var length: UInt64
        /// Bytes of the numbers in it: 1, 2, 4 or 8. A complex number is two of them; types that are packed below
        /// a byte, unknown ones, and mixtures have 1.
        public var elementSize: Int

        public init(offset: UInt64, length: UInt64, elementSize: Int) {
            self.offset = offset
            self.length = length
            self.elementSize = elementSize
        }
    }

    /// A tensor whose elements lie in the file one behind the other, in the order of its shape.
    public struct Tensor: Sendable, Equatable {
        /// Its path in the file, such as `model.layers.0.weight`. No two are the same. Empty for a file that is one
        /// array; `a#2`, `a#3` for the later pieces of a tensor `a` that MindSpore has cut.
        public var name: String
        /// As safetensors spells it where it has the type (`DType`), else as the library does that wrote the file,
        /// such as `qint8` or `Q4_K`; `C128` is a pair of doubles.
        public var dtype: String
        /// Elements along each axis; empty for a scalar. Of a piece, those of the whole tensor.
        public var shape: [UInt64]
        /// Its place in `extents`.
        public var extent: Int
        /// Bytes from the extent's first one: above 0 only where tensors overlap.
        public var offset: UInt64
        /// Bytes.
        public var length: UInt64

        public init(
            name: String, dtype: String, shape: [UInt64], extent: Int, offset: UInt64, length: UInt64
        ) {
            self.name = name
            self.dtype = dtype
            self.shape = shape
            self.extent = extent
            self.offset = offset
            self.length = length
        }

        /// Equal to the last bit: names compare by their bytes, not by what Unicode calls equal.
        public static func == (a: Tensor, b: Tensor) -> Bool {
            a.name.hasSameBytes(as: b.name) && a.dtype == b.dtype && a.shape == b.shape
                && a.extent == b.extent && a.offset == b.offset && a.length == b.length
        }
    }

    /// The format of the file: `safetensors`, `pytorch`, `distcp`, `mindspore`, `gguf`, `npy` or `npz`.
    public var format: String
    /// In the order of the file; none reaches into the next.
    public var extents: [Extent]
    /// In the order in which the file names them.
    public var tensors: [Tensor]

    public init(format: String, extents: [Extent], tensors: [Tensor]) {
        self.format = format
        self.extents = extents
        self.tensors = tensors
    }
}

extension TensorMap {
    /// The map of a safetensors file: an extent for each tensor, in the order of the data, also for empty ones.
    ///
    /// The tensors tile the data section, so what is left to the template is the header.
    public init(_ header: SafetensorsHeader) {
        let start = UInt64(header.headerLength)
        self.init(
            format: "safetensors",
            extents: header.tensors.map {
                Extent(
                    offset: start + $0.begin, length: $0.byteCount, elementSize: $0.dtype.bytesPerNumber)
            },
            tensors: header.tensors.enumerated().map { index, tensor in
                Tensor(
                    name: tensor.name, dtype: tensor.dtype.name, shape: tensor.shape, extent: index,
                    offset: 0,
                    length: tensor.byteCount)
            })
    }
}

extension DType {
    /// Bytes of the numbers that make up an element: half the element for the complex type, 1 for types below a
    /// byte.
    public var bytesPerNumber: Int {
        self == .c64 ? 4 : max(1, bitsPerElement / 8)
    }
}
