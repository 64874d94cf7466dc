/// Text that is equal when its UTF-8 bytes are.
///
/// `String` compares by canonical equivalence: an e with an acute accent equals an e and a combining accent, and the
/// Kelvin sign equals K. In files these are different names, and a checkpoint may well hold both.
public struct ExactText: Hashable, Sendable {
    public let text: String

    public init(_ text: String) { self.text = text }

    public static func == (a: ExactText, b: ExactText) -> Bool { a.text.hasSameBytes(as: b.text) }

    public func hash(into hasher: inout Hasher) {
        var text = text
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}

extension String {
    /// Whether the UTF-8 is the same, byte for byte.
    func hasSameBytes(as other: String) -> Bool {
        // Same length and canonically equal is cheap to ask and nearly always decides: only text outside ASCII can
        // be equal without having the same bytes.
        utf8.count == other.utf8.count && self == other && utf8.elementsEqual(other.utf8)
    }

    /// The order of the UTF-8 bytes, which is also the order of the code points: Rust's and Python's order.
    func precedesByBytes(_ other: String) -> Bool {
        let (a, b) = (utf8.span, other.utf8.span)
        let shared = min(a.count, b.count)
        var index = 0
        while index < shared {
            if a[index] != b[index] { return a[index] < b[index] }
            index += 1
        }
        return a.count < b.count
    }

    /// The name for a sentence: quoted, escaped and not too long.
    var quoted: String {
        var text: [UInt8] = []
        text.appendJSONString(count > 200 ? prefix(200) + "..." : self, asciiOnly: false)
        return String(decoding: text, as: UTF8.self)
    }
}
