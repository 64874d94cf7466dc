/// Where relative paths lead, by their text alone.
enum SafePath {
    /// Whether a link at `path`, below a root, may lead out of that root: its target is absolute, or has more `..` than there are
    /// folders above, or a `..` behind another link, since where that leads is not in the text.
    ///
    /// - Parameter isLink: whether a path below the root is a link.
    static func leaves(_ target: [UInt8], from path: [UInt8], isLink: ([UInt8]) -> Bool) -> Bool {
        let slash = UInt8(ascii: "/")
        if target.first == slash { return true }
        var folders = path.split(separator: slash).dropLast()
        var isBehindLink = false
        for part in target.split(separator: slash) {
            if part.elementsEqual("..".utf8) {
                if isBehindLink || folders.popLast() == nil { return true }
            } else if !part.elementsEqual(".".utf8) {
                folders.append(part)
                isBehindLink = isBehindLink || isLink([UInt8](folders.joined(separator: [slash])))
            }
        }
        return false
    }
}
