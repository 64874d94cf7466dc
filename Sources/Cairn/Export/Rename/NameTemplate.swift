internal import _StringProcessing

/// A name with places that a match fills: `model.layers.{1}.mlp.down_proj.weight`.
///
/// `{1}` stands for the first group of the regular expression, `{layer}` for a group of that name or a number that was counted;
/// `{{` and `}}` for braces.
struct NameTemplate: Sendable {
    struct Fault: Error {
        /// As the middle of a sentence.
        var message: String
    }

    private enum Piece {
        case text(String)
        case group(Int)
        case named(String)
    }

    private let pieces: [Piece]

    init(_ template: String) throws(Fault) {
        var pieces: [Piece] = []
        var text = ""
        var rest = template[...]
        while let first = rest.popFirst() {
            if first == "{" || first == "}", rest.first == first {
                rest.removeFirst()
                text.append(first)
            } else if first == "{", let end = rest.firstIndex(of: "}"), end > rest.startIndex {
                if !text.isEmpty { pieces.append(.text(text)) }
                text = ""
                let name = String(rest[..<end])
                pieces.append(Int(name).map { .group($0) } ?? .named(name))
                rest = rest[rest.index(after: end)...]
            } else if first == "{" || first == "}" {
                throw Fault(
                    message: "'\(template)' has a brace that is not closed; write {{ or }} for one in a name")
            } else {
                text.append(first)
            }
        }
        if !text.isEmpty { pieces.append(.text(text)) }
        self.pieces = pieces
    }

    /// - Parameter counted: the numbers of axes that were taken apart, by the names of these.
    func filled(
        _ match: Regex<AnyRegexOutput>.Match, _ counted: [String: UInt64]
    ) throws(Fault) -> String {
        var name = ""
        for piece in pieces {
            switch piece {
            case .text(let text): name += text
            case .group(let number):
                guard number > 0, number < match.count else {
                    throw Fault(
                        message: "{\(number)} stands for no group, as the expression has \(match.count - 1)")
                }
                name += match[number].substring ?? ""
            case .named(let word):
                if let number = counted[word] {
                    name += String(number)
                } else if let group = match[word] {
                    name += group.substring ?? ""
                } else {
                    throw Fault(message: "{\(word)} stands for nothing")
                }
            }
        }
        return name
    }
}
