/// How to restore an iteration's files.
public struct RestoreOptions: Sendable {
    /// Only the files whose path, or the path of a folder above them, matches: `*` and `?` within a
    /// component, `**` across them. Nil: all.
    public var path: String?
    /// Takes the place of a destination that exists.
    public var force: Bool
    /// Restores what is whole, and says what is not, instead of failing.
    public var skipDamaged: Bool
    /// Only these files, by their paths; nil: all.
    var files: Set<String>?

    public init(path: String? = nil, force: Bool = false, skipDamaged: Bool = false) {
        self.path = path
        self.force = force
        self.skipDamaged = skipDamaged
    }
}

/// What a restore or an export wrote.
public struct RestoreResult: Sendable {
    public var run: String
    public var step: UInt64
    /// The manifest id in hex.
    public var id: String
    /// Where it lies now.
    public var path: String
    public var files: Int
    /// The sum of the files' sizes.
    public var bytes: UInt64
    public var seconds: Double
    /// The paths of the files that were left out because stored bytes are damaged (`skipDamaged`).
    public var damagedFiles: [String]
    /// Sentences for people.
    public var warnings: [String]

    public init(
        run: String, step: UInt64, id: String, path: String, files: Int = 0, bytes: UInt64 = 0,
        seconds: Double = 0,
        damagedFiles: [String] = [], warnings: [String] = []
    ) {
        self.run = run
        self.step = step
        self.id = id
        self.path = path
        self.files = files
        self.bytes = bytes
        self.seconds = seconds
        self.damagedFiles = damagedFiles
        self.warnings = warnings
    }
}
