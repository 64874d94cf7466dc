/// Where relative paths lead, by their text alone.
enum SafePath {
    /// Whether a link at `path`, below a root, leads out of that root: its target is absolute, or has more `..` than there are
    /// folders above the link.
    static func leaves(_ target: [UInt8], from path: [UInt8]) -> Bool {
        if target.first == UInt8(ascii: "/") { return true }
        var depth = path.split(separator: UInt8(ascii: "/")).count - 1
        for part in target.split(separator: UInt8(ascii: "/")) {
            if part.elementsEqual("..".utf8) {
                depth -= 1
                if depth < 0 { return true }
            } else if !part.elementsEqual(".".utf8) {
                depth += 1
            }
        }
        return false
    }
}
