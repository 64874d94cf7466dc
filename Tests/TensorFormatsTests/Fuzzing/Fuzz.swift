import Foundation
import Testing

@testable import TensorFormats

/// Damaged files, thousands a second: never a crash, never a hang, and never an answer that the file does not bear out.
enum Fuzz {
    /// Whether the environment has `CAIRN_TEST_LONG=1`.
    static let isLong = ProcessInfo.processInfo.environment["CAIRN_TEST_LONG"] == "1"

    /// How long each format is tried, in seconds.
    private static let seconds = isLong ? 600 : 20

    /// The seed of the first attempt; each has the next. The short form tries the same each time.
    private static let seed =
        ProcessInfo.processInfo.environment["CAIRN_TEST_SEED"].flatMap { UInt64($0) }
        ?? (isLong ? UInt64.random(in: 0..<1_000_000_000) : 20)

    @TaskLocal private static var attempt = ""

    /// Tries files of a format until its time is over. Each must be done with at once, some must be taken, and some not.
    /// - Parameters:
    ///   - share: how many tests of that format share its time.
    ///   - body: damages a file and looks at it; returns whether it was taken.
    static func run(_ what: String, share: Int = 1, _ body: (inout SeededGenerator) throws -> Bool) {
        let clock = ContinuousClock()
        let end = clock.now + .seconds(seconds) / share
        var (tried, taken, longest) = (0, 0, Duration.zero)
        repeat {
            let name = "\(what): CAIRN_TEST_SEED=\(seed &+ UInt64(tried)) repeats it"
            var random = SeededGenerator(seed: seed &+ UInt64(tried))
            let start = clock.now
            $attempt.withValue(name) {
                do { taken += try body(&random) ? 1 : 0 } catch { Issue.record(error, "\(name)") }
            }
            tried += 1
            longest = max(longest, clock.now - start)
        } while clock.now < end
        print("fuzz: seed \(seed), \(tried) \(what) tried, \(taken) taken, the longest in \(longest)")
        #expect(taken > 0 && taken < tried && longest < .seconds(20), "\(what), seed \(seed)")
    }

    /// What `#expect` does, which would take most of the time; it also says how to repeat the attempt.
    static func expect(
        _ condition: @autoclosure () throws -> Bool, file: StaticString = #fileID, line: Int = #line
    ) rethrows {
        if try !condition() { Issue.record("\(file):\(line), \(attempt)") }
    }

    /// Changes, leaves out or doubles a few bytes in a range.
    static func damage(_ file: inout [UInt8], in range: Range<Int>? = nil, _ random: inout SeededGenerator) {
        guard !file.isEmpty else { return }
        let place = Int.random(in: range ?? 0..<file.count, using: &random)
        switch Int.random(in: 0..<8, using: &random) {
        case 0: file[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: file[place] = [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &random)!
        case 2: file[place] = file.randomElement(using: &random)!
        case 3: file.removeSubrange(place..<min(file.count, place + Int.random(in: 1...4, using: &random)))
        case 4:
            file.insert(contentsOf: file[place...].prefix(Int.random(in: 1...9, using: &random)), at: place)
        case 5: file[place] = #"{}[]",:'\-0123456789e.n"#.utf8.randomElement(using: &random)!
        case 6:
            // One digit for another: the damage that stays JSON.
            guard let digit = file[place...].firstIndex(where: { (0x30...0x39).contains($0) }) else { return }
            file[digit] = 0x30 + UInt8.random(in: 0...9, using: &random)
        default: file.removeSubrange(place...)
        }
    }
}
