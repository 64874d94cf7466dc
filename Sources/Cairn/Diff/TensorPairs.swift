internal import TensorFormats

/// Which tensors of two iterations are each other's counterparts: those of one name.
///
/// Files of several ranks have tensors of the same names. Of those, the ones go together that are both whole, or lie in files of the same
/// path; and of what is left, the first with the first.
struct TensorPairs {
    /// By their places on either side, in the order of the names.
    private(set) var pairs: [(before: Int, after: Int)] = []
    private(set) var removed: [Int] = []
    private(set) var added: [Int] = []

    init(_ before: [TensorInfo], _ after: [TensorInfo]) {
        let olds = Dictionary(grouping: before.indices) { ExactText(before[$0].name) }
        let news = Dictionary(grouping: after.indices) { ExactText(after[$0].name) }
        for (name, places) in news {
            var left = olds[name] ?? []
            var unmatched: [Int] = []
            for place in places {
                if let match = left.firstIndex(where: { before[$0].file == after[place].file }) {
                    pairs.append((left.remove(at: match), place))
                } else {
                    unmatched.append(place)
                }
            }
            pairs += zip(left, unmatched).map { (before: $0, after: $1) }
            removed += left.dropFirst(unmatched.count)
            added += unmatched.dropFirst(left.count)
        }
        for (name, places) in olds where news[name] == nil { removed += places }
        pairs.sort { (after[$0.after].name, $0.after) < (after[$1.after].name, $1.after) }
        removed.sort { (before[$0].name, $0) < (before[$1].name, $1) }
        added.sort { (after[$0].name, $0) < (after[$1].name, $1) }
    }
}
