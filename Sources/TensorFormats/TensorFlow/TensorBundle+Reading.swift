extension TensorBundle {
    /// Bytes that end each index.
    private static let magic: [UInt8] = [0x57, 0xFB, 0x80, 0x8B, 0x24, 0x75, 0x47, 0xDB]
    /// The two places that stand before the magic number, with what pads them.
    private static let footerLength = 48
    /// Tensors, and bytes of a name and of all names together.
    private static let (maximumCount, maximumNameLength, maximumTotalNameLength) = (1 << 20, 4096, 64 << 20)

    /// Whether a file that ends so is an index.
    public static func ends(_ bytes: some Collection<UInt8>) -> Bool { bytes.suffix(8).elementsEqual(magic) }

    /// - Parameter bytes: the whole file.
    /// - Throws: `TensorFileError` where they are no such file.
    public init(parsing bytes: [UInt8]) throws(TensorFileError) {
        guard bytes.count >= Self.footerLength, Self.ends(bytes) else {
            throw TensorFileError(.otherFormat, "The file does not end as an index of TensorFlow does.")
        }
        do {
            self = try Self.read(bytes)
        } catch let error as TensorFileError {
            throw error
        } catch {
            preconditionFailure("bytes in memory can be read")
        }
    }

    private static func read(_ bytes: [UInt8]) throws -> TensorBundle {
        var cursor = FileCursor(bytes)
        cursor.position = UInt64(bytes.count - footerLength)
        _ = try handle(&cursor, before: bytes.count)
        let index = try handle(&cursor, before: bytes.count)
        var (entries, end) = (Entries(), 0)
        try block(index, bytes) { _, value in
            var cursor = FileCursor(Array(value))
            let range = try handle(&cursor, before: bytes.count)
            // Each once, however often it is named.
            guard range.lowerBound >= end else { throw FileCursor.invalid }
            end = range.upperBound
            try block(range, bytes) { try entries.add($0, $1) }
        }
        guard let count = entries.shardCount else {
            throw TensorFileError(.damaged, "The index is damaged: it says nothing of its data files.")
        }
        return TensorBundle(shardCount: count, tensors: entries.tensors)
    }

    /// Where a block stands.
    private static func handle(_ cursor: inout FileCursor, before end: Int) throws -> Range<Int> {
        let (offset, length) = (try cursor.varint(), try cursor.varint())
        // A byte that says how it is compressed, and a checksum follow each block.
        guard offset <= end, length <= end, offset + length + 5 <= end else {
            throw FileCursor.invalid
        }
        return Int(offset)..<Int(offset + length)
    }

    /// Goes through the entries of a block, each with its key and value.
    private static func block(
        _ range: Range<Int>, _ bytes: [UInt8], _ body: ([UInt8], ArraySlice<UInt8>) throws -> Void
    ) throws {
        guard bytes[range.upperBound] == 0 else {
            throw TensorFileError(
                .compressed, "The index is compressed, which TensorFlow itself does not do.")
        }
        guard range.count >= 4 else { throw FileCursor.invalid }
        let restarts = UInt64(bytes.number(UInt32.self, at: range.upperBound - 4))
        guard restarts <= UInt64(range.count / 4 - 1) else { throw FileCursor.invalid }
        let block = Array(bytes[range.lowerBound..<range.upperBound - 4 - Int(restarts) * 4])
        var cursor = FileCursor(block)
        var key: [UInt8] = []
        while cursor.position < cursor.end {
            let (shared, own, length) = (try cursor.varint(), try cursor.varint(), try cursor.varint())
            guard shared <= UInt64(key.count), own <= UInt64(maximumNameLength),
                length <= UInt64(block.count),
                shared + own <= UInt64(maximumNameLength)
            else { throw FileCursor.invalid }
            key.removeSubrange(Int(shared)...)
            key += try cursor.bytes(Int(own))
            try body(key, try cursor.bytes(Int(length)))
        }
    }

    /// What has been read of the table.
    private struct Entries {
        var shardCount: UInt64?
        var tensors: [Tensor] = []
        private var nameLength = 0

        mutating func add(_ key: [UInt8], _ value: ArraySlice<UInt8>) throws {
            guard !key.isEmpty else { return try header(value) }
            var tensor = Tensor(
                name: String(decoding: key, as: UTF8.self), dtype: nil, shape: [], shard: 0, offset: 0,
                length: 0)
            var cursor = FileCursor(Array(value))
            try cursor.message(0..<cursor.end) { cursor, number, field in
                switch (number, field) {
                case (1, .varint(let type)): tensor.dtype = TensorBundle.dtypes[type]
                case (2, .bytes(let range)): tensor.shape = try TensorBundle.shape(&cursor, range)
                case (3, .varint(let shard)): tensor.shard = shard
                case (4, .varint(let offset)): tensor.offset = offset
                case (5, .varint(let length)): tensor.length = length
                default: break
                }
            }
            nameLength += key.count
            guard tensors.count < maximumCount, nameLength <= maximumTotalNameLength else {
                throw TensorFileError(.tooLarge, "The index has over a million tensors, or very long names.")
            }
            guard tensor.offset <= UInt64(Int64.max), tensor.length <= UInt64(Int64.max) else {
                throw FileCursor.invalid
            }
            tensors.append(tensor)
        }

        private mutating func header(_ value: ArraySlice<UInt8>) throws {
            var (count, isBig): (UInt64, Bool) = (0, false)
            var cursor = FileCursor(Array(value))
            try cursor.message(0..<cursor.end) { _, number, field in
                switch (number, field) {
                case (1, .varint(let shards)): count = shards
                case (2, .varint(let order)): isBig = order == 1
                default: break
                }
            }
            guard !isBig else {
                throw TensorFileError(.byteOrder, "The numbers in the checkpoint are big endian.")
            }
            shardCount = count
        }
    }

    private static func shape(_ cursor: inout FileCursor, _ range: Range<UInt64>) throws -> [UInt64] {
        var shape: [UInt64] = []
        try cursor.message(range) { cursor, number, field in
            guard number == 2, case .bytes(let range) = field else { return }
            var size: UInt64 = 0
            try cursor.message(range) { _, number, field in
                if number == 1, case .varint(let value) = field { size = value }
            }
            shape.append(size)
        }
        return shape
    }

    /// (tensorflow, `types.proto`)
    private static let dtypes: [UInt64: String] = [
        1: "F32", 2: "F64", 3: "I32", 4: "U8", 5: "I16", 6: "I8", 8: "C64", 9: "I64", 10: "BOOL", 14: "BF16",
        17: "U16",
        18: "C128", 19: "F16", 22: "U32", 23: "U64", 24: "F8_E5M2", 25: "F8_E4M3",
    ]
}
