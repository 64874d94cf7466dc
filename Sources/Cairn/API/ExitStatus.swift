package import Platform

/// What the command's exit status says, and that of each call of the C interface.
package enum ExitStatus {
    package static let done: Int32 = 0
    package static let failed: Int32 = 1
    package static let usage: Int32 = 2
    package static let damage: Int32 = 3
    package static let interrupted: Int32 = 130

    /// A name that nothing or several things have is wrong usage: the same command can't succeed on this
    /// store.
    package static func of(_ code: CairnError.Code) -> Int32 {
        switch code {
        case .usage, .notFound, .ambiguous: usage
        case .damage: damage
        case .interrupted: interrupted
        default: failed
        }
    }
}
