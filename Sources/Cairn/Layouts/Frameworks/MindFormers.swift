internal import Platform
internal import TensorFormats

/// What MindSpore Transformers writes as version 2.0: `iteration_00000500/` with files of model and optimizer, `common.json` with
/// the step, and `metadata.json` with where each slice is; beside them the number of the last one. (mindformers,
/// `checkpoint/checkpoint.py`)
struct MindFormers: Layout {
    var name: String { "mindformers" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "MindSpore Transformers 2.0", splits: true, resumes: true, exportsTo: "mindformers",
            exportsToHuggingFace: true)
    }

    private static let names: NamePattern = "iteration_#"
    private static let pointer = "latest_checkpointed_iteration.txt"
    private static let adapter = "mindformers_adapter_config.json"

    func candidates(in output: OutputFolder) throws -> [Candidate] {
        try output.folders(Self.names) + output.folders(Self.names, in: "checkpoint")
    }

    func recognises(_ view: CheckpointView) throws -> Bool {
        if !Self.files(view).isEmpty || view.has(Self.adapter) { return true }
        // What is there before the first file has its name.
        return Self.names.matches(view.name) && !view.files.isEmpty
            && view.files.allSatisfy { Self.isTemporary($0.path) }
    }

    private static func files(_ view: CheckpointView) -> [(path: String, name: MindFormersFileName)] {
        view.files.compactMap { file in MindFormersFileName(parsing: file.path).map { (file.path, $0) } }
    }

    private static func isTemporary(_ path: String) -> Bool { ModelFiles.part(of: path) == .marker }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        for file in view.files where !file.path.contains("/") && Self.isTemporary(file.path) {
            result.faults.append(
                "\(file.path) is there, so it is still being written, or its writing was cut off")
        }
        try readCommon(view, &result)
        let files = Self.files(view)
        result.faults += Self.gaps(files.map(\.name))
        let (metadata, faults) = try readMetadata(view)
        result.faults += faults
        let names = Set(metadata?.slices.flatMap { $0.places.map(\.fileName) } ?? []).union(files.map(\.path))
        result.faults += try Self.faults(inFiles: names.sorted(), metadata, view)
        if !names.contains(where: { MindFormersFileName(parsing: $0)?.kind == .optimizer }) {
            result.missing.append("the optimizer's state")
        }
        if let metadata {
            result.faults += Self.unstored(metadata)
            describe(metadata, &result)
        } else if files.contains(where: { $0.name.count > 1 }), faults.isEmpty {
            result.faults.append("\(MindFormersMetadata.fileName) is missing, which several ranks need")
        } else if !files.isEmpty {
            result.worldSize = 1
        }
        return result
    }

    private func readCommon(_ view: CheckpointView, _ result: inout Inspection) throws {
        guard let bytes = try view.read(MindFormersCommon.fileName) else {
            return result.faults.append("\(MindFormersCommon.fileName) is missing")
        }
        do {
            let common = try MindFormersCommon(parsing: bytes)
            if let step = common.globalStep.flatMap({ UInt64(exactly: $0) }), step <= Step.maximum {
                (result.step, result.stepFile) = (step, MindFormersCommon.fileName)
            }
            result.epoch = common.epoch.map { Double($0) }
            if let status = common.status, status != 0 {
                result.unhealthy = "\(MindFormersCommon.fileName) has the ckpt_status \(status)"
            }
            if let scale = common.lossScale { result.facts.append(("loss scale", "\(scale)")) }
            if let size = common.globalBatchSize { result.facts.append(("global batch size", String(size))) }
        } catch {
            result.faults.append(CheckpointView.inner(error.message))
        }
    }

    /// Files of a kind are numbered from 0 on, and say how many they are.
    private static func gaps(_ names: [MindFormersFileName]) -> [String] {
        [MindFormersFileName.Kind.model, .optimizer].compactMap { kind in
            let own = names.filter { $0.kind == kind }
            guard var name = own.first else {
                guard kind == .model else { return nil }
                guard var name = names.first else { return "the model's files are missing" }
                (name.kind, name.index) = (.model, 0)
                return "\(name.text) is missing"
            }
            guard own.allSatisfy({ $0.count == name.count && $0.prefix == name.prefix }) else {
                return "the files of the \(kind == .model ? "model" : "optimizer") are of two saves"
            }
            let indices = own.map { UInt64($0.index) }
            let missing =
                CheckpointView.gap(in: indices) ?? (own.count < name.count ? UInt64(own.count) : nil)
            guard let missing else { return nil }
            name.index = Int(missing)
            return "\(name.text) is missing"
        }
    }

    private func readMetadata(_ view: CheckpointView) throws -> (MindFormersMetadata?, faults: [String]) {
        guard let bytes = try view.read(MindFormersMetadata.fileName) else { return (nil, []) }
        do {
            return (try MindFormersMetadata(parsing: bytes), [])
        } catch {
            return (nil, [CheckpointView.inner(error.message)])
        }
    }

    /// Files that are not whole, and slices that are not in the files that should have them.
    private static func faults(
        inFiles names: [String], _ metadata: MindFormersMetadata?, _ view: CheckpointView
    ) throws -> [String] {
        let slices = metadata?.slices ?? []
        var wanted: [String: [Int]] = [:]
        for (index, slice) in slices.enumerated() {
            for place in slice.places { wanted[place.fileName, default: []].append(index) }
        }
        var faults: [String] = []
        for name in names where faults.count < CheckpointView.faultLimit {
            let (map, fault) = try view.tensorsOrFault(in: name)
            if let fault { faults.append(fault) }
            guard let map else { continue }
            let present = Set(map.tensors.map(\.name))
            let absent = (wanted[name] ?? []).map { slices[$0].tensor }.filter { !present.contains($0) }
            faults += absent.prefix(CheckpointView.faultLimit).map { "\(name) lacks the tensor \($0)" }
        }
        return faults
    }

    /// Slices that a rank has and no file. The optimizer's are all left away where it is not saved.
    private static func unstored(_ metadata: MindFormersMetadata) -> [String] {
        var stored: [String: Set<Int>] = [:]
        for slice in metadata.slices where !slice.places.isEmpty {
            stored[slice.tensor, default: []].insert(slice.slice)
        }
        let groups = TensorGroups(metadata.tensors.map(\.name))
        let faults = metadata.tensors.lazy.filter(\.isSaved).compactMap { tensor -> String? in
            let present = stored[tensor.name] ?? []
            if present.isEmpty, groups.part(of: tensor.name) != .model { return nil }
            guard let lost = tensor.chunks.map(\.slice).first(where: { !present.contains($0) }) else {
                return nil
            }
            return "\(MindFormersMetadata.fileName) stores slice \(lost) of the tensor \(tensor.name) nowhere"
        }
        return Array(faults.prefix(CheckpointView.faultLimit))
    }

    private func describe(_ metadata: MindFormersMetadata, _ result: inout Inspection) {
        let places = metadata.slices.flatMap(\.places)
        let ranks = metadata.tensors.compactMap { $0.layout?.ranks.max() } + places.map(\.rank)
        result.worldSize = ranks.max().map { $0 + 1 }
        if let layout = metadata.tensors.compactMap(\.layout).max(by: {
            $0.deviceMatrix.count < $1.deviceMatrix.count
        }) {
            let axes = zip(layout.axisNames, layout.deviceMatrix).map { "\($0) \($1)" }
            result.facts.append(("parallel layout", axes.joined(separator: ", ")))
        }
        let isOnce = metadata.slices.allSatisfy { $0.places.count == 1 }
        if isOnce, metadata.slices.contains(where: { ($0.places[0].holders?.count ?? 1) > 1 }) {
            result.facts.append(("redundancy", "removed"))
        }
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        if let name = MindFormersFileName(parsing: path) { return name.kind == .model ? .model : .optimizer }
        switch path {
        case MindFormersCommon.fileName: return .trainerState
        // Says where the slices are.
        case MindFormersMetadata.fileName, Self.adapter: return .model
        default: return ModelFiles.part(of: path)
        }
    }

    func pointers(to iteration: Candidate) -> [Pointer] {
        let folder = iteration.path.before(last: "/").map { $0 + "/" } ?? ""
        let name = iteration.path.dropFirst(folder.count)
        guard let number = Self.names.numbers(in: name.utf8)?.first else { return [] }
        return [Pointer(path: folder + Self.pointer, text: String(number), mode: 0o640)]
    }

    func pointed(in output: OutputFolder) throws -> Pointer? {
        for folder in ["", "checkpoint/"] {
            let siblings =
                try folder.isEmpty ? output.folders(Self.names) : output.folders(Self.names, in: "checkpoint")
            // Others have a pointer of the same name.
            guard !siblings.isEmpty, let text = try output.text(folder + Self.pointer)?.trimmed,
                Step.decimal(text.utf8) != nil
            else { continue }
            return Pointer(path: folder + Self.pointer, text: text, mode: 0o640)
        }
        return nil
    }

    func assembly(of view: CheckpointView) throws -> Assembly? {
        var assembly = Assembly()
        let (metadata, faults) = try readMetadata(view)
        guard faults.isEmpty else { return nil }
        if let metadata {
            try add(metadata, view, to: &assembly)
        } else {
            for (path, name) in Self.files(view) {
                // One card has all of each tensor.
                guard name.count == 1, let map = try view.tensors(in: path) else { return nil }
                let tensors = map.tensors.map { tensor in
                    Assembly.Tensor(whole: tensor.name, dtype: tensor.dtype, shape: tensor.shape, file: path)
                }
                if name.kind == .model { assembly.tensors += tensors } else { assembly.optimizer += tensors }
            }
        }
        assembly.files = view.has(Self.adapter) ? [(Self.adapter, Self.adapter)] : []
        return assembly
    }

    private func add(_ metadata: MindFormersMetadata, _ view: CheckpointView, to assembly: inout Assembly)
        throws
    {
        var stored: [String: [MindFormersMetadata.StoredSlice]] = [:]
        for slice in metadata.slices { stored[slice.tensor, default: []].append(slice) }
        for tensor in metadata.tensors {
            let slices = stored[tensor.name] ?? []
            let kind = slices.lazy.flatMap(\.places).compactMap {
                MindFormersFileName(parsing: $0.fileName)?.kind
            }.first
            var whole = Assembly.Tensor(
                name: tensor.name, dtype: DType(mindSporeName: tensor.dtype)?.name ?? tensor.dtype,
                shape: tensor.shape,
                pieces: [])
            for slice in slices {
                guard let area = try? tensor.area(ofSlice: slice.slice) else {
                    whole.problem = .init(why: "where its slices lie is not known")
                    continue
                }
                let place = Assembly.Piece.Place.box(
                    offset: area.map(\.lowerBound), shape: area.map { $0.upperBound - $0.lowerBound })
                whole.pieces += slice.places.map {
                    .init(file: $0.fileName, tensor: tensor.name, place: place)
                }
            }
            if kind == .optimizer { assembly.optimizer.append(whole) } else { assembly.tensors.append(whole) }
        }
    }
}
