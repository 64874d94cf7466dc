import Foundation

/// What `libCFaults.so` is to do to a child. (Tests/Support/CFaults/include/CFaults.h)
struct Faults: Sendable, CustomStringConvertible {
    enum Calls: String, Sendable {
        /// Everything that changes something.
        case changing = "write,sync,meta"
        case reading = "read"
        case writing = "write"
    }

    var kind: String
    /// Which of the counted calls, from 1 on; 0: none.
    var number: Int
    var calls = Calls.changing
    /// Only calls on files below these.
    var under: [String]
    var log: String?
    /// What fstatfs(2) says instead of the truth.
    var fileSystem: String?

    var description: String { "\(kind):\(number) (\(calls.rawValue))" }

    var environment: [String: String] {
        var variables = [
            "LD_PRELOAD": Weather.faultLibrary, "CAIRN_FAULT": "\(kind):\(number)",
            "CAIRN_FAULT_CALLS": calls.rawValue, "CAIRN_FAULT_UNDER": under.joined(separator: ":"),
        ]
        if let log { variables["CAIRN_FAULT_LOG"] = log }
        if let fileSystem { variables["CAIRN_FAULT_FS"] = fileSystem }
        return variables
    }
}

/// One call of a child, as the log has it.
struct LoggedCall {
    var name: String
    var path: String

    /// All calls of a child, in order.
    static func read(_ log: String) -> [LoggedCall] {
        let text = String(decoding: FileManager.default.contents(atPath: log) ?? Data(), as: UTF8.self)
        return text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ", maxSplits: 2)
            guard fields.count == 3, Int(fields[0]) != nil else { return nil }
            return LoggedCall(name: String(fields[1]), path: String(fields[2]))
        }
    }
}
