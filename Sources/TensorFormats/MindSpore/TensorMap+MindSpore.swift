extension TensorMap {
    /// Whether a file that begins so is taken for a checkpoint of MindSpore, whatever its name: `.ckpt` is PyTorch's
    /// as well.
    ///
    /// - Parameter prefix: the first 16 bytes, or all of a shorter file.
    public static func isMindSpore(_ prefix: [UInt8]) -> Bool { MindSporeCheckpoint.kind(prefix) != nil }

    /// The map of a checkpoint of MindSpore, a `.ckpt` file.
    ///
    /// A tensor that the file has in several pieces is listed once for each: under its name, then with `#2`, `#3` and
    /// so on behind it. Each has the shape of the whole tensor and the bytes of the piece; one behind the other they
    /// are the tensor. The slices of a map tensor `a` are `a.key`, `a.value` and `a.status`, then `a.key#2` and so on,
    /// each of its own shape; they belong one behind the other along the first axis. Texts and tensors of unknown types
    /// are in no list.
    ///
    /// - Parameters:
    ///   - size: bytes of the file.
    ///   - read: gives the bytes of a range inside the file. What it throws passes through.
    /// - Throws: `TensorFileError` where the file can't be cut with certainty.
    public init(mindSpore size: UInt64, read: @escaping (Range<UInt64>) throws -> [UInt8]) throws {
        let checkpoint = try MindSporeCheckpoint(size: size, read: read)
        let stretches = try checkpoint.entries.flatMap { try $0.stretches() }
        var names: Set<ExactText> = []
        for name in stretches.compactMap(\.tensor?.name) where !names.insert(ExactText(name)).inserted {
            throw TensorFileError(.damaged, "The file is damaged: two tensors have the name \(name.quoted).")
        }
        try self.init(format: "mindspore", size: size, stretches)
    }
}

extension MindSporeCheckpoint.Entry {
    fileprivate func stretches() throws(TensorFileError) -> [Stretch] {
        isMap ? try slicesOfMap() : try piecesOfTensor()
    }

    private func piecesOfTensor() throws(TensorFileError) -> [Stretch] {
        let first = pieces[0]
        guard pieces.allSatisfy({ $0.type == first.type && $0.shape == first.shape }) else {
            throw contradiction
        }
        guard let dtype = MindSporeDType(first.type) else {
            return pieces.map { Stretch(range: $0.content, elementSize: 1) }
        }
        let length = pieces.reduce(0 as UInt64) { $0 &+ $1.length }
        // So MindSpore once wrote scalars.
        let shape = first.shape == [0] && length == dtype.elementLength ? [] : first.shape
        guard shape.product(times: dtype.elementLength) == length else { throw contradiction }
        // An array that is cut along a short axis may have pieces without elements.
        let filled = pieces.count == 1 ? pieces : pieces.filter { $0.length > 0 }
        return filled.enumerated().map { index, piece in
            Stretch(
                range: piece.content, elementSize: dtype.bytesPerNumber,
                tensor: (Self.number(name, index), dtype.name, shape))
        }
    }

    private func slicesOfMap() throws(TensorFileError) -> [Stretch] {
        var stretches: [Stretch] = []
        for (index, piece) in pieces.enumerated() {
            guard let dtype = MindSporeDType(piece.type),
                piece.shape.product(times: dtype.elementLength) == piece.length
            else { throw contradiction }
            let part = name + [".key", ".value", ".status"][index % 3]
            stretches.append(
                Stretch(
                    range: piece.content, elementSize: dtype.bytesPerNumber,
                    tensor: (Self.number(part, index / 3), dtype.name, piece.shape)))
        }
        return stretches
    }

    /// - Parameter index: of the piece.
    private static func number(_ name: String, _ index: Int) -> String {
        index == 0 ? name : "\(name)#\(index + 1)"
    }

    private var contradiction: TensorFileError {
        TensorFileError(
            .damaged,
            "The file is damaged: the tensor \(name.quoted) has not the bytes that its type and shape need.")
    }
}

/// The element type of a tensor of MindSpore.
private struct MindSporeDType {
    /// As `TensorMap.Tensor.dtype` has it.
    let name: String
    /// Bytes of one element.
    let elementLength: UInt64
    let bytesPerNumber: Int

    /// - Parameter name: as MindSpore or NumPy spells it.
    /// - Returns: nil for texts and for what is not known here.
    init?(_ name: String) {
        let types: [String: DType] = [
            "bool": .bool, "int8": .i8, "int16": .i16, "int32": .i32, "int64": .i64, "uint8": .u8,
            "uint16": .u16,
            "uint32": .u32, "uint64": .u64, "float16": .f16, "bfloat16": .bf16, "float32": .f32,
            "float64": .f64,
            "complex64": .c64, "float8e4m3fn": .f8E4M3, "float8e5m2": .f8E5M2,
        ]
        let name = name.lowercased()
        if let type = types[name] {
            self.init(name: type.name, elementLength: UInt64(type.bitsPerElement / 8), type.bytesPerNumber)
        } else if name == "complex128" {
            self.init(name: "C128", elementLength: 16, 8)
        } else if name == "int4" {
            // Pairs of numbers of four bits; the file's shape counts pairs.
            self.init(name: "qint4x2", elementLength: 1, 1)
        } else {
            return nil
        }
    }

    private init(name: String, elementLength: UInt64, _ bytesPerNumber: Int) {
        self.name = name
        self.elementLength = elementLength
        self.bytesPerNumber = bytesPerNumber
    }
}
