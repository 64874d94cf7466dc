/// How the second of two iterations differs from the first.
public struct IterationDiff: Sendable {
    /// What of a tensor is another one.
    public enum Aspect: String, Sendable {
        case dtype
        case shape
        case values
    }

    /// A tensor of the same name on both sides with other values, another dtype or another shape.
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

        /// What has changed: values, where dtype and shape are the same.
        public var aspects: [Aspect] {
            let form: [Aspect] =
                (before.dtype == after.dtype ? [] : [.dtype]) + (before.shape == after.shape ? [] : [.shape])
            return form.isEmpty ? [.values] : form
        }
    }

    /// How many tensors of a part of the training state differ.
    public struct Part: Sendable, Hashable {
        /// A group of tensors, such as `model`; `in files` for what no layout puts together.
        public var name: String
        public var changed = 0
        public var added = 0
        public var removed = 0
        public var unchanged = 0
    }

    public var added: [TensorInfo]
    public var removed: [TensorInfo]
    public var changed: [Change]
    /// Those that are the same, byte for byte.
    public var unchangedTensors: [TensorInfo]
    /// The paths of files that only the second side has.
    public var addedFiles: [String]
    public var removedFiles: [String]
    /// The paths of files whose bytes differ outside of tensors.
    public var changedFiles: [String]
    /// Sentences for people.
    public var warnings: [String]

    public init(
        added: [TensorInfo] = [], removed: [TensorInfo] = [], changed: [Change] = [],
        unchangedTensors: [TensorInfo] = [], addedFiles: [String] = [], removedFiles: [String] = [],
        changedFiles: [String] = [], warnings: [String] = []
    ) {
        self.added = added
        self.removed = removed
        self.changed = changed
        self.unchangedTensors = unchangedTensors
        self.addedFiles = addedFiles
        self.removedFiles = removedFiles
        self.changedFiles = changedFiles
        self.warnings = warnings
    }

    /// How many tensors are the same, byte for byte.
    public var unchanged: Int { unchangedTensors.count }

    /// The same counted by what the tensors belong to: the model first, and last what is compared as files hold it.
    public var parts: [Part] {
        var parts: [Part] = []
        func count(_ tensor: TensorInfo, _ key: WritableKeyPath<Part, Int>) {
            let name = tensor.file == nil ? tensor.group : "in files"
            let place = parts.firstIndex { $0.name == name } ?? parts.count
            if place == parts.count { parts.append(Part(name: name)) }
            parts[place][keyPath: key] += 1
        }
        for change in changed { count(change.after, \.changed) }
        for tensor in added { count(tensor, \.added) }
        for tensor in removed { count(tensor, \.removed) }
        for tensor in unchangedTensors { count(tensor, \.unchanged) }
        let order = ["model", "optimizer"]
        return parts.sorted {
            (order.firstIndex(of: $0.name) ?? order.count, $0.name)
                < (order.firstIndex(of: $1.name) ?? order.count, $1.name)
        }
    }
}
