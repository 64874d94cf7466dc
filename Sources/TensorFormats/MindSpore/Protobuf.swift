/// A field of a protobuf message as it stands in a file.
enum ProtobufField {
    case varint(UInt64)
    /// Bytes, a text, or a message: where they stand.
    case bytes(Range<UInt64>)
    /// A number of 4 or 8 bytes, which nothing here has.
    case fixed
}

extension FileCursor {
    /// Goes through the fields of a message.
    ///
    /// - Parameters:
    ///   - range: where the message stands.
    ///   - body: takes each field with its number. It may move the cursor.
    mutating func message(
        _ range: Range<UInt64>, _ body: (inout FileCursor, UInt64, ProtobufField) throws -> Void
    ) throws {
        position = range.lowerBound
        while position < range.upperBound {
            let (number, field) = try field(before: range.upperBound)
            let next = position
            try body(&self, number, field)
            position = next
        }
    }

    /// The next field; what it holds is passed over.
    mutating func field(before limit: UInt64) throws -> (number: UInt64, field: ProtobufField) {
        let key = try varint()
        let field: ProtobufField
        switch key & 7 {
        case 0: field = .varint(try varint())
        case 1, 5:
            try skip(key & 7 == 1 ? 8 : 4)
            field = .fixed
        case 2:
            let length = try varint()
            let start = position
            try skip(length)
            field = .bytes(start..<position)
        default: throw Self.invalid
        }
        guard position <= limit, key >> 3 > 0 else { throw Self.invalid }
        return (key >> 3, field)
    }

    mutating func varint() throws -> UInt64 {
        var value: UInt64 = 0
        for shift in stride(from: 0 as UInt64, to: 70, by: 7) {
            let byte = try number(UInt8.self)
            value |= UInt64(byte & 0x7F) << shift
            if byte & 0x80 == 0 { return value }
        }
        throw Self.invalid
    }

    /// A text of at most so many bytes.
    mutating func text(_ field: ProtobufField, maximumLength: UInt64) throws -> String {
        guard case .bytes(let range) = field, range.upperBound - range.lowerBound <= maximumLength else {
            throw Self.invalid
        }
        position = range.lowerBound
        let bytes = try bytes(Int(range.upperBound - range.lowerBound))
        guard let text = String(validating: bytes, as: UTF8.self) else { throw Self.invalid }
        return text
    }

    /// Adds the numbers of a repeated field: one, or several that are packed.
    mutating func append(_ field: ProtobufField, to numbers: inout [UInt64], maximumCount: Int) throws {
        switch field {
        case .varint(let number): numbers.append(number)
        case .bytes(let range) where !range.isEmpty:
            position = range.lowerBound
            while position < range.upperBound {
                numbers.append(try varint())
                guard numbers.count <= maximumCount else { throw Self.invalid }
            }
            guard position == range.upperBound else { throw Self.invalid }
        default: throw Self.invalid
        }
        guard numbers.count <= maximumCount else { throw Self.invalid }
    }

    static let invalid = TensorFileError(.damaged, "The file is damaged: it holds what is no valid message.")
}
