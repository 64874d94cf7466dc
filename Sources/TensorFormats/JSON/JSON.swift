/// A JSON value. Objects keep the order of their members, and integers keep all 64 bits.
public enum JSON: Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    /// An integer above `Int64.max`, and only that: smaller ones are `integer`.
    case unsigned(UInt64)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([Member])

    /// One `"key": value` of an object.
    public struct Member: Sendable, Equatable {
        public var key: String
        public var value: JSON

        public init(_ key: String, _ value: JSON) {
            self.key = key
            self.value = value
        }

        public static func == (a: Member, b: Member) -> Bool {
            a.key.hasSameBytes(as: b.key) && a.value == b.value
        }
    }
}

extension JSON: Equatable {
    /// The same kind, the same text byte for byte, and members in the same order. NaN differs from itself, and the
    /// integer 1 from the number 1.0.
    public static func == (a: JSON, b: JSON) -> Bool {
        switch (a, b) {
        case (.null, .null): true
        case (.bool(let a), .bool(let b)): a == b
        case (.integer(let a), .integer(let b)): a == b
        case (.unsigned(let a), .unsigned(let b)): a == b
        case (.number(let a), .number(let b)): a == b
        case (.string(let a), .string(let b)): a.hasSameBytes(as: b)
        case (.array(let a), .array(let b)): a == b
        case (.object(let a), .object(let b)): a == b
        default: false
        }
    }
}

extension JSON {
    /// An integer of any sign, as `integer` or, above `Int64.max`, as `unsigned`.
    public init(_ value: some BinaryInteger) {
        if let value = Int64(exactly: value) {
            self = .integer(value)
        } else {
            self = .unsigned(UInt64(value))
        }
    }

    public init(_ value: String) { self = .string(value) }
    public init(_ value: Double) { self = .number(value) }
    public init(_ value: Bool) { self = .bool(value) }

    /// The member of that name, of several the last; nil where there is none or this is not an object.
    public subscript(key: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.last { $0.key.hasSameBytes(as: key) }?.value
    }

    public var stringValue: String? {
        if case .string(let value) = self { value } else { nil }
    }

    public var bool: Bool? {
        if case .bool(let value) = self { value } else { nil }
    }

    /// An integer that fits, also where it is written as a number, such as 1.0 or 1e3.
    public var int: Int? {
        switch self {
        case .integer(let value): Int(exactly: value)
        // Not `Int(exactly:)`: that rounds with libm, which nothing in this module links.
        case .number(let value) where value.magnitude < 0x1p63 && Double(Int(value)) == value:
            Int(value)
        default: nil
        }
    }

    public var uint64: UInt64? {
        switch self {
        case .integer(let value): UInt64(exactly: value)
        case .unsigned(let value): value
        default: nil
        }
    }

    /// Any number, rounded to the nearest double.
    public var double: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .unsigned(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }

    public var array: [JSON]? {
        if case .array(let values) = self { values } else { nil }
    }

    public var members: [Member]? {
        if case .object(let members) = self { members } else { nil }
    }

    public var isNull: Bool {
        if case .null = self { true } else { false }
    }
}

/// Text that is not JSON.
public struct JSONError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Where it goes wrong, counted in bytes from the start of what was given.
    public let offset: Int
    /// What is wrong, as the middle of a sentence: `expected a colon after the key`.
    public let message: String

    public var description: String { "\(message), at byte \(offset)" }
}
