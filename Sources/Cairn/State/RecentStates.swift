internal import ChunkStore
internal import Platform

/// What the last saves from memory committed: by that, the next ones see whether bytes that are still in memory are those of the iteration
/// that they are compared with.
final class RecentStates: Sendable {
    /// Saves that are remembered: those of a few runs at a time.
    private static let limit = 8

    private let states = Monitor<[(id: String, roots: Roots)]>([])

    func remember(_ id: String, _ roots: Roots) {
        states.change { states in
            states.removeAll { $0.id == id }
            states.append((id, roots))
            if states.count > Self.limit { states.removeFirst() }
        }
    }

    /// - Parameter id: of a save's result.
    func roots(of id: String) -> Roots? { states.change { $0.last { $0.id == id }?.roots } }
}
