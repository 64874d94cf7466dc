import Dispatch
import Foundation
import Synchronization
import Testing

/// Bad weather for the program `cairn` as a whole: each test runs it as child processes on stores of their own.
///
/// One test at a time, as each keeps all processors busy. `CAIRN_TEST_LONG=1` runs the full counts, `CAIRN_TEST_SEED`
/// repeats a run.
@Suite(.serialized)
enum Weather {
    static let isLong = ProcessInfo.processInfo.environment["CAIRN_TEST_LONG"] == "1"

    static let seed: UInt64 = {
        let given = ProcessInfo.processInfo.environment["CAIRN_TEST_SEED"].flatMap { UInt64($0) }
        let seed = given ?? (isLong ? UInt64.random(in: 0..<1_000_000) : 20)
        print("weather: CAIRN_TEST_SEED=\(seed)")
        return seed
    }()

    /// Where the test program and what was built beside it lie.
    private static let products: String = {
        let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return (program as NSString).deletingLastPathComponent
    }()

    static let program =
        ProcessInfo.processInfo.environment["CAIRN"].map {
            URL(fileURLWithPath: $0).path
        } ?? products + "/cairn"

    static let faultLibrary = products + "/libCFaults.so"

    /// A folder for this process, removed when it ends.
    static let folder: String = {
        let path = FileManager.default.temporaryDirectory.path + "/cairn-weather-\(getpid())"
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        chmod(path, 0o755)
        atexit {
            guard let program = try? Child(["chmod", "-R", "u+rwX", Weather.folder]) else { return }
            _ = try? program.wait()
            try? FileManager.default.removeItem(atPath: Weather.folder)
        }
        return path
    }()

    static func note(_ sentence: String) { print("weather: \(sentence)") }

    /// `count` of the numbers `1...limit`: all of them in the long form or where there are no more.
    static func sample(_ count: Int, of limit: Int, _ generator: inout SeededGenerator) -> [Int] {
        guard !isLong, count < limit else { return limit > 0 ? [Int](1...limit) : [] }
        return [Int]((1...limit).shuffled(using: &generator).prefix(count)).sorted()
    }

    /// Runs `body` for each case, on all processors, and records every failure with its case.
    static func forEach<Case: Sendable>(
        _ cases: [Case], sourceLocation: SourceLocation = #_sourceLocation,
        _ body: @Sendable (Case) throws -> Void
    ) {
        let failures = Mutex<[String]>([])
        DispatchQueue.concurrentPerform(iterations: cases.count) { index in
            do {
                try body(cases[index])
            } catch {
                failures.withLock { $0.append("\(cases[index]): \(error)") }
            }
        }
        for failure in failures.withLock({ $0 }) {
            Issue.record("\(failure) (CAIRN_TEST_SEED=\(seed))", sourceLocation: sourceLocation)
        }
    }
}

/// SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(count + 8)
        while result.count < count { withUnsafeBytes(of: next()) { result.append(contentsOf: $0) } }
        result.removeLast(result.count - count)
        return result
    }
}
