extension StringProtocol {
    /// For a terminal, on one line: control characters and those that turn the direction of text are
    /// escaped, so that no name in a checkpoint moves the cursor or hides a part of itself.
    var printable: String {
        if isPlain || unicodeScalars.allSatisfy(\.isPrintable) { return String(self) }
        var result = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "\n": result += "\\n"
            case "\t": result += "\\t"
            case "\r": result += "\\r"
            case _ where !scalar.isPrintable: result += "\\u{\(String(scalar.value, radix: 16))}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// The columns that a terminal gives it: two for the characters of East Asia and for emoji.
    var columns: Int { isPlain ? utf8.count : reduce(0) { $0 + $1.columns } }

    /// Printable ASCII alone, as nearly everything is: characters need not be told apart then.
    private var isPlain: Bool { utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7F } }

    /// At most `width` columns, with `…` in the place of what had to go: `model.lay…proj.weight`.
    func shortened(to width: Int, _ place: Shortening) -> String {
        guard columns > width else { return String(self) }
        guard width > 1 else { return width == 1 ? "…" : "" }
        let tail = place == .middle ? width / 2 : 0
        return prefix(columns: width - 1 - tail) + "…" + String(reversedPrefix(columns: tail).reversed())
    }

    private func prefix(columns: Int) -> String { Self.first(columns, of: self) }
    private func reversedPrefix(columns: Int) -> String { Self.first(columns, of: reversed()) }

    private static func first(_ columns: Int, of characters: some Sequence<Character>) -> String {
        var left = columns
        var result = ""
        for character in characters {
            left -= character.columns
            if left < 0 { break }
            result.append(character)
        }
        return result
    }
}

/// Where a text that is too long loses characters.
enum Shortening {
    case middle
    case end
}

extension Character {
    /// By the first scalar, which the marks behind it join.
    fileprivate var columns: Int {
        switch unicodeScalars.first!.value {
        case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF,
            0xFE30...0xFE6F,
            0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x1F680...0x1F6FF, 0x1F900...0x1F9FF,
            0x20000...0x3FFFD:
            2
        case 0x0300...0x036F, 0x200B...0x200F, 0xFE00...0xFE0F: 0
        default: 1
        }
    }
}

extension Unicode.Scalar {
    fileprivate var isPrintable: Bool {
        switch value {
        case 0..<0x20, 0x7F..<0xA0, 0x2028...0x202E, 0x2066...0x2069: false
        default: true
        }
    }
}
