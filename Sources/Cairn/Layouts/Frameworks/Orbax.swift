internal import Platform
internal import TensorFormats

/// What orbax's `CheckpointManager` writes: `500/`, or `ckpt_500/` with a prefix, once all of it is there. Until then the folder has a name
/// with `.orbax-checkpoint-tmp` in it. (orbax, `checkpoint/_src/path/step.py` and `metadata/`)
struct Orbax: Layout {
    var name: String { "orbax" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "Orbax (JAX, Flax)", splits: false, resumes: true, exportsTo: nil,
            exportsToHuggingFace: false)
    }

    private static let metadata = "_CHECKPOINT_METADATA"
    /// In the names of what is not finished.
    private static let temporary = ".orbax-checkpoint-tmp"
    /// Whole numbers alone, and behind a prefix.
    private static let names: [NamePattern] = ["#", "*_#"]

    func candidates(in output: OutputFolder) throws -> [Candidate] {
        try Self.names.flatMap { output.folders($0) }.filter { candidate in
            // Many a folder is called `run_2`.
            try output.isIteration(named: true) {
                try output.entries(in: candidate.path)[Self.metadata]?.kind == .file
            }
        }
    }

    func step(ofFile name: String) -> UInt64? {
        Self.names.lazy.compactMap { $0.numbers(in: name.utf8)?.last }.first
    }

    func recognises(_ view: CheckpointView) -> Bool { view.has(Self.metadata) }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        for folder in view.folders where folder.contains(Self.temporary) {
            result.faults.append(
                "\(folder) is there, so it is still being written, or its writing was cut off")
        }
        guard let metadata = try view.json(Self.metadata), metadata.members != nil else {
            result.faults.append("\(Self.metadata) is not JSON, so its writing was cut off")
            return result
        }
        if metadata["commit_timestamp_nsecs"]?.isNull == true {
            result.faults.append("\(Self.metadata) says that it was never finished")
        }
        let items = metadata["item_handlers"]?.members?.map(\.key) ?? []
        for item in items.prefix(CheckpointView.faultLimit) {
            result.faults += try Self.faults(ofItem: item, view)
        }
        readMetrics(metadata["metrics"], &result)
        // Newer versions keep them in an item of their own.
        readMetrics(try view.json("metrics/metrics"), &result)
        if !items.isEmpty { result.facts.append(("items", items.joined(separator: ", "))) }
        return result
    }

    /// Of one of the things that were saved side by side, such as `state`.
    private static func faults(ofItem item: String, _ view: CheckpointView) throws -> [String] {
        guard view.hasFolder(item) else { return ["\(item) is missing"] }
        var faults: [String] = []
        let tree = item + "/_METADATA"
        if view.has(tree), let fault = try view.fault(inJSON: tree) { faults.append(fault) }
        // Each of these lists what lies in the `d` beside it. Nothing in either is ever empty.
        for folder in view.folders where folder == item || folder.hasPrefix(item + "/") {
            let manifest = folder + "/manifest.ocdbt"
            guard let file = view[manifest] else {
                if view.hasFolder(folder + "/d") { faults.append("\(manifest) is missing") }
                continue
            }
            if file.size > 0, try !isWhole(file, view) {
                faults.append("\(manifest) is not whole: it has not the length that it says")
            }
        }
        if view.has(item + "/manifest.ocdbt"), !view.has(tree) { faults.append("\(tree) is missing") }
        for file in view.files where file.size == 0 && file.path.hasPrefix(item + "/") {
            let parts = file.path.split(separator: "/")
            if parts.last == "manifest.ocdbt" || parts[parts.count - 2] == "d" {
                faults.append("\(file.path) is empty")
            }
        }
        return Array(faults.prefix(CheckpointView.faultLimit))
    }

    /// A manifest begins with four bytes that tell it, and its length. (tensorstore, `kvstore/ocdbt/format/codec_util.cc`)
    private static func isWhole(_ file: CheckpointView.File, _ view: CheckpointView) throws -> Bool {
        guard file.size >= 12 else { return false }
        let start = try view.read(file, 0..<12)
        let length = start[4...].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return start.starts(with: [0x0C, 0xDB, 0x3A, 0x2A]) && length == file.size
    }

    private func readMetrics(_ metrics: JSON?, _ result: inout Inspection) {
        for member in metrics?.members ?? [] {
            if let value = member.value.double { result.metrics[member.key] = value }
        }
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        if path.contains(Self.temporary) || path.hasSuffix("commit_success.txt") { return .marker }
        if path.hasPrefix("metrics/") { return .trainerState }
        // Model and optimizer lie in one item as a rule.
        return .model
    }

    func pointers(to iteration: Candidate) -> [Pointer] { [] }
}
