internal import Platform
internal import TensorFormats

/// What `tf.train.Checkpoint` and its manager write: `ckpt-30.index` beside `ckpt-30.data-00000-of-00001`, several steps in one folder.
/// (tensorflow, `python/checkpoint/checkpoint_management.py`)
struct TensorFlow: Layout {
    var name: String { "tensorflow" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "TensorFlow checkpoints", splits: false, resumes: true, exportsTo: nil,
            exportsToHuggingFace: false)
    }

    private static let ending = ".index"
    private static let pointer = "checkpoint"

    func candidates(in output: OutputFolder) throws -> [Candidate] {
        var files: [String: [String]] = [:]
        for name in output.names where output.hasFile(name) {
            guard let prefix = Self.prefix(of: name) else { continue }
            files[prefix, default: []].append(name)
        }
        return files.compactMap { prefix, files in
            // Data alone is what is written first; without a number it may be anything's.
            guard let step = Self.step(prefix) else { return nil }
            return Candidate(name: prefix, path: "", step: step, files: files.sorted())
        }
    }

    func step(ofFile name: String) -> UInt64? { Self.prefix(of: name).flatMap(Self.step) }

    /// What the names of a checkpoint's files have in common.
    private static func prefix(of name: String) -> String? {
        if name.hasSuffix(ending) { return String(name.dropLast(ending.count)) }
        guard NamePattern("*.data-#-of-#").matches(name) else { return nil }
        return name.before(last: ".data-")
    }

    /// The number at its end, as in `ckpt-30` and `cp-0030.ckpt`.
    private static func step(_ prefix: String) -> UInt64? {
        let stem = prefix.hasSuffix(".ckpt") ? prefix.dropLast(5) : prefix[...]
        let digits = stem.utf8.reversed().prefix(while: StoreName.isDigit)
        return Step.decimal(digits.reversed())
    }

    func recognises(_ view: CheckpointView) throws -> Bool {
        guard let prefix = Self.prefix(in: view) else { return false }
        if let index = view[prefix + Self.ending] {
            return try index.size < 8 || TensorBundle.ends(view.read(index, index.size - 8..<index.size))
        }
        return Self.step(prefix) != nil
    }

    /// What all files are called; nil where there are other ones.
    private static func prefix(in view: CheckpointView) -> String? {
        let prefixes = view.files.filter { $0.path != pointer }.map { prefix(of: $0.path) }
        guard let first = prefixes.first, let first, prefixes.allSatisfy({ $0 == first }) else { return nil }
        return first
    }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        guard let prefix = Self.prefix(in: view) else { return result }
        let index = prefix + Self.ending
        guard let bytes = try view.read(index) else {
            result.faults.append("\(index) is missing, which is written last")
            return result
        }
        do {
            let bundle = try TensorBundle(parsing: bytes)
            result.faults = Self.faults(bundle, prefix, view)
            if result.faults.isEmpty { try readStep(bundle, prefix, view, &result) }
            result.facts.append(("tensors", String(bundle.tensors.count)))
        } catch let error as TensorFileError {
            result.faults.append(CheckpointView.fault(index, error.message))
        }
        return result
    }

    private static func faults(_ bundle: TensorBundle, _ prefix: String, _ view: CheckpointView) -> [String] {
        let lengths = bundle.shardLengths
        // No more are looked for than there can be, whatever number the index says.
        let shards = Set(lengths.keys).union(0..<min(bundle.shardCount, UInt64(view.files.count) + 1))
        return shards.sorted().lazy.compactMap { shard in
            let name = prefix + TensorBundle.shardSuffix(shard, of: bundle.shardCount)
            guard let file = view[name] else { return "\(name) is missing" }
            let length = lengths[shard] ?? 0
            return file.size < length ? "\(name) ends at byte \(file.size) of \(length)" : nil
        }.prefix(CheckpointView.faultLimit).map { $0 }
    }

    /// Where a training keeps its global step.
    private static let steps = [
        "global_step", "step", "step/.ATTRIBUTES/VARIABLE_VALUE", "global_step/.ATTRIBUTES/VARIABLE_VALUE",
        "optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE", "optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE",
    ]

    private func readStep(
        _ bundle: TensorBundle, _ prefix: String, _ view: CheckpointView, _ result: inout Inspection
    ) throws {
        for name in Self.steps {
            guard let tensor = bundle.tensors.first(where: { $0.name == name }), let dtype = tensor.dtype,
                let file = view[prefix + TensorBundle.shardSuffix(tensor.shard, of: bundle.shardCount)],
                let step = try view.number(dtype, tensor.shape, tensor.offset, tensor.length, in: file)?.step
            else { continue }
            (result.step, result.stepFile) = (step, file.path)
            return
        }
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        if path == Self.pointer { return .marker }
        // The optimizer's state lies in the same data files.
        return Self.prefix(of: path) == nil ? .other : .model
    }

    func pointers(to iteration: Candidate) -> [Pointer] {
        let name = argument(for: iteration)
        guard !name.isEmpty else { return [] }
        let text = name.escapedForTextProto
        return [
            Pointer(
                path: Self.pointer,
                text: "model_checkpoint_path: \"\(text)\"\nall_model_checkpoint_paths: \"\(text)\"\n",
                says: name)
        ]
    }

    /// What the names of its files begin with.
    func argument(for iteration: Candidate) -> String {
        iteration.files?.lazy.compactMap { Self.prefix(of: $0) }.first ?? ""
    }

    func pointed(in output: OutputFolder) throws -> Pointer? {
        guard output.hasFile(Self.pointer), let text = try output.text(Self.pointer) else { return nil }
        let key = "model_checkpoint_path:"
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(key) }) else { return nil }
        let value = line.dropFirst(key.count).trimmed
        guard value.count > 2, value.hasPrefix("\""), value.hasSuffix("\"") else { return nil }
        let name = value.dropFirst().dropLast().split(separator: "/").last ?? ""
        return name.isEmpty ? nil : Pointer(path: Self.pointer, text: text, says: String(name))
    }
}

extension String {
    /// Inside the quotes of a text proto.
    fileprivate var escapedForTextProto: String {
        String(flatMap { $0 == "\"" || $0 == "\\" ? ["\\", $0] : [$0] })
    }
}
