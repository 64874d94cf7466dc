internal import Platform
internal import TensorFormats

/// A state that was saved from memory, such as the Python package's: `cairn_state.json` with the trees of its parts, and `PART.safetensors`
/// with the tensors of each. Of several ranks each has that in a folder `rank_00000` of its own. (Docs/python.md)
struct CairnState: Layout {
    var name: String { StateIntake.layout }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "Cairn's own, from Python", splits: true, resumes: false, exportsTo: nil,
            exportsToHuggingFace: true)
    }

    static let stateFile = "cairn_state.json"
    /// The parts that are a model, the first that is there: of one that PEFT wraps the adapter alone, called as its file is.
    static let modelParts = ["model", "adapter_model"]
    private static let rankFolder: NamePattern = "rank_#/cairn_state.json"

    /// Nobody writes such folders but `restore`, under any name.
    func candidates(in output: OutputFolder) throws -> [Candidate] { [] }

    func recognises(_ view: CheckpointView) throws -> Bool { !Self.folders(view).isEmpty }

    /// The folders with a state, each with its `/` and by rank; `""` for the checkpoint's own.
    static func folders(_ view: CheckpointView) -> [String] {
        if view.has(stateFile) { return [""] }
        return view.files(rankFolder).map { String($0.file.path.dropLast(stateFile.count)) }
    }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        let folders = Self.folders(view)
        for folder in folders {
            if let fault = try view.fault(inJSON: folder + Self.stateFile) { result.faults.append(fault) }
        }
        guard let first = folders.first, let state = try view.json(first + Self.stateFile) else {
            return result
        }
        result.worldSize = state["worldSize"]?.int
        if let worldSize = result.worldSize, worldSize > 1 {
            for rank in 0..<min(worldSize, CheckpointView.faultLimit)
            where !folders.contains(Self.folder(rank)) {
                result.faults.append("\(Self.folder(rank))\(Self.stateFile) is missing")
            }
        }
        for folder in folders {
            let parts = try view.json(folder + Self.stateFile)?["parts"]?.members ?? []
            for part in parts where Self.namesTensors(part.value) {
                if let fault = try view.fault(inTensors: folder + part.key + ".safetensors") {
                    result.faults.append(fault)
                }
            }
        }
        let parts = (state["parts"]?.members ?? []).map(\.key)
        if !parts.isEmpty { result.facts.append(("parts", parts.joined(separator: ", "))) }
        return result
    }

    private static func folder(_ rank: Int) -> String {
        let digits = String(rank)
        return "rank_" + String(repeating: "0", count: max(0, 5 - digits.count)) + digits + "/"
    }

    /// Whether a part's tree has tensors, which stand in its file.
    private static func namesTensors(_ tree: JSON) -> Bool {
        switch tree {
        case .object(let members):
            members.contains { ["$tensor", "$array"].contains($0.key) || namesTensors($0.value) }
        case .array(let values): values.contains(where: namesTensors)
        default: false
        }
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        guard path.hasSuffix(".safetensors") else { return ModelFiles.part(of: path) }
        let name = path.split(separator: "/").last!.dropLast(".safetensors".count)
        if Self.modelParts.contains(String(name)) { return .model }
        if name.hasPrefix("optim") { return .optimizer }
        return name.hasPrefix("rng") ? .rng : .trainerState
    }

    func pointers(to iteration: Candidate) -> [Pointer] { [] }

    func rank(of path: String) -> Int? {
        guard let folder = path.split(separator: "/").first, folder.hasPrefix("rank_"),
            path.contains("/")
        else { return nil }
        return Int(folder.dropFirst(5))
    }
}
