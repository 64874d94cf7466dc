/// A pattern over paths: `*` and `?` within a component, `**` across them.
struct Glob {
    private let pattern: [UInt8]

    init(_ pattern: String) { self.pattern = [UInt8](pattern.utf8) }

    /// Whether it matches the path, or a folder above it.
    func matches(_ path: [UInt8]) -> Bool {
        if Self.matches(pattern[...], path[...]) { return true }
        return path.indices.contains {
            path[$0] == UInt8(ascii: "/") && Self.matches(pattern[...], path[..<$0])
        }
    }

    /// One step of the pattern after the other, over the set of places in the text that it can have reached.
    private static func matches(_ pattern: ArraySlice<UInt8>, _ text: ArraySlice<UInt8>) -> Bool {
        let slash = UInt8(ascii: "/")
        var reached = [Bool](repeating: false, count: text.count + 1)
        reached[0] = true
        var rest = pattern
        while let step = rest.popFirst() {
            var next = [Bool](repeating: false, count: text.count + 1)
            if step == UInt8(ascii: "*") {
                let crosses = rest.first == step
                if crosses { rest.removeFirst() }
                var isOpen = false
                for (index, byte) in text.enumerated() {
                    isOpen = isOpen || reached[index]
                    next[index] = isOpen
                    if byte == slash, !crosses { isOpen = false }
                }
                next[text.count] = isOpen || reached[text.count]
            } else {
                for (index, byte) in text.enumerated() where reached[index] {
                    next[index + 1] = byte == step || (step == UInt8(ascii: "?") && byte != slash)
                }
            }
            reached = next
        }
        return reached[text.count]
    }
}
