internal import Platform
internal import TensorFormats

/// What `torch.distributed.checkpoint` writes: folders with `.metadata` and a file or more of each rank, torchtitan's `step-500/` among
/// them, and what its writer of Hugging Face files leaves. (torch, `distributed/checkpoint/filesystem.py`, `hf_storage.py`; torchtitan,
/// `components/checkpointer/dcp.py`)
struct DCP: Layout {
    var name: String { "dcp" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "PyTorch DCP, torchtitan", splits: true, resumes: true, exportsTo: "dcp",
            exportsToHuggingFace: true)
    }

    static let metadata = ".metadata"
    static let index = "model.safetensors.index.json"
    /// Where files of the ranks lie that are, or are to be, merged into those beside it.
    static let sharded = "sharded"
    static let shards: NamePattern = "shard-#-model-#-of-#.safetensors"

    func candidates(in output: OutputFolder) throws -> [Candidate] {
        let named = try output.folders("step-#") + output.folders("step-#", in: "checkpoint")
        // Training loops of one's own give their folders any name.
        let others = try output.names.filter { name in
            try output.hasFolder(name) && StepNames.step(of: name) == nil && !Self.isPart(name)
                && output.isIteration(named: Self.mayBeOne(name)) { try Self.isOwn(name, in: output) }
        }
        return named
            + others.map {
                Candidate(name: $0, path: $0, step: CheckpointName($0).order, mayBeAnything: true)
            }
    }

    /// By its name alone.
    private static func mayBeOne(_ name: String) -> Bool {
        let said = CheckpointName(name)
        return !said.isPart && (said.order != nil || said.isAlias)
    }

    private static func isOwn(_ folder: String, in output: OutputFolder) throws -> Bool {
        for file in [metadata, "__0_0.distcp"]
        where try FileSystem.status(output.path.appending(folder + "/" + file), followLinks: true)?.kind
            == .file
        {
            return true
        }
        return false
    }

    /// Whether a folder is a part of a checkpoint of some other layout.
    private static func isPart(_ name: String) -> Bool {
        ModelFiles.part(of: name + "/part") != .other || [sharded, "dist_ckpt"].contains(name)
            || name.hasPrefix(".")
    }

    func step(ofFile name: String) -> UInt64? { CheckpointName(name).step }

    func recognises(_ view: CheckpointView) throws -> Bool {
        if try Self.isMetadata(view) { return true }
        // The Trainer writes such files as well.
        return !view.has("trainer_state.json") && Self.shardFolder(view) != nil
    }

    /// Whether there are ranks' files, or what says where things are in them. Other programs have a `.metadata` too, but no pickle.
    private static func isMetadata(_ view: CheckpointView) throws -> Bool {
        if let file = view[metadata] {
            return try file.size == 0 || view.read(file, 0..<1) == [0x80]
        }
        return !view.files("*__#_#.distcp").isEmpty || !view.files("__#.metadata").isEmpty
    }

    /// The folder in which files of each rank are: `""` or `sharded`; nil where there are none.
    static func shardFolder(_ view: CheckpointView) -> String? {
        ["", sharded].first { !view.files(shards, in: $0).isEmpty }
    }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        if try !Self.isMetadata(view) {
            try inspectShards(view, &result)
            return result
        }
        for file in view.files where !file.path.contains("/") && file.path.hasSuffix(Self.metadata + ".tmp") {
            result.faults.append(
                "\(file.path) is there, so it is still being written, or its writing was cut off")
        }
        let (metadata, faults) = try readMetadata(view)
        result.faults += faults
        guard let metadata else { return result }
        result.faults += metadata.problems(maximumCount: CheckpointView.faultLimit) { view[$0]?.size }
            .map { CheckpointView.inner($0.message) }
        let ranks = metadata.files.compactMap { NamePattern("*__#_#.distcp").numbers(in: $0.utf8)?.first }
        if let last = ranks.max() { result.worldSize = Int(last) + 1 }
        if result.faults.isEmpty { try readProgress(metadata, view, &result) }
        if !DCPRole.isState(metadata),
            !metadata.tensors.contains(where: { DCPRole($0.name, $0.path).isOptimizer })
        {
            result.missing.append("the optimizer's state")
        }
        result.facts.append(("tensors", String(metadata.tensors.count)))
        return result
    }

    /// What `.metadata` says, or those of the ranks together.
    private func readMetadata(_ view: CheckpointView) throws -> (DCPMetadata?, faults: [String]) {
        var files = [Self.metadata]
        if !view.has(Self.metadata) {
            let ranks = view.files("__#.metadata")
            guard !ranks.isEmpty else { return (nil, ["\(Self.metadata) is missing, which is written last"]) }
            // A rank's files come before what says what is in them.
            let written = view.files("__#_#.distcp").map { $0.numbers[0] }
            let absent = written.first { rank in !ranks.contains { $0.numbers[0] == rank } }
            if let rank = CheckpointView.gap(in: ranks.map { $0.numbers[0] }) ?? absent {
                return (nil, ["__\(rank).metadata is missing"])
            }
            files = ranks.map(\.file.path)
        }
        var found: [DCPMetadata] = []
        for file in files {
            do {
                found.append(try DCPMetadata(parsing: try view.read(file) ?? []))
            } catch let error as TensorFileError {
                return (nil, [CheckpointView.fault(file, error.message)])
            }
        }
        do {
            return (found.count == 1 ? found[0] : try DCPMetadata(merging: found), [])
        } catch {
            return (nil, [CheckpointView.inner(error.message)])
        }
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        if path == Self.metadata || path.hasSuffix(Self.metadata) || path.hasSuffix(".distcp") {
            return .model
        }
        return path.hasPrefix(Self.sharded + "/") ? .model : ModelFiles.part(of: path)
    }

    func pointers(to iteration: Candidate) -> [Pointer] { [] }

    // torchtitan lists the folder whenever it deletes or goes on; torch itself does neither.
    var allowsMoving: Bool { true }

    func assembly(of view: CheckpointView) throws -> Assembly? {
        guard try Self.isMetadata(view) else { return try shardAssembly(view) }
        guard let metadata = try readMetadata(view).0 else { return nil }
        var assembly = Assembly()
        let isState = DCPRole.isState(metadata)
        let isSafetensors = try metadata.files.map { try Self.isSafetensors($0, view) }
        for tensor in metadata.tensors {
            var whole = Assembly.Tensor(
                name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, pieces: [])
            for chunk in tensor.chunks where !chunk.shape.contains(0) {
                guard let place = chunk.place, place.transforms.isEmpty else {
                    whole.problem = chunk.problem(in: metadata.files)
                    continue
                }
                whole.pieces.append(
                    .init(
                        file: metadata.files[place.file],
                        tensor: isSafetensors[place.file] ? tensor.name : "@\(place.offset)",
                        place: .box(offset: chunk.offsets, shape: chunk.shape)))
            }
            switch DCPRole(tensor.name, tensor.path, isState: isState) {
            case .model(let name):
                whole.name = name
                assembly.tensors.append(whole)
            case .optimizer(let name?):
                whole.name = name
                assembly.optimizer.append(whole)
            case .optimizer(nil), .other: break
            }
        }
        return assembly
    }

    /// PyTorch can be told to write safetensors into files of this name.
    private static func isSafetensors(_ path: String, _ view: CheckpointView) throws -> Bool {
        guard let file = view[path], file.size > 8 else { return false }
        return try view.read(file, 8..<9) == [UInt8(ascii: "{")]
    }
}
