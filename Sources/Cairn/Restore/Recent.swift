internal import Platform

/// What was read, kept within a limit of memory for when it is asked for again.
final class Recent<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private struct State {
        var values: [Key: (value: Value, lastUse: Int)] = [:]
        var uses = 0
        var bytes = 0
    }

    private let limit: Int
    private let size: @Sendable (Value) -> Int
    private let state = Monitor(State())

    /// - Parameters:
    ///   - limit: bytes of memory for what is kept.
    ///   - size: of a value, in bytes.
    init(limit: Int, size: @escaping @Sendable (Value) -> Int) {
        self.limit = limit
        self.size = size
    }

    /// A value that was read before, or is read now; by several threads at the same time where they come together.
    func value(for key: Key, _ read: () throws -> Value) rethrows -> Value {
        let known = state.change { state in
            state.uses += 1
            state.values[key]?.lastUse = state.uses
            return state.values[key]?.value
        }
        if let known { return known }
        let value = try read()
        state.change { state in
            if state.values.updateValue((value, state.uses), forKey: key) == nil {
                state.bytes += size(value)
            }
            if state.bytes > limit { dropOldest(&state) }
        }
        return value
    }

    /// The half that was not used for the longest time.
    private func dropOldest(_ state: inout State) {
        let byUse = state.values.sorted { $0.value.lastUse < $1.value.lastUse }
        for (key, entry) in byUse.prefix((byUse.count + 1) / 2) {
            state.values[key] = nil
            state.bytes -= size(entry.value)
        }
    }
}
