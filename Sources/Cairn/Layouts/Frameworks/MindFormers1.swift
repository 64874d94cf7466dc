internal import Platform
internal import TensorFormats

/// What MindSpore Transformers writes as version 1.0: a folder for each rank with a file of each step in it, `rank_0/meta.json`
/// with the last one, and beside them how the tensors are spread over the ranks. (mindformers,
/// `core/callback/callback.py:CheckpointMonitor`, `tools/resume_ckpt.py`)
struct MindFormers1: Layout {
    var name: String { "mindformers1" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "MindSpore Transformers 1.0", splits: true, resumes: true, exportsTo: "mindformers1",
            exportsToHuggingFace: true)
    }

    func candidates(in output: OutputFolder) throws -> [Candidate] {
        try Self.places.flatMap { try candidates(in: output, at: $0) }
    }

    private func candidates(in output: OutputFolder, at place: Place) throws -> [Candidate] {
        let ranks = try place.ranks(in: output)
        guard !ranks.isEmpty else { return [] }
        // By the name that rank 0 gives it.
        var found: [String: (name: MindFormers1FileName, files: [String])] = [:]
        for rank in ranks {
            for name in try output.entries(in: rank.path).keys {
                guard let file = MindFormers1FileName(parsing: name), UInt64(file.rank) == rank.step else {
                    continue
                }
                found[file.of(rank: 0).text, default: (file.of(rank: 0), [])].files.append(
                    rank.path + "/" + name)
            }
        }
        let shared = try strategies(beside: place, output)
        let beside = ranks.map { place.meta($0.step!) } + (place.prefix.isEmpty ? [] : [Self.health])
        return found.values.map { name, files in
            Candidate(
                name: name.stem, path: "",
                step: name.epoch == 1 && UInt64(name.step) <= Step.maximum ? UInt64(name.step) : nil,
                files: (files + shared).sorted(), shared: shared, beside: beside)
        }
    }

    /// How the tensors are spread, which is the same for all of them. It lies beside the ranks' folder, so that it is found from the
    /// output folder alone.
    private func strategies(beside place: Place, _ output: OutputFolder) throws -> [String] {
        guard !place.prefix.isEmpty else { return [] }
        return try output.entries(in: Self.strategyFolder).keys.filter { Self.strategy.matches($0) }
            .map { Self.strategyFolder + "/" + $0 }.sorted()
    }

    func recognises(_ view: CheckpointView) -> Bool { iteration(in: view) != nil }

    /// The files of the ranks, which are of one step; nil where they are not.
    func iteration(
        in view: CheckpointView
    ) -> (place: Place, name: MindFormers1FileName, files: [Int: CheckpointView.File])? {
        for place in Self.places {
            var (name, files): (MindFormers1FileName?, [Int: CheckpointView.File]) = (nil, [:])
            for file in view.files where file.path.hasPrefix(place.prefix) {
                let parts = file.path.dropFirst(place.prefix.count).split(
                    separator: "/", omittingEmptySubsequences: false)
                guard parts.count == 2, let found = MindFormers1FileName(parsing: String(parts[1])),
                    Self.rankFolder.numbers(in: parts[0].utf8) == [UInt64(found.rank)]
                else { continue }
                guard name == nil || name == found.of(rank: 0) else { return nil }
                name = found.of(rank: 0)
                files[found.rank] = file
            }
            if let name { return (place, name, files) }
        }
        return nil
    }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        guard let (place, name, files) = iteration(in: view) else { return result }
        let folders = view.folders.compactMap { folder in
            folder.hasPrefix(place.prefix)
                ? Self.rankFolder.numbers(in: folder.utf8.dropFirst(place.prefix.utf8.count))?.first : nil
        }
        result.worldSize = folders.count
        if let rank = CheckpointView.gap(in: folders) {
            result.faults.append("\(place.folder(rank)) is missing")
        }
        for rank in folders.sorted().map({ Int($0) }).filter({ files[$0] == nil }).prefix(
            CheckpointView.faultLimit)
        {
            result.faults.append("\(place.folder(rank))/\(name.of(rank: rank).text) is missing")
        }
        result.faults += try metaFaults(view, place, name, folders) + strategyFaults(view)
        try readNumbers(view, files, &result)
        result.unhealthy = try unhealthy(view, name) ?? view.knownUnhealthy
        result.facts.append(("files", name.format))
        if let mesh = try mesh(view) { result.facts.append(("parallel layout", mesh)) }
        return result
    }

    /// What the ranks say of the last file that each has finished. Where none says anything, none is asked.
    private func metaFaults(
        _ view: CheckpointView, _ place: Place, _ name: MindFormers1FileName, _ ranks: [UInt64]
    ) throws -> [String] {
        guard ranks.contains(where: { view.has(place.meta($0)) }) else { return [] }
        return try ranks.sorted().compactMap { rank in
            let path = place.meta(rank)
            guard let bytes = try view.read(path) else { return "\(path) is missing" }
            guard let last = Self.last(bytes) else {
                return "\(path) does not say which file is the last one"
            }
            guard last.prefix == name.prefix, name.isBehind(last) else { return nil }
            return "\(path) names \(last.text) as the last one, so this one was not finished"
        }
    }

    /// What says how tensors are spread: without it, nobody can put them together.
    private func strategyFaults(_ view: CheckpointView) throws -> [String] {
        try view.files(Self.strategy, in: Self.strategyFolder).compactMap { file, _ in
            do {
                _ = try ParallelStrategy(parsing: try view.read(file.path) ?? [])
                return nil
            } catch let error as TensorFileError {
                return CheckpointView.fault(file.path, error.message)
            }
        }
    }

    /// The step and what else the files keep as tensors of one element; they must agree.
    private func readNumbers(
        _ view: CheckpointView, _ files: [Int: CheckpointView.File], _ result: inout Inspection
    ) throws {
        var hasOptimizer = false
        for (_, file) in files.sorted(by: { $0.key < $1.key }) {
            let (known, fault) = try view.tensorsOrFault(in: file.path)
            if let fault { result.faults.append(fault) }
            guard let map = known else { continue }
            hasOptimizer = hasOptimizer || TensorGroups(map.tensors.map(\.name)).hasOptimizer
            let number =
                try view.number("global_step", in: file, map) ?? view.number("step_num", in: file, map)
            guard let step = number?.step else { continue }
            if let known = result.step, known != step {
                result.faults.append(
                    "\(file.path) is of step \(step), and that of another rank of step \(known)")
                continue
            }
            (result.step, result.stepFile) = (step, file.path)
            if result.epoch == nil { result.epoch = try view.number("epoch_num", in: file, map)?.double }
        }
        if !hasOptimizer { result.missing.append("the optimizer's state") }
    }

    private func unhealthy(_ view: CheckpointView, _ name: MindFormers1FileName) throws -> String? {
        let entries = try view.json(Self.health)?.array ?? []
        // Of several, the last one is the newest.
        guard let entry = entries.last(where: { $0["ckpt_name"]?.stringValue == name.text }),
            let health = entry["is_health"]?.int, health != 0
        else { return nil }
        return "\(Self.health) says so"
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        let file = path.split(separator: "/").last.map(String.init) ?? ""
        if file == MindFormers1Meta.fileName || file == Self.health { return .marker }
        // How the model is spread is needed wherever the model goes.
        if Self.strategy.matches(file) { return .model }
        guard MindFormers1FileName(parsing: file) != nil else { return ModelFiles.part(of: path) }
        return tensor.map { TensorGroups.part(of: $0) } ?? .model
    }

    func pointers(to iteration: Candidate) -> [Pointer] {
        (iteration.files ?? []).compactMap { path in
            guard let folder = path.before(last: "/"),
                let name = MindFormers1FileName(parsing: String(path.dropFirst(folder.count + 1)))
            else { return nil }
            let meta = MindFormers1Meta(epoch: name.epoch, step: name.step, file: name.text)
            return Pointer(
                path: folder + "/" + MindFormers1Meta.fileName,
                text: String(decoding: meta.serialized(), as: UTF8.self), says: name.of(rank: 0).stem,
                mode: 0o640)
        }
    }

    /// The folder with those of the ranks.
    func argument(for iteration: Candidate) -> String {
        let files = iteration.files ?? []
        return Self.places.contains { place in
            !place.prefix.isEmpty && files.contains { $0.hasPrefix(place.prefix + "rank_") }
        } ? "checkpoint" : ""
    }

    func rank(of path: String) -> Int? {
        MindFormers1FileName(parsing: path.split(separator: "/").last.map(String.init) ?? "")?.rank
    }

    // It lists the folder before it deletes, and whenever it goes on.
    var allowsMoving: Bool { true }

    // What puts the ranks' files together anew takes whatever lies in a rank's folder.
    var wantsOneStep: Bool { true }

    /// The least of what the ranks say, from which the framework looks for one that all of them have.
    func pointed(in output: OutputFolder) throws -> Pointer? {
        for place in Self.places {
            let said = try place.ranks(in: output).compactMap {
                rank -> (path: String, name: MindFormers1FileName)? in
                let path = place.meta(rank.step!)
                guard let text = try output.text(path), let name = Self.last(Array(text.utf8)) else {
                    return nil
                }
                return (path, name.of(rank: 0))
            }
            if let least = said.min(by: { $1.name.isBehind($0.name) }) {
                return Pointer(path: least.path, text: least.name.stem, mode: 0o640)
            }
        }
        return nil
    }
}
