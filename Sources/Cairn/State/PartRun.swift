internal import ChunkStore
internal import Platform

/// The run that holds one rank's parts of another run's iterations until all ranks have theirs. Nothing but this shows it.
struct PartRun {
    /// What the names of such runs begin with, and no other's does.
    static let prefix = ".part-"
    /// The metadata key of what tells the parts of one attempt from those of another.
    static let attemptKey = "cairn.attempt"
    /// The metadata key of what tells the parts of one save of a step from those of another in the same attempt; 0 where it is missing.
    static let turnKey = "cairn.turn"
    /// The metadata key of the pin that a rank wants for the iteration.
    static let pinKey = "cairn.pin"

    let name: String

    init(_ run: String, rank: Int, of worldSize: Int) {
        name = Self.prefix + ChunkID.of([UInt8]("\(run)\n\(worldSize)\n\(rank)".utf8)).hex.prefix(40)
    }

    init(_ run: String, _ part: StatePart) { self.init(run, rank: part.rank, of: part.worldSize) }

    /// The metadata that says so of a part, beside what it has of its own.
    static func marks(_ part: StatePart, pin: String?) -> [String: String] {
        var marks = [attemptKey: JSON(part.attempt).text]
        if part.turn > 0 { marks[turnKey] = JSON(part.turn).text }
        if let pin { marks[pinKey] = JSON(pin).text }
        return marks
    }

    static func isMark(_ key: String) -> Bool { [attemptKey, turnKey, pinKey].contains(key) }

    static func isPart(_ run: String) -> Bool { run.hasPrefix(prefix) }
}
