/// How the second of two iterations differs from the first.
public struct IterationDiff: Sendable {
    /// A tensor of the same name on both sides with other bytes, another dtype or another shape.
    public struct Change: Sendable, Hashable {
        public var name: String
        public var before: TensorInfo
        public var after: TensorInfo
        /// Elements of the second side.
        public var elements: UInt64
        /// Elements that differ; all of them where dtype or shape differ.
        public var changedElements: UInt64
        /// Bytes that differ; all of them where dtype or shape differ.
        public var changedBytes: UInt64
        /// The largest difference of two elements in magnitude; nil where they are not numbers of the same
        /// dtype and shape.
        public var maxAbsDifference: Double?

        public init(
            name: String, before: TensorInfo, after: TensorInfo, elements: UInt64, changedElements: UInt64,
            changedBytes: UInt64, maxAbsDifference: Double?
        ) {
            self.name = name
            self.before = before
            self.after = after
            self.elements = elements
            self.changedElements = changedElements
            self.changedBytes = changedBytes
            self.maxAbsDifference = maxAbsDifference
        }
    }

    public var added: [TensorInfo]
    public var removed: [TensorInfo]
    public var changed: [Change]
    /// How many tensors are the same, byte for byte.
    public var unchanged: Int
    /// The paths of files that only the second side has.
    public var addedFiles: [String]
    public var removedFiles: [String]
    /// The paths of files whose bytes differ outside of tensors.
    public var changedFiles: [String]

    public init(
        added: [TensorInfo] = [], removed: [TensorInfo] = [], changed: [Change] = [], unchanged: Int = 0,
        addedFiles: [String] = [], removedFiles: [String] = [], changedFiles: [String] = []
    ) {
        self.added = added
        self.removed = removed
        self.changed = changed
        self.unchanged = unchanged
        self.addedFiles = addedFiles
        self.removedFiles = removedFiles
        self.changedFiles = changedFiles
    }
}
