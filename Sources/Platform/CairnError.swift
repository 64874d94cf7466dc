/// The one error of every layer: what happened, where, and what to do about it.
public struct CairnError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is. Open: later versions add codes.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// The caller asked for something that makes no sense (exit status 2).
        public static let usage = Code(rawValue: "usage")
        /// Stored bytes are not what they were (exit status 3).
        public static let damage = Code(rawValue: "damage")
        /// The operating system refused: no space, no permission, a failing disk.
        public static let system = Code(rawValue: "system")
        /// The path is not a store, or not one that this version can use.
        public static let notAStore = Code(rawValue: "not-a-store")
        /// The store or something in it was made by a newer version.
        public static let newerVersion = Code(rawValue: "newer-version")
        /// Nothing has that name.
        public static let notFound = Code(rawValue: "not-found")
        /// Several things have that name.
        public static let ambiguous = Code(rawValue: "ambiguous")
        /// What was to be made is there already.
        public static let exists = Code(rawValue: "exists")
        /// A pin, a policy or a reader protects it.
        public static let protected = Code(rawValue: "protected")
        /// A checkpoint's own files contradict each other: what was saved is whole, but makes no model.
        public static let inconsistent = Code(rawValue: "inconsistent")
        /// The source changed while it was read.
        public static let changed = Code(rawValue: "changed")
        /// Someone else holds a lock for too long.
        public static let busy = Code(rawValue: "busy")
        /// The user stopped it (exit status 130).
        public static let interrupted = Code(rawValue: "interrupted")
    }

    public var code: Code
    /// One sentence for people: what, where, what to do.
    public var message: String
    /// The file or folder it is about, where there is one.
    public var path: String?
    /// The errno value below it, where there is one.
    public var errno: Int32?

    public init(_ code: Code, _ message: String, path: String? = nil, errno: Int32? = nil) {
        self.code = code
        self.message = message
        self.path = path
        self.errno = errno
    }

    public var description: String { message }
}
