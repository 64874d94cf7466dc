internal import Platform

/// How a framework arranges a checkpoint in files and folders. One file each in `Frameworks/`.
///
/// A layout looks at names, at what says where things are, and at small files; never at a tensor's bytes.
protocol Layout: Sendable {
    /// Its word in commands and in manifests, such as `megatron`.
    var name: String { get }
    /// What `cairn layouts` says of it.
    var abilities: LayoutAbilities { get }

    /// What looks like iterations of this layout in a training's output folder, by names alone, in any order.
    func candidates(in output: OutputFolder) throws -> [Candidate]

    /// Whether these files are one iteration of this layout, whole or not.
    func recognises(_ view: CheckpointView) throws -> Bool

    /// The step that the name of a single file says, such as `model-step=500.pt`. Of folders, `StepNames` knows.
    func step(ofFile name: String) -> UInt64?

    /// What one iteration says about itself, and what it lacks.
    func inspect(_ view: CheckpointView) throws -> Inspection

    /// What a file belongs to, or one tensor in it.
    func part(of path: String, tensor: String?) -> ModelFiles.Part

    /// The files by which the framework finds an iteration, and what they have to say for this one; none where it needs none, which
    /// every layout has to say.
    func pointers(to iteration: Candidate) -> [Pointer]

    /// The pointer that is there, with what it says. Nil where there is none, or nothing in it that could be an iteration.
    func pointed(in output: OutputFolder) throws -> Pointer?

    /// Whether the trainer is given the output folder, in which it follows the pointer, and not an iteration.
    var takesOutputFolder: Bool { get }

    /// What the trainer is given for an iteration, below the output folder; empty for that folder itself.
    func argument(for iteration: Candidate) -> String

    /// The rank whose own file this is, as far as its name alone says it; nil for what all of them read.
    func rank(of path: String) -> Int?

    /// Which ranks read a file, of those that not all read.
    func readers(in view: CheckpointView) throws -> [String: RankReaders]

    /// The paths in an iteration's files that a training follows when it goes on.
    func paths(in view: CheckpointView) throws -> [StatePath]

    /// Whether folders that several iterations share hold a single one where a training goes on from what was brought back.
    var wantsOneStep: Bool { get }

    /// Whether a training that goes on does without an older iteration that is gone.
    var allowsMoving: Bool { get }

    /// The model's tensors as they are without parallelism; nil where this layout's can't be put together.
    func assembly(of view: CheckpointView) throws -> Assembly?
}

extension Layout {
    func step(ofFile name: String) -> UInt64? { nil }
    func part(of path: String, tensor: String?) -> ModelFiles.Part { ModelFiles.part(of: path) }
    func pointed(in output: OutputFolder) throws -> Pointer? { nil }
    var takesOutputFolder: Bool { false }
    func argument(for iteration: Candidate) -> String {
        if takesOutputFolder { return "" }
        return iteration.files?.count == 1 ? iteration.files![0] : iteration.path
    }
    func rank(of path: String) -> Int? { nil }
    func paths(in view: CheckpointView) throws -> [StatePath] { [] }
    var wantsOneStep: Bool { false }
    // Not before somebody has looked.
    var allowsMoving: Bool { false }
    func assembly(of view: CheckpointView) throws -> Assembly? { nil }
}

/// A row of the table of `cairn layouts`.
public struct LayoutAbilities: Sendable, Hashable {
    /// What people call it, such as `Megatron-LM, MindSpeed-LLM`.
    public var title: String
    /// Tensors are known by name, and each is stored once wherever it comes from.
    public var splits: Bool
    /// The newest whole iteration of an output folder is found and brought back.
    public var resumes: Bool
    /// What `cairn export --layout` calls it; nil where nothing is written so.
    public var exportsTo: String?
    /// Its model can be exported as Hugging Face safetensors.
    public var exportsToHuggingFace: Bool
}

/// What may be an iteration in an output folder.
struct Candidate: Sendable, Hashable {
    /// What people know it by: mostly the name of its folder or file.
    var name: String
    /// The folder or file, below the output folder; `""` where it is spread over several folders of it.
    var path: String
    /// The number in its name.
    var step: UInt64?
    /// Where it is not all that lies at `path`: the files that belong to it, below the output folder.
    var files: [String]?
    /// Those among them that other iterations need as well: they are saved with each, and stay where this one is taken away.
    var shared: [String] = []
    /// Files that say something of all iterations, and change with each: they are looked at, and not saved with it.
    var beside: [String] = []
    /// Many a file has such a name, so it is no iteration unless a layout knows its content.
    var mayBeAnything = false
}

/// A small file beside the iterations that names the one to go on from.
struct Pointer: Sendable, Hashable {
    /// Below the output folder.
    var path: String
    /// The whole file; of a link, what it points to.
    var text: String
    /// The iteration that it names, for people: its name or step.
    var says: String
    var mode: UInt16 = 0o644
    /// A symbolic link, in the place of a file.
    var isLink = false

    /// Whether both name the same iteration.
    func agrees(with other: Pointer) -> Bool { path == other.path && says == other.says }
}

extension Pointer {
    /// A file that holds nothing but a name or step.
    init(path: String, text: String, mode: UInt16 = 0o644) {
        self.init(path: path, text: text, says: text, mode: mode)
    }
}

/// What an iteration says about itself.
struct Inspection: Sendable {
    /// The global step, where the files say one.
    var step: UInt64?
    /// The file that says it.
    var stepFile: String?
    var epoch: Double?
    var metrics: [String: Double] = [:]
    /// The metric that the framework goes by, where it says so.
    var bestMetricName: String?
    /// The step that was best so far, where the framework keeps track of it.
    var bestStep: UInt64?
    /// Why it is not complete, each as a sentence without its full stop: `optimizer.pt is missing`. Empty: it is.
    var faults: [String] = []
    /// What a resumed training would miss without noticing: `the optimizer's state`. It is complete nevertheless.
    var missing: [String] = []
    /// Why the framework itself calls it unhealthy; nil where it does not.
    var unhealthy: String?
    /// Processes that wrote it.
    var worldSize: Int?
    /// What else is known, for people: `("parallel layout", "tp 2, pp 1")`.
    var facts: [(name: String, value: String)] = []

    var isComplete: Bool { faults.isEmpty }
}
