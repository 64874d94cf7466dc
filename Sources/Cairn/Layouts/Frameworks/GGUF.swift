internal import Platform
internal import TensorFormats

/// Models as llama.cpp reads them, in one file or in several: `tiny-00001-of-00003.gguf`. (ggml, `docs/gguf.md`)
struct GGUF: Layout {
    var name: String { "gguf" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "GGUF (llama.cpp)", splits: true, resumes: false, exportsTo: nil,
            exportsToHuggingFace: false)
    }

    private static let ending = ".gguf"
    private static let shards: NamePattern = "*-#-of-#.gguf"

    /// Only where a name says that it is a step: most numbers in them are sizes of models.
    func candidates(in output: OutputFolder) throws -> [Candidate] {
        output.names.filter { $0.hasSuffix(Self.ending) && output.hasFile($0) && !Self.shards.matches($0) }
            .compactMap { name in
                let said = CheckpointName(name.dropLast(Self.ending.count))
                guard let step = said.step ?? said.epoch else { return nil }
                return Candidate(name: name, path: name, step: step, mayBeAnything: true)
            }
    }

    func step(ofFile name: String) -> UInt64? {
        name.hasSuffix(Self.ending) ? CheckpointName(name.dropLast(Self.ending.count)).step : nil
    }

    func recognises(_ view: CheckpointView) throws -> Bool {
        let models = Self.models(view)
        guard !models.isEmpty,
            !view.names().contains(where: { ModelFiles.part(of: $0) == .model && $0 != "config.json" })
        else {
            return false
        }
        return try models.contains {
            try $0.size == 0 || view.read($0, 0..<min(4, $0.size)) == Array("GGUF".utf8)
        }
    }

    private static func models(_ view: CheckpointView) -> [CheckpointView.File] {
        view.files.filter { !$0.path.contains("/") && $0.path.hasSuffix(ending) }
    }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        let models = Self.models(view)
        for file in models.prefix(CheckpointView.faultLimit) {
            if let fault = try view.fault(inTensors: file.path) { result.faults.append(fault) }
        }
        result.faults += Self.gaps(view)
        if let first = models.first,
            let header = try? GGUFHeader(size: first.size, read: { try view.read(first, $0) })
        {
            let facts = [
                ("architecture", header.architecture), ("model", header.name),
                ("precision", header.quantization),
            ]
            result.facts = facts.compactMap { name, value in value.map { (name, $0) } }
        }
        return result
    }

    /// The files of a model are numbered from 1 on, and say how many they are.
    private static func gaps(_ view: CheckpointView) -> [String] {
        var families: [String: [[UInt64]]] = [:]
        for (file, numbers) in view.files(shards) {
            guard let stem = file.path.before(last: "-of-"), let family = stem.before(last: "-") else {
                continue
            }
            families[family, default: []].append(Array(numbers.suffix(2)))
        }
        return families.sorted { $0.key < $1.key }.compactMap { family, shards in
            let count = shards[0][1]
            guard shards.allSatisfy({ $0[1] == count }) else {
                return "the files of \(family) are of two models"
            }
            let gap = CheckpointView.gap(in: shards.map { $0[0] }, from: 1)
            guard let missing = gap ?? (UInt64(shards.count) < count ? UInt64(shards.count) + 1 : nil) else {
                return nil
            }
            return "\(family)-\(missing.padded(5))-of-\(count.padded(5)).gguf is missing"
        }
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        path.hasSuffix(Self.ending) ? .model : ModelFiles.part(of: path)
    }

    func pointers(to iteration: Candidate) -> [Pointer] { [] }
}
