internal import Platform
internal import TensorFormats

extension HuggingFace {
    func assembly(of view: CheckpointView) throws -> Assembly? {
        if deepSpeed(in: view) != nil, try !hasWeights(view) { return try deepSpeedAssembly(view) }
        guard let (files, name) = try modelFiles(view) else { return try shardedAssembly(view) }
        var assembly = Assembly(fileName: name)
        for file in files {
            let map = try view.tensors(in: file)
            let views = file.hasSuffix(".safetensors") ? [] : try unlisted(view, file, isKnown: map != nil)
            guard map != nil || !views.isEmpty else {
                throw CairnError(
                    .usage,
                    "\(file) is kept as it is, without its tensors being known, so it can't be written anew; "
                        + "use `cairn restore`", path: file)
            }
            for tensor in map?.tensors ?? [] {
                assembly.tensors.append(
                    .init(whole: tensor.name, dtype: tensor.dtype, shape: tensor.shape, file: file))
            }
            assembly.tensors += views
        }
        assembly.files = beside(view)
        return assembly
    }

    /// Whether there are weights in the Trainer's own files: with ZeRO 3, an adapter's file may be there without any.
    func hasWeights(_ view: CheckpointView) throws -> Bool {
        if DCP.modelFolder(view) != nil { return true }
        // What is missing of it is no reason to let go of others.
        guard let (files, _) = try? modelFiles(view) else { return false }
        return files.contains { file in
            guard let map = try? view.tensors(in: file) else { return (view[file]?.size ?? 0) > 0 }
            return map.tensors.contains { $0.length > 0 }
        }
    }

    /// What FSDP's ranks have.
    private func shardedAssembly(_ view: CheckpointView) throws -> Assembly? {
        guard var assembly = try DCP().assembly(ofSharded: view) else { return nil }
        assembly.files = view.files.map(\.path).filter { !$0.contains("/") && Self.isBeside($0) }.map {
            ($0, $0)
        }
        return assembly
    }

    /// Tensors of a PyTorch file that are not stored element by element, such as transposed ones, so that the file's map does not list them.
    /// - Parameter isKnown: whether it has a map. A file in which all are such has none in a store, and neither has one that can't be read.
    private func unlisted(
        _ view: CheckpointView, _ path: String, isKnown: Bool
    ) throws -> [Assembly.Tensor] {
        guard let file = view[path] else { return [] }
        do {
            let tree = try TorchTree(pyTorch: file.size) { try view.read(file, $0) }
            return tree.tensors.filter { $0.tensor.name == nil }.map { names, tensor in
                .init(whole: names.map(\.name).joined(separator: "."), tensor, file: path)
            }
        } catch let error as TensorFileError {
            guard isKnown else { return [] }
            throw CairnError(.usage, "\(path) can't be read: \(error.message)", path: path)
        }
    }

    /// The files with the tensors, as `from_pretrained` looks for them, and what they are called before numbers and extension.
    /// (transformers, `modeling_utils.py:_get_resolved_checkpoint_files`; peft, `save_and_load.py:load_peft_weights`)
    private func modelFiles(_ view: CheckpointView) throws -> (files: [String], name: String)? {
        for (file, pattern) in Self.models {
            if view.has(file) { return ([file], "model") }
            let index = file + ".index.json"
            let map = try view.json(index)?["weight_map"]?.members ?? []
            let shards = Set(map.compactMap { $0.value.stringValue }).sorted()
            if let lost = shards.first(where: { !view.has($0) }) {
                throw CairnError(.inconsistent, "\(lost) is missing, which \(index) names", path: lost)
            }
            if !shards.isEmpty { return (shards, "model") }
            let numbered = view.files(pattern).map(\.file.path)
            if !numbered.isEmpty { return (numbered, "model") }
        }
        let adapter = Self.adapters.first(where: view.has)
        return adapter.map { ([$0], "adapter_model") }
    }

    private static let models: [(file: String, shards: NamePattern)] = [
        ("model.safetensors", "model-#-of-#.safetensors"),
        ("pytorch_model.bin", "pytorch_model-#-of-#.bin"),
        // What FSDP put together when it was saved.
        ("pytorch_model_fsdp.bin", "pytorch_model_fsdp-#-of-#.bin"),
    ]
    private static let adapters = ["adapter_model.safetensors", "adapter_model.bin"]

    func beside(_ view: CheckpointView) -> [(path: String, name: String)] {
        view.files.map(\.path).filter(Self.isBeside).map { ($0, $0) }
    }

    /// What goes with the model: all that describes it, and what is nobody's.
    static func isBeside(_ path: String) -> Bool {
        switch ModelFiles.part(of: path) {
        case .other: true
        case .model: path.hasSuffix(".json") && !path.hasSuffix(".index.json")
        default: false
        }
    }
}
