import Foundation
import Testing

extension Weather {
    /// ENOSPC, EIO and short writes at every call.
    @Suite struct FaultTests {
        @Test("A disk that fails at any one call costs at most the command", arguments: Operation.allCases)
        func failingCalls(_ operation: Operation) throws {
            try check(operation, ["enospc", "eio"], .changing)
        }

        @Test("A disk that fails from any call on costs at most the command", arguments: Operation.allCases)
        func failingFromACallOn(_ operation: Operation) throws {
            try check(operation, ["enospc+", "eio+"], .changing, atMost: 10)
        }

        @Test("A write that falls short is continued", arguments: Operation.allCases)
        func shortWrites(_ operation: Operation) throws {
            try check(operation, ["short"], .writing)
        }

        @Test("A disk that can't read costs at most the command", arguments: [Operation.save, .gc, .restore])
        func failingReads(_ operation: Operation) throws {
            try check(operation, ["eio", "short"], .reading, atMost: 12)
        }

        private func check(
            _ operation: Operation, _ kinds: [String], _ calls: Faults.Calls, atMost limit: Int = .max
        ) throws {
            var generator = SeededGenerator(Weather.seed)
            var cases: [Faults] = []
            for kind in kinds {
                let count = try operation.calls(kind, calls).count
                let numbers = Weather.sample(limit, of: count, &generator)
                Weather.note("\(operation) \(kind) \(calls.rawValue): \(numbers.count) of \(count) calls")
                cases += numbers.map { Faults(kind: kind, number: $0, calls: calls, under: []) }
            }
            Weather.forEach(cases) { try operation.check($0) }
        }
    }
}
