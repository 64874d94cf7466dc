import Cairn

/// What printing for people depends on.
struct Style {
    /// Columns; nil where nothing limits them, as in a pipe, so that `grep` finds whole names.
    var width: Int?
    /// Nanoseconds since 1970 UTC.
    var now: Int64

    /// That of standard output: its terminal's width, or COLUMNS where it is no terminal but someone set
    /// that.
    static var current: Style {
        let columns = Process.environment("COLUMNS").flatMap { Int($0) }
        return Style(width: (Terminal.width(.output) ?? columns).map { max($0, 40) }, now: Clock.now)
    }
}
