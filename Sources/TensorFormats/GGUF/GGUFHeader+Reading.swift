extension GGUFHeader {
    /// Bytes of the header, entries of the metadata, and tensors that a file may have.
    private static let maximumLength: UInt64 = 128 << 20
    private static let maximumCount: UInt64 = 1 << 20
    /// Bytes of a key or of a tensor's name.
    private static let maximumNameLength: UInt64 = 4096
    /// Dimensions of a tensor: ggml's own limit.
    private static let maximumRank: UInt32 = 4

    /// Reads a header, and checks that its tensors follow one another as ggml lays them out.
    ///
    /// - Parameters:
    ///   - size: bytes of the file.
    ///   - read: gives the bytes of a range inside the file. What it throws passes through.
    /// - Throws: `TensorFileError` where ggml would refuse the file, or a type is not known here.
    public init(size: UInt64, read: @escaping (Range<UInt64>) throws -> [UInt8]) throws {
        var cursor = FileCursor(0..<size, windowLength: 256 << 10, read: read)
        self = try Self.read(&cursor, size)
    }

    private static func read(_ cursor: inout FileCursor, _ size: UInt64) throws -> GGUFHeader {
        guard size >= 4, try cursor.bytes(4).elementsEqual("GGUF".utf8) else {
            throw TensorFileError(.otherFormat, "The file does not begin as a GGUF file.")
        }
        let version = try cursor.number(UInt32.self)
        guard version & 0xFFFF != 0 else {
            throw TensorFileError(.byteOrder, "The numbers in the file are big endian.")
        }
        guard version == 2 || version == 3 else {
            throw TensorFileError(
                .unsupported, "The file is of version \(version) of GGUF, which is not known here.")
        }
        let tensorCount = try count(&cursor)
        let metadata = try metadata(try count(&cursor), &cursor)
        let alignment = try alignment(in: metadata)
        let infos = try infos(tensorCount, &cursor)
        let start = (cursor.position + alignment - 1) / alignment * alignment
        let tensors = try place(infos, from: start, alignment, size)
        return GGUFHeader(version: version, metadata: metadata, tensors: tensors, alignment: alignment)
    }

    private static func count(_ cursor: inout FileCursor) throws -> UInt64 {
        let count = try cursor.number(UInt64.self)
        // Each takes more than eight bytes.
        guard count <= cursor.end / 8 else {
            throw TensorFileError(.damaged, "The file is damaged: it announces \(count) entries.")
        }
        guard count <= maximumCount else {
            throw TensorFileError(.tooLarge, "The file has over a million tensors or entries of metadata.")
        }
        return count
    }

    private static func name(_ cursor: inout FileCursor) throws -> String {
        let length = try cursor.number(UInt64.self)
        guard length <= maximumNameLength,
            let name = String(validating: try cursor.bytes(Int(length)), as: UTF8.self)
        else { throw TensorFileError(.damaged, "The file is damaged: a name in it is none.") }
        try checkLength(cursor)
        return name
    }

    /// That the header is not longer than it may be, so that no file can take memory or time without bound.
    private static func checkLength(_ cursor: FileCursor, next length: UInt64 = 0) throws {
        guard cursor.position <= maximumLength, length <= maximumLength else {
            throw TensorFileError(.tooLarge, "The header of the file has over 128 MiB.")
        }
    }

    // MARK: Metadata

    private static func metadata(
        _ count: UInt64, _ cursor: inout FileCursor
    ) throws -> [(key: String, value: Value)] {
        var metadata: [(key: String, value: Value)] = []
        var keys: Set<ExactText> = []
        for _ in 0..<count {
            let key = try name(&cursor)
            guard keys.insert(ExactText(key)).inserted, !key.isEmpty else {
                throw TensorFileError(
                    .damaged, "The file is damaged: the key \(key.quoted) comes twice or is none.")
            }
            metadata.append((key, try value(of: try cursor.number(UInt32.self), &cursor)))
        }
        return metadata
    }

    /// - Parameter type: its number in the file.
    private static func value(of type: UInt32, _ cursor: inout FileCursor) throws -> Value {
        switch type {
        case 0: return .unsigned(UInt64(try cursor.number(UInt8.self)))
        case 1: return .integer(Int64(Int8(bitPattern: try cursor.number(UInt8.self))))
        case 2: return .unsigned(UInt64(try cursor.number(UInt16.self)))
        case 3: return .integer(Int64(Int16(bitPattern: try cursor.number(UInt16.self))))
        case 4: return .unsigned(UInt64(try cursor.number(UInt32.self)))
        case 5: return .integer(Int64(Int32(bitPattern: try cursor.number(UInt32.self))))
        case 6: return .number(Double(Float(bitPattern: try cursor.number(UInt32.self))))
        case 7: return .bool(try cursor.number(UInt8.self) != 0)
        case 8:
            let length = try cursor.number(UInt64.self)
            try checkLength(cursor, next: length)
            return .text(String(decoding: try cursor.bytes(Int(length)), as: UTF8.self))
        case 9: return .array(count: try skipArray(&cursor, depth: 1))
        case 10: return .unsigned(try cursor.number(UInt64.self))
        case 11: return .integer(Int64(bitPattern: try cursor.number(UInt64.self)))
        case 12: return .number(Double(bitPattern: try cursor.number(UInt64.self)))
        default: throw unknownType(type)
        }
    }

    private static func unknownType(_ type: UInt32) -> TensorFileError {
        TensorFileError(
            .unsupported, "The file's metadata has a value of type \(type), which is not known here.")
    }

    /// Arrays in arrays: ggml itself reads none.
    private static let maximumDepth = 8

    /// - Returns: how many elements it has.
    private static func skipArray(_ cursor: inout FileCursor, depth: Int) throws -> UInt64 {
        let type = try cursor.number(UInt32.self)
        let count = try cursor.number(UInt64.self)
        let lengths: [UInt32: UInt64] = [0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8]
        if let length = lengths[type] {
            let (total, overflow) = count.multipliedReportingOverflow(by: length)
            try cursor.skip(overflow ? .max : total)
            return count
        }
        guard type == 8 || type == 9 else { throw unknownType(type) }
        guard depth < maximumDepth else {
            throw TensorFileError(
                .tooLarge, "The file's metadata has arrays nested over \(maximumDepth) deep.")
        }
        // Each element takes bytes, so that the end of the file ends a count that is a lie.
        var index: UInt64 = 0
        while index < count {
            if type == 8 {
                try cursor.skip(try cursor.number(UInt64.self))
            } else {
                _ = try skipArray(&cursor, depth: depth + 1)
            }
            try checkLength(cursor)
            index += 1
        }
        return count
    }

    private static func alignment(in metadata: [(key: String, value: Value)]) throws -> UInt64 {
        guard let value = metadata.first(where: { $0.key == "general.alignment" })?.value else { return 32 }
        guard case .unsigned(let alignment) = value, alignment.nonzeroBitCount == 1, alignment <= 1 << 31
        else {
            throw TensorFileError(.damaged, "The file is damaged: its alignment is no power of two.")
        }
        return alignment
    }

    // MARK: Tensors

    private struct Info {
        var name: String
        var type: GGMLType
        var shape: [UInt64]
        /// Bytes from the start of the data.
        var offset: UInt64
    }

    private static func infos(_ count: UInt64, _ cursor: inout FileCursor) throws -> [Info] {
        var infos: [Info] = []
        var names: Set<ExactText> = []
        for _ in 0..<count {
            let name = try name(&cursor)
            guard names.insert(ExactText(name)).inserted else {
                throw TensorFileError(
                    .damaged, "The file is damaged: two tensors have the name \(name.quoted).")
            }
            let rank = try cursor.number(UInt32.self)
            guard rank <= maximumRank else {
                throw TensorFileError(
                    .damaged, "The file is damaged: the tensor \(name.quoted) has \(rank) dimensions.")
            }
            var shape: [UInt64] = []
            for _ in 0..<rank { shape.append(try cursor.number(UInt64.self)) }
            let number = try cursor.number(UInt32.self)
            guard let type = GGMLType(number: number) else {
                throw TensorFileError(
                    .unsupported,
                    "The tensor \(name.quoted) has the type \(number) of ggml, which is not known here.")
            }
            infos.append(
                Info(name: name, type: type, shape: shape.reversed(), offset: try cursor.number(UInt64.self)))
        }
        return infos
    }

    /// Checks that each tensor begins at the next multiple of the alignment behind the one before, as ggml does.
    private static func place(
        _ infos: [Info], from start: UInt64, _ alignment: UInt64, _ size: UInt64
    ) throws -> [Tensor] {
        var end: UInt64 = 0
        return try infos.map { info in
            let offset = (end + alignment - 1) / alignment * alignment
            guard info.offset == offset, let length = info.type.byteCount(shape: info.shape) else {
                throw TensorFileError(
                    .damaged,
                    "The file is damaged: the tensor \(info.name.quoted) is not where or as long as it must be."
                )
            }
            guard start <= size, offset <= size - start, length <= size - start - offset else {
                throw TensorFileError(
                    .damaged, "The file is cut off: the tensor \(info.name.quoted) reaches beyond its end.")
            }
            end = offset + length
            return Tensor(
                name: info.name, type: info.type, shape: info.shape, offset: start + offset, length: length)
        }
    }
}
