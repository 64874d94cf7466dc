/// A path as the bytes that Linux keeps: any bytes but zero, so not always UTF-8.
public struct Path: Hashable, Sendable, Comparable, CustomStringConvertible {
    public let bytes: [UInt8]

    public init(_ bytes: [UInt8]) { self.bytes = bytes }
    public init(_ text: String) { bytes = [UInt8](text.utf8) }

    /// This path and one more component (or several, joined by `/`).
    public func appending(_ component: some Collection<UInt8>) -> Path {
        if component.isEmpty { return self }
        if bytes.isEmpty || bytes.last == UInt8(ascii: "/") { return Path(bytes + component) }
        return Path(bytes + [UInt8(ascii: "/")] + component)
    }

    public func appending(_ component: String) -> Path { appending(component.utf8) }

    /// The last component; empty for `/`.
    public var name: [UInt8] {
        let trimmed = withoutTrailingSlashes
        guard let slash = trimmed.lastIndex(of: UInt8(ascii: "/")) else { return trimmed }
        return [UInt8](trimmed[(slash + 1)...])
    }

    /// What follows the last dot of the name; empty where there is none.
    public var fileExtension: String {
        let name = name
        guard let dot = name.lastIndex(of: UInt8(ascii: ".")), dot > 0 else { return "" }
        return String(decoding: name[(dot + 1)...], as: UTF8.self)
    }

    /// Everything before the last component: `.` for a single name, `/` for what is at the top.
    public var parent: Path {
        let trimmed = withoutTrailingSlashes
        guard let slash = trimmed.lastIndex(of: UInt8(ascii: "/")) else { return Path(".") }
        return slash == 0 ? Path("/") : Path([UInt8](trimmed[..<slash]))
    }

    /// Whether it is `other` or a folder above it, by their bytes alone; both absolute and without links.
    public func contains(_ other: Path) -> Bool {
        other == self || bytes == [UInt8(ascii: "/")] || other.bytes.starts(with: bytes + [UInt8(ascii: "/")])
    }

    /// For people: UTF-8 as it is; control characters and other bytes escaped.
    public var text: String { Self.text(of: bytes) }

    public var description: String { text }

    public static func < (a: Path, b: Path) -> Bool { a.bytes.lexicographicallyPrecedes(b.bytes) }

    /// Bytes of a name or path for people: UTF-8 as it is; control characters and other bytes escaped.
    public static func text(of bytes: [UInt8]) -> String {
        if let text = String(validating: bytes, as: UTF8.self),
            !text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F })
        {
            return text
        }
        var result = ""
        for byte in bytes {
            switch byte {
            case UInt8(ascii: "\n"): result += "\\n"
            case UInt8(ascii: "\t"): result += "\\t"
            case 0x20..<0x7F: result.unicodeScalars.append(Unicode.Scalar(byte))
            default: result += "\\x" + [byte].hex
            }
        }
        return result
    }

    public var withoutTrailingSlashes: [UInt8] {
        var trimmed = bytes
        while trimmed.count > 1, trimmed.last == UInt8(ascii: "/") { trimmed.removeLast() }
        return trimmed
    }

    public func withCString<R>(_ body: (UnsafePointer<CChar>) throws -> R) rethrows -> R {
        var zeroTerminated = bytes.map { CChar(bitPattern: $0) }
        zeroTerminated.append(0)
        return try zeroTerminated.withUnsafeBufferPointer { try body($0.baseAddress!) }
    }
}
