internal import Platform
internal import TensorFormats

/// What Lightning's `ModelCheckpoint` writes: single files such as `epoch=3-step=16-val_loss=0.25.ckpt`, several steps in one folder, and
/// folders of that name where the strategy is FSDP or DeepSpeed. (lightning, `pytorch/callbacks/model_checkpoint.py`,
/// `trainer/connectors/checkpoint_connector.py`)
struct Lightning: Layout {
    var name: String { "lightning" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "Lightning", splits: true, resumes: true, exportsTo: "torch", exportsToHuggingFace: true)
    }

    private static let ending = ".ckpt"
    private static let version = "pytorch-lightning_version"
    /// What FSDP's folder has beside the tensors.
    private static let meta = "meta.pt"
    private static let last = "last.ckpt"

    func candidates(in output: OutputFolder) throws -> [Candidate] {
        try folders(output).flatMap { folder in
            let prefix = folder.isEmpty ? "" : folder + "/"
            let entries = try output.entries(in: folder).filter { name, status in
                name.hasSuffix(Self.ending) && (status.kind == .file || status.kind == .folder)
            }
            let steps = Set(entries.keys.compactMap(Self.step))
            return try entries.compactMap { name, status -> Candidate? in
                // A link to another one of them is no iteration of its own, but a pointer; and a copy of one is none either.
                if try output.isLink(prefix + name) || isCopy(prefix + name, status, of: steps, output) {
                    return nil
                }
                // Training loops of one's own use the ending too.
                return Candidate(
                    name: name, path: prefix + name,
                    step: CheckpointName(name.dropLast(Self.ending.count)).order,
                    mayBeAnything: status.kind == .file)
            }
        }
    }

    /// Whether `last.ckpt` is of a step that another file has in its name.
    private func isCopy(
        _ path: String, _ status: FileStatus, of steps: Set<UInt64>, _ output: OutputFolder
    ) throws -> Bool {
        let name = path.split(separator: "/").last ?? ""
        guard status.kind == .file, name == Self.last || NamePattern("last-v#.ckpt").matches(name.utf8) else {
            return false
        }
        let view: CheckpointView
        do {
            view = try CheckpointView(output.path.appending(path))
            guard let (file, tree) = try state(of: view) else { return false }
            return try view.number(tree.root["global_step"], in: file)?.step.map(steps.contains) ?? false
        } catch let error as CairnError where error.code == .notFound || error.code == .changed {
            return false
        }
    }

    /// Where it puts them: the folder itself, or the newest version below it.
    private func folders(_ output: OutputFolder) throws -> [String] {
        var folders = ["", "checkpoints"]
        let logs = "lightning_logs"
        if let newest = try output.folders("version_#", in: logs).max(by: { $0.step! < $1.step! }) {
            folders.append(newest.path + "/checkpoints")
        }
        return folders
    }

    func step(ofFile name: String) -> UInt64? { name.hasSuffix(Self.ending) ? Self.step(name) : nil }

    private static func step(_ name: String) -> UInt64? {
        let said = CheckpointName(name.dropLast(ending.count))
        return said.step ?? NamePattern("hpc_ckpt_#.ckpt").numbers(in: name.utf8)?.first
    }

    func recognises(_ view: CheckpointView) throws -> Bool {
        if let file = view.onlyFile {
            guard file.path.hasSuffix(Self.ending), try view.beginsAsTorch(file) else {
                return file.size == 0 && Self.step(file.path) != nil && file.path.contains("=")
            }
            let (tree, fault) = try view.treeOrFault(of: file)
            if let tree { return Self.isOwn(tree.root) }
            return fault != nil
        }
        if try state(of: view) != nil { return true }
        // Others write folders of such names as well, but none with a step that is said so.
        let isNamed = view.name.hasSuffix(Self.ending)
        return Self.isFSDP(view) && (view.has(Self.meta) || isNamed && view.name.contains("="))
            || isNamed && Self.deepSpeed(view) != nil
    }

    private static func isOwn(_ root: TorchTree.Value) -> Bool {
        root[version] != nil && (root["state_dict"] != nil || root["loops"] != nil)
    }

    private static func isFSDP(_ view: CheckpointView) -> Bool {
        view.has(".metadata") || !view.files("__#_#.distcp").isEmpty
    }

    /// The folder that DeepSpeed writes, for which Lightning has one name.
    private static let tag = "checkpoint"

    private static func deepSpeed(_ view: CheckpointView) -> CheckpointView? {
        view.names(in: tag).contains(where: DeepSpeedFiles.isOne) ? view.view(of: tag) : nil
    }

    /// The file that says what the training was at: the only one, FSDP's `meta.pt`, or the first of DeepSpeed's.
    func state(of view: CheckpointView) throws -> (file: CheckpointView.File, tree: TorchTree)? {
        let files =
            [view.onlyFile, view[Self.meta]]
            + view.files("*mp_rank_#_model_states.pt", in: Self.tag).prefix(1).map(\.file)
        for case let file? in files {
            if let tree = try view.treeOrFault(of: file).tree, Self.isOwn(tree.root) { return (file, tree) }
        }
        return nil
    }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        if let file = view.onlyFile {
            result.metrics = CheckpointName(file.path.dropLast(Self.ending.count)).metrics
            if let fault = try view.treeOrFault(of: file).fault { result.faults.append(fault) }
        } else {
            try inspectFolder(view, &result)
        }
        guard let (file, tree) = try state(of: view) else { return result }
        result.step = try view.number(tree.root["global_step"], in: file)?.step
        result.stepFile = file.path
        result.epoch = try view.number(tree.root["epoch"], in: file)?.double
        try readScores(tree.root["callbacks"], view, file, &result)
        if view.onlyFile != nil, tree.root["optimizer_states"]?.elements?.isEmpty ?? true {
            result.missing.append("the optimizer's state")
        }
        if let version = tree.root[Self.version]?.string { result.facts.append(("Lightning", version)) }
        return result
    }

    /// What `ModelCheckpoint` noted of the metric that it goes by.
    private func readScores(
        _ callbacks: TorchTree.Value?, _ view: CheckpointView, _ file: CheckpointView.File,
        _ result: inout Inspection
    ) throws {
        for (_, callback) in callbacks?.items ?? [] where callback.kind == .dictionary {
            guard let monitor = callback["monitor"]?.string else { continue }
            if result.bestMetricName == nil { result.bestMetricName = monitor }
            if let score = try view.number(callback["current_score"], in: file)?.double {
                result.metrics[monitor] = score
            }
            if let best = callback["best_model_path"]?.string, result.bestStep == nil {
                result.bestStep = Self.step(String(decoding: Path(best).name, as: UTF8.self))
            }
        }
    }

    private func inspectFolder(_ view: CheckpointView, _ result: inout Inspection) throws {
        if let own = Self.deepSpeed(view) {
            let inner = try DeepSpeed().inspect(own)
            result.faults = inner.faults.map { "in \(Self.tag), \($0)" }
            (result.worldSize, result.facts, result.missing) = (inner.worldSize, inner.facts, inner.missing)
        } else if Self.isFSDP(view) {
            let meta =
                view.has(Self.meta)
                ? try view.fault(inTensors: Self.meta) : "\(Self.meta) is missing, which is written last"
            let inner = try DCP().inspect(view)
            result.faults = inner.faults + (meta.map { [$0] } ?? [])
            (result.worldSize, result.missing) = (inner.worldSize, inner.missing)
        } else {
            result.faults = try view.files.filter { $0.path.hasSuffix(".pt") }.compactMap {
                try view.fault(inTensors: $0.path)
            }
        }
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        guard path.contains("/") || !path.hasSuffix(Self.ending) else {
            return tensor.map {
                TorchContent.part(ofKey: $0.split(separator: ".").first.map(String.init) ?? "")
            } ?? .model
        }
        if path.hasPrefix(Self.tag + "/") {
            return DeepSpeed().part(of: String(path.dropFirst(Self.tag.utf8.count + 1)), tensor: tensor)
        }
        if path == Self.meta { return .trainerState }
        return path.hasSuffix("zero_to_fp32.py") || path.hasSuffix("latest") ? .marker : .model
    }

    func pointers(to iteration: Candidate) -> [Pointer] {
        let path = iteration.files?.first ?? iteration.path
        let folder = path.before(last: "/").map { $0 + "/" } ?? ""
        let name = String(path.dropFirst(folder.count))
        guard name != Self.last else { return [] }
        // What `ckpt_path="last"` looks for.
        return [Pointer(path: folder + Self.last, text: name, says: name, mode: 0o777, isLink: true)]
    }

    func pointed(in output: OutputFolder) throws -> Pointer? {
        for folder in try folders(output) {
            let path = folder.isEmpty ? Self.last : folder + "/" + Self.last
            guard try output.isLink(path) else { continue }
            let target = try FileSystem.target(ofLink: output.path.appending(path))
            let name = String(decoding: Path(target).name, as: UTF8.self)
            return Pointer(path: path, text: name, says: name, mode: 0o777, isLink: true)
        }
        return nil
    }

    func assembly(of view: CheckpointView) throws -> Assembly? {
        if let own = Self.deepSpeed(view) {
            var assembly = try DeepSpeed().assembly(of: own)?.below(Self.tag)
            for index in assembly?.tensors.indices ?? 0..<0 { assembly?.tensors[index].unwrap() }
            return assembly
        }
        guard let file = view.onlyFile else { return Self.isFSDP(view) ? try DCP().assembly(of: view) : nil }
        guard let tree = try view.treeOrFault(of: file).tree,
            let tensors = TorchModel(tree: tree, file: file.path).tensors(below: "state_dict")
        else { return nil }
        return Assembly(tensors: tensors)
    }
}

extension Assembly.Tensor {
    /// Before Lightning 2.1, the module that it gave to DeepSpeed held its own.
    fileprivate mutating func unwrap() {
        let prefix = "_forward_module."
        if name.hasPrefix(prefix) { name.removeFirst(prefix.count) }
    }
}
