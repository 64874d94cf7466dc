internal import ChunkStore
internal import Platform
internal import TensorFormats

/// How to save a state that is in memory.
public struct StateSaveOptions: Sendable {
    /// The run; nil: the store's only one, or `main`.
    public var run: String?
    public var step: UInt64
    public var metrics: [String: Double] = [:]
    /// The values are JSON texts.
    public var metadata: [String: String] = [:]
    /// The name of a pin that protects the iteration from the moment it exists.
    public var pin: String?
    /// Takes the place of another iteration at the same run and step, unless that one is pinned.
    public var replace = false
    /// Hashes everything that is not known from memory, instead of trusting fingerprints.
    public var rehash = false
    /// The `id` of the result of an earlier save through this store: that whose bytes the tensors' `earlier` are.
    public var earlier: String?
    /// Of a state that several processes save together, the part that this one saves; nil: it is all of it.
    public var part: StatePart?
    /// Whether earlier chunks that are not in memory may be read from the store, for new ones to lean on.
    public var readsBases = true
    /// Whether the tensors' memory can't change before `take` or `commit` has returned, as nobody else has it: a copy that was made for the
    /// save. Then it is used where it lies. Otherwise its bytes are copied first, since what is hashed has to be what is written.
    public var isPrivate = false

    public init(run: String? = nil, step: UInt64) { (self.run, self.step) = (run, step) }
}

/// One process's part of an iteration.
public struct StatePart: Sendable, Hashable {
    /// From 0 on.
    public var rank: Int
    /// How many parts make the iteration.
    public var worldSize: Int
    /// The same for all parts that belong together: those of a training that was started once. Parts of one that broke off are never put
    /// together with those of the next.
    public var attempt: String
    /// Which save of the step it is, where an attempt saves one several times: each with `replace` is another one, and its parts are put
    /// together with no other's. A save that failed is none, unless with `.exists` or `.protected`, which leave no rank a part of it.
    public var turn: Int

    public init(rank: Int, worldSize: Int, attempt: String, turn: Int = 0) {
        (self.rank, self.worldSize, self.attempt, self.turn) = (rank, worldSize, attempt, turn)
    }
}

/// A save of tensors that are in memory, and of small files beside them: as a checkpoint of safetensors files, which it is when it is
/// restored.
///
/// Add everything, then commit. One thread at a time. Until `commit` has returned, nothing counts; a session that goes away, or whose
/// process dies, leaves nothing behind.
public final class StateSave {
    /// A tensor, its elements one behind the other in the order of its shape.
    public struct Tensor {
        /// The file that it is to be in, below the checkpoint's folder: `model.safetensors`.
        public var file: String
        /// What it is called there.
        public var name: String
        /// As safetensors spells it, such as `BF16`.
        public var dtype: String
        /// Elements along each axis; empty for a scalar.
        public var shape: [UInt64]
        /// Read by `take` or `commit`: to stay as they are until then.
        public var bytes: UnsafeRawBufferPointer
        /// As many, which the tensor of this file and name had in the iteration that `StateSaveOptions.earlier` names; nil where
        /// they are not at hand.
        public var earlier: UnsafeRawPointer?

        public init(
            file: String, name: String, dtype: String, shape: [UInt64], bytes: UnsafeRawBufferPointer,
            earlier: UnsafeRawPointer? = nil
        ) {
            (self.file, self.name, self.dtype, self.shape) = (file, name, dtype, shape)
            (self.bytes, self.earlier) = (bytes, earlier)
        }
    }

    private let intake: StateIntake

    init(_ intake: StateIntake) { self.intake = intake }

    /// Adds a tensor.
    /// - Throws: `.usage` for a dtype that safetensors lacks, bytes that are not as many as dtype and shape say, a path that leaves the
    ///   checkpoint's folder, or a name that the file has already.
    public func add(_ tensor: Tensor) throws { try intake.add(tensor) }

    /// Adds a file. Its bytes are copied.
    public func add(file path: String, _ bytes: UnsafeRawBufferPointer) throws {
        try intake.add(file: path, bytes)
    }

    /// Reads what was added so far: its memory may change from then on. Should a collection remove what was relied on before the commit,
    /// that fails, as it can't be read again.
    public func take(progress: Progress = .silent) throws { try intake.take(progress) }

    /// Reads the rest and commits: when it returns, the iteration survives a power cut. Nothing can be added any more, however it ends.
    ///
    /// A part is durable then as well, and seen by nobody; the iteration is there as soon as all its parts are. Files that several parts
    /// have must be the same in all. What goes wrong with an automatic policy after that is one of the `warnings`.
    /// - Throws: `.exists` where the run has another iteration at this step.
    public func commit(progress: Progress = .silent) throws -> SaveResult { try intake.commit(progress) }

    /// Gives up: nothing of it stays. Harmless after a commit.
    public func abort() { intake.abort() }
}

extension Store {
    /// Begins a save of what is in memory. Nothing is written yet.
    /// - Throws: `.usage` for names that are not valid, or several runs of which none is named.
    public func beginSave(_ options: StateSaveOptions) throws -> StateSave {
        StateSave(try StateIntake(self, options))
    }
}
