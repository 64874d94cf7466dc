internal import ChunkStore
internal import Platform
internal import TensorFormats

/// The tensors that are exported, put together.
struct ExportTensors {
    /// The model's, under the names that they get.
    private(set) var model: [GatheredTensor] = []
    /// The optimizer's, under their own names or those that their parameters get.
    private(set) var optimizer: [GatheredTensor] = []
    /// Where the bytes of what is stored are.
    private let sources: [Gather.Source]
    private let chunks: ChunkStore
    /// Sentences for people.
    private(set) var warnings: [String] = []

    /// - Parameter withOptimizer: whether its state is wanted, where it is kept by the names of the parameters.
    /// - Throws: `.inconsistent` where the pieces don't make the tensors; `.usage` where none is left, or they can't be renamed.
    init(_ subject: ExportSubject, withOptimizer: Bool) throws {
        let (options, info) = (subject.options, subject.info)
        let isWanted = try Self.filter(options.only)
        chunks = subject.chunks
        var assembler = Assembler(subject.chunks, subject.manifest)
        if let path = options.rename {
            let config = try subject.config().flatMap { try? JSON(parsing: $0, allowNonFinite: true) }
            let renaming = Renaming(
                try Rename(parsing: try ExportSubject.read(path), path: path), config: config)
            let named = subject.assembly.tensors.map { ($0.name, $0) }
            model = try renaming.apply(named) { try assembler.tensor($0) }.filter { isWanted($0.name) }
            if withOptimizer {
                optimizer = try StateRenaming(renaming, subject.assembly, &assembler).tensors
                    .filter { isWanted($0.name) }
            }
        } else {
            model = try subject.assembly.tensors.filter { isWanted($0.name) }.map { try assembler.tensor($0) }
            if withOptimizer {
                optimizer = try subject.assembly.optimizer.filter { isWanted($0.name) }.map {
                    try assembler.tensor($0)
                }
            }
        }
        sources = assembler.sources
        if withOptimizer, subject.assembly.optimizer.isEmpty {
            warnings.append(
                "the optimizer's state is left out: \(subject.layout.name) does not keep it by the names of the parameters"
            )
        }
        guard !model.isEmpty else {
            let why =
                options.only.map { "no tensor of \(info.run)@\(info.step) matches \($0)" }
                ?? "\(info.run)@\(info.step) has no tensors of a model"
            throw CairnError(.usage, "\(why); see `cairn show REF --tensors`")
        }
        for tensors in [model, optimizer] { try Self.checkNames(tensors, info) }
    }

    static func filter(_ pattern: String?) throws -> (String) -> Bool {
        guard let pattern else { return { _ in true } }
        do {
            let regex = try Regex(pattern)
            return { $0.firstMatch(of: regex) != nil }
        } catch {
            throw CairnError(.usage, "\(pattern) is not a regular expression")
        }
    }

    private static func checkNames(_ tensors: [GatheredTensor], _ info: IterationInfo) throws {
        var names: Set<ExactText> = []
        for tensor in tensors where !names.insert(ExactText(tensor.name)).inserted {
            throw CairnError(
                .inconsistent, "two tensors of \(info.run)@\(info.step) are called \(tensor.name)")
        }
    }

    /// The bytes of a tensor, or of a slice of one.
    func content(of tensor: GatheredTensor) -> OutputFile.Part {
        tensor.isTransposed && tensor.count > 0
            ? .computed(TransposedTensor(tensor, sources, chunks)) : .gather(tensor.gather(sources))
    }

    /// The model's and the optimizer's tensors for files that hold them one by one.
    func files() -> (model: [ModelTensor], optimizer: [ModelTensor]) {
        let tensors = [model, optimizer].map { tensors in
            tensors.map {
                ModelTensor(name: $0.name, dtype: $0.dtype, shape: $0.shape, content: content(of: $0))
            }
        }
        return (tensors[0], tensors[1])
    }

    /// Leaves out what is the same memory as a tensor before it, as `save_pretrained` does: readers tie them again.
    mutating func untie() {
        var first: [GatheredTensor.Content: String] = [:]
        model.removeAll { tensor in
            guard tensor.count > 0 else { return false }
            if let other = first[tensor.content] {
                warnings.append("\(tensor.name) is left out: it is tied to \(other)")
                return true
            }
            first[tensor.content] = tensor.name
            return false
        }
    }
}

extension GatheredTensor {
    /// The type in the format that is written.
    /// - Parameter what: the format's files, for the sentence.
    /// - Throws: `.usage` where it has no such type.
    func dtype(in what: String) throws(CairnError) -> DType {
        guard let dtype = DType(rawValue: self.dtype) else {
            throw .unsupported(name, self.dtype, in: what)
        }
        return dtype
    }
}

extension CairnError {
    /// A tensor of a type that the format that is written does not have.
    static func unsupported(_ tensor: String, _ dtype: String, in what: String) -> CairnError {
        CairnError(
            .usage, "the tensor \(tensor) is \(dtype), which \(what) can't hold; leave it out with --only")
    }

    /// What can't be written.
    init(_ error: TensorFileError) {
        let sentence = error.message.hasSuffix(".") ? error.message.dropLast() : error.message[...]
        self.init(.usage, sentence.prefix(1).lowercased() + sentence.dropFirst())
    }
}
