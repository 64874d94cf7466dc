import ArgumentParser
import Cairn

/// Values of the command line that need more than a type.
enum Arguments {
    /// `NAME=VALUE` of `--metric`; the value may be `nan` or `inf`.
    static func metric(_ text: String) throws -> (name: String, value: Double) {
        let (name, value) = try pair(text, "--metric loss=0.25")
        guard let number = Double(value) else {
            throw ValidationError("'\(value)' is not a number; write it like --metric loss=0.25")
        }
        return (name, number)
    }

    /// `NAME=VALUE` of `--meta`; the value is text, whatever it looks like.
    static func metadata(_ text: String) throws -> (name: String, json: String) {
        let (name, value) = try pair(text, "--meta dataset=c4")
        return (name, JSON(value).text)
    }

    /// A step, or steps with commas between them.
    static func steps(_ text: String) throws -> [UInt64] {
        try text.split(separator: ",", omittingEmptySubsequences: false).map { try Step.parse($0) }
    }

    /// Of the same name the last one holds.
    static func dictionary<Value>(_ pairs: [(String, Value)]) -> [String: Value] {
        Dictionary(pairs) { _, last in last }
    }

    private static func pair(_ text: String, _ example: String) throws -> (String, String) {
        guard let equals = text.firstIndex(of: "="), equals > text.startIndex else {
            throw ValidationError("'\(text)' is not NAME=VALUE; write it like \(example)")
        }
        return (String(text[..<equals]), String(text[text.index(after: equals)...]))
    }
}

/// What the shell offers, from the store that the command line names.
enum StoreCompletion {
    /// The selectors, pins and steps.
    static let references = CompletionKind.custom { words, _, _ in
        let all = iterations(words)
        let severalRuns = Set(all.map(\.run)).count > 1
        return ["latest", "best"] + all.flatMap(\.pins)
            + all.reversed().map { severalRuns ? "\($0.run)@\($0.step)" : "\($0.step)" }
    }
    static let runs = CompletionKind.custom { words, _, _ in Set(iterations(words).map(\.run)).sorted() }
    static let pins = CompletionKind.custom { words, _, _ in iterations(words).flatMap(\.pins).sorted() }

    /// A completion has no room for errors: without a store there are none.
    private static func iterations(_ words: [String]) -> [IterationInfo] {
        let given = words.firstIndex(of: "--store").flatMap { words.dropFirst($0 + 1).first }
        guard let path = given ?? Process.environment("CAIRN_STORE"),
            let store = try? Store.open(at: path, settings: Settings(jobs: 1))
        else { return [] }
        return (try? store.iterations()) ?? []
    }
}

extension ArgumentHelp {
    static let reference = ArgumentHelp(
        "The iteration: [RUN@]SELECTOR, such as latest or main@500.", valueName: "ref")
}
