extension StringProtocol {
    /// Without white space of ASCII around it.
    var trimmed: String {
        let isSpace = { (byte: UInt8) in byte == 0x20 || (0x09...0x0D).contains(byte) }
        let text = utf8.drop(while: isSpace)
        return String(decoding: Array(text.reversed().drop(while: isSpace).reversed()), as: UTF8.self)
    }

    /// What stands before the last place at which a text occurs; nil where it does not.
    func before(last text: String) -> String? {
        let (bytes, wanted) = (Array(utf8), Array(text.utf8))
        guard bytes.count >= wanted.count else { return nil }
        for start in stride(from: bytes.count - wanted.count, through: 0, by: -1)
        where bytes[start...].starts(with: wanted) {
            return String(decoding: bytes[..<start], as: UTF8.self)
        }
        return nil
    }
}
