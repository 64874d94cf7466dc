/// Rows in aligned columns that fit the terminal.
struct Table {
    struct Column {
        var title: String
        var alignsRight: Bool
        /// The fewest columns of the terminal that it can shrink to; nil: it never shrinks.
        var minimum: Int?
        var shortening: Shortening

        /// A column of text that may be shortened where the terminal is too narrow.
        static func text(_ title: String, minimum: Int? = nil, _ shortening: Shortening = .middle) -> Column {
            Column(title: title, alignsRight: false, minimum: minimum, shortening: shortening)
        }

        /// A column of numbers, which are never shortened.
        static func number(_ title: String) -> Column {
            Column(title: title, alignsRight: true, minimum: nil, shortening: .end)
        }
    }

    private static let gap = 2

    private let columns: [Column]
    private var rows: [[String]] = []

    init(_ columns: [Column]) { self.columns = columns }

    /// - Precondition: a cell for each column.
    mutating func add(_ cells: [String]) {
        precondition(cells.count == columns.count)
        rows.append(cells.map(\.printable))
    }

    /// The lines, joined. A column of text with nothing in it is left out.
    func text(_ style: Style) -> String {
        let shown = columns.indices.filter { index in
            columns[index].alignsRight || rows.contains { !$0[index].isEmpty }
        }
        let titles = columns.map(\.title)
        let widths = fittingWidths(shown, titles, style)
        return ([titles] + rows).map { cells in line(shown.map { ($0, cells[$0]) }, widths, style) }
            .joined(separator: "\n")
    }

    private func line(_ cells: [(index: Int, text: String)], _ widths: [Int: Int], _ style: Style) -> String {
        var line = ""
        for (position, cell) in cells.enumerated() {
            let width = widths[cell.index]!
            let text = cell.text.shortened(to: width, columns[cell.index].shortening)
            let padding = String(repeating: " ", count: width - text.columns)
            if position > 0 { line += String(repeating: " ", count: Self.gap) }
            line += columns[cell.index].alignsRight ? padding + text : text + padding
        }
        while line.last == " " { line.removeLast() }
        return style.width.map { line.shortened(to: $0, .end) } ?? line
    }

    /// Natural widths, then the widest column that can shrink gives way until all fit.
    private func fittingWidths(_ shown: [Int], _ titles: [String], _ style: Style) -> [Int: Int] {
        var widths: [Int: Int] = [:]
        for index in shown {
            widths[index] = rows.reduce(titles[index].columns) { max($0, $1[index].columns) }
        }
        guard let limit = style.width else { return widths }
        var excess = widths.values.reduce(0, +) + Self.gap * (shown.count - 1) - limit
        while excess > 0 {
            let shrinkable = shown.filter {
                widths[$0]! > max(columns[$0].minimum ?? .max, titles[$0].columns)
            }
            guard let widest = shrinkable.max(by: { widths[$0]! < widths[$1]! }) else { break }
            widths[widest]! -= 1
            excess -= 1
        }
        return widths
    }
}

/// Names and values in two columns; values without a name continue the one above.
struct Fields {
    private var lines: [(name: String, value: String)] = []

    /// Nothing is added for an empty value.
    mutating func add(_ name: String, _ value: String) {
        if !value.isEmpty { lines.append((name, value.printable)) }
    }

    var text: String {
        let width = lines.map(\.name.columns).max() ?? 0
        return lines.map { line in
            line.name + String(repeating: " ", count: width - line.name.columns + 2) + line.value
        }.joined(separator: "\n")
    }
}
