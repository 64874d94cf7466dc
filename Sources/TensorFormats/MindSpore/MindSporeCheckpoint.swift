/// The tensors of a checkpoint of MindSpore: a protobuf message `Checkpoint`, whose values are tensors, map tensors
/// and texts. (mindspore, `checkpoint.proto` and `train/serialization.py`)
struct MindSporeCheckpoint {
    /// One of the messages that hold a tensor: all of a tensor, or a piece of one that is too large for a message.
    struct Piece {
        /// As MindSpore calls it, such as `Float32`; in a map tensor as NumPy does.
        var type: String
        /// Of the whole tensor, as the file has it.
        var shape: [UInt64]
        /// Where its bytes stand.
        var content: Range<UInt64>

        var length: UInt64 { content.upperBound - content.lowerBound }
    }

    /// A value of the checkpoint: consecutive messages of one name.
    struct Entry {
        var name: String
        var pieces: [Piece]
        /// Whether the pieces are slices of a map tensor, each of its own shape.
        var isMap = false
    }

    /// In the order of the file.
    private(set) var entries: [Entry] = []

    private var pieceCount = 0
    private var nameLength = 0

    /// Tensors and pieces that a file may have, bytes of a name, and of all names together.
    private static let maximumCount = 1 << 20
    private static let maximumNameLength: UInt64 = 4096
    private static let maximumTotalNameLength = 64 << 20
    /// Dimensions of a tensor.
    private static let maximumRank = 64
    /// What stands behind the messages where a checksum was asked for, before its ten bytes.
    private static let checksumMark = Array("crc_num".utf8)

    /// What a file is that begins so.
    enum Kind {
        case plain
        case encrypted
    }

    /// - Parameter prefix: the first 16 bytes, or all of a shorter file.
    /// - Returns: nil where it is no checkpoint of MindSpore.
    static func kind(_ prefix: [UInt8]) -> Kind? {
        if prefix.count >= 4, (0x7F3A_5ED8...0x7F3A_5EDA).contains(prefix.number(UInt32.self, at: 0)) {
            return .encrypted
        }
        // The key of a value, its length, and the key of its name.
        guard prefix.first == 0x0A, let end = prefix.dropFirst().firstIndex(where: { $0 < 0x80 }), end <= 10
        else { return nil }
        return end + 1 < prefix.count && prefix[end + 1] == 0x0A ? .plain : nil
    }

    /// Reads the messages, but no tensor's bytes.
    init(size: UInt64, read: @escaping (Range<UInt64>) throws -> [UInt8]) throws {
        switch Self.kind(try readExactly(0..<min(size, 16), read)) {
        case .plain: break
        case .encrypted: throw TensorFileError(.encrypted, "The file is encrypted by MindSpore.")
        case nil:
            throw TensorFileError(.otherFormat, "The file does not begin as a checkpoint of MindSpore.")
        }
        var end = size
        let tailLength = UInt64(Self.checksumMark.count + 10)
        if size >= tailLength,
            try readExactly(size - tailLength..<size, read).starts(with: Self.checksumMark)
        {
            end -= tailLength
        }
        var cursor = FileCursor(0..<end, windowLength: 1024, read: read)
        try cursor.message(0..<end) { cursor, number, field in
            guard number == 1, case .bytes(let range) = field else { throw FileCursor.invalid }
            try add(try Self.value(&cursor, range))
        }
    }

    private mutating func add(_ entry: Entry) throws {
        if let last = entries.last, last.name.hasSameBytes(as: entry.name), last.isMap == entry.isMap {
            entries[entries.count - 1].pieces += entry.pieces
        } else {
            entries.append(entry)
        }
        pieceCount += entry.pieces.count
        nameLength += entry.name.utf8.count
        guard pieceCount <= Self.maximumCount, nameLength <= Self.maximumTotalNameLength else {
            throw TensorFileError(.tooLarge, "The file has over a million tensors, or very long names.")
        }
    }

    private static func value(_ cursor: inout FileCursor, _ range: Range<UInt64>) throws -> Entry {
        var name: String?
        var pieces: [Piece]?
        var isMap = false
        try cursor.message(range) { cursor, number, field in
            switch (number, field) {
            case (1, _) where name == nil: name = try cursor.text(field, maximumLength: maximumNameLength)
            case (2, .bytes(let range)) where pieces == nil: pieces = [try tensor(&cursor, range)]
            case (3, .bytes(let range)) where pieces == nil:
                (pieces, isMap) = (try mapTensor(&cursor, range), true)
            default: throw FileCursor.invalid
            }
        }
        guard let name, let pieces else { throw FileCursor.invalid }
        return Entry(name: name, pieces: pieces, isMap: isMap)
    }

    private static func tensor(_ cursor: inout FileCursor, _ range: Range<UInt64>) throws -> Piece {
        var (type, shape, content): (String?, [UInt64], Range<UInt64>?) = (nil, [], nil)
        try cursor.message(range) { cursor, number, field in
            switch (number, field) {
            case (1, _): try cursor.append(field, to: &shape, maximumCount: maximumRank)
            case (2, _) where type == nil: type = try cursor.text(field, maximumLength: 64)
            case (3, .bytes(let range)) where content == nil: content = range
            default: throw FileCursor.invalid
            }
        }
        guard let type, let content else { throw FileCursor.invalid }
        return Piece(type: type, shape: shape, content: content)
    }

    /// Keys, values and states of a map: a slice of each.
    private static func mapTensor(_ cursor: inout FileCursor, _ range: Range<UInt64>) throws -> [Piece] {
        var pieces: [Piece] = []
        try cursor.message(range) { cursor, number, field in
            guard number == 1, case .bytes(let range) = field, pieces.count < 3 else {
                throw FileCursor.invalid
            }
            pieces.append(try tensor(&cursor, range))
        }
        guard pieces.count == 3 else { throw FileCursor.invalid }
        return pieces
    }
}
