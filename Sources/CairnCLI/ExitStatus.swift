import Cairn

/// What the command's exit status says.
enum ExitStatus {
    static let done: Int32 = 0
    static let failed: Int32 = 1
    static let usage: Int32 = 2
    static let damage: Int32 = 3
    static let interrupted: Int32 = 130

    /// A name that nothing or several things have is wrong usage: the same command can't succeed on this
    /// store.
    static func of(_ code: CairnError.Code) -> Int32 {
        switch code {
        case .usage, .notFound, .ambiguous: usage
        case .damage: damage
        case .interrupted: interrupted
        default: failed
        }
    }
}
