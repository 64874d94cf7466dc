internal import Platform

/// The layouts that are known.
enum Layouts {
    /// In the order in which they are asked: one that is told by more comes before one that is told by less.
    static let all: [any Layout] = [
        CairnState(), MindFormers(), MindFormers1(), TensorFlow(), Orbax(), LlamaFactory1(), Lightning(),
        Megatron(),
        DeepSpeed(), VeRL(), DCP(), Accelerate(),
        HuggingFace(),
        // Single files.
        PlainTorch(), GGUF(), NumPy(),
    ]

    static func named(_ name: String) -> (any Layout)? { all.first { $0.name == name } }

    /// The layout that these files are in; nil where it is none that is known.
    static func layout(of view: CheckpointView) throws -> (any Layout)? {
        try all.first { try $0.recognises(view) }
    }
}

/// An iteration in an output folder, looked at.
struct Found: Sendable {
    var candidate: Candidate
    /// nil where no layout knows it: nothing was written yet but the folder, or something else has such a name.
    var layout: (any Layout)?
    var inspection: Inspection

    /// The global step: what the files say, else the number in the name.
    var step: UInt64? { inspection.step ?? candidate.step }
}

extension OutputFolder {
    /// What may be iterations, each once, by step.
    func candidates() throws -> [Candidate] {
        var found: [Candidate] = []
        var known: Set<Candidate> = []
        for layout in Layouts.all {
            for var candidate in try layout.candidates(in: self) where known.insert(candidate.key).inserted {
                // The same each time, whatever order the layout found things in.
                candidate.files?.sort()
                candidate.shared.sort()
                candidate.beside.sort()
                found.append(candidate)
            }
        }
        return found.sorted { ($0.step ?? .max, $0.name) < ($1.step ?? .max, $1.name) }
    }

    /// Looks at a candidate.
    /// - Throws: `.notFound` where it has vanished.
    func look(at candidate: Candidate) throws -> Found {
        let view = try view(of: candidate)
        guard let layout = try Layouts.layout(of: view) else {
            let fault =
                view.files.isEmpty
                ? "nothing is in it" : "it is in no layout that is known; see `cairn layouts`"
            return Found(candidate: candidate, layout: nil, inspection: Inspection(faults: [fault]))
        }
        return Found(candidate: candidate, layout: layout, inspection: try layout.inspect(view))
    }

    /// A candidate, looked at; nil where it has vanished, or is no iteration.
    func found(_ candidate: Candidate) throws -> Found? {
        do {
            let found = try look(at: candidate)
            return found.layout == nil && candidate.mayBeAnything ? nil : found
        } catch let error as CairnError where error.code == .notFound || error.code == .changed {
            return nil
        }
    }

    /// All iterations, whole or not, by step; what vanishes meanwhile is left out.
    /// - Parameter unreadable: what to make of one that can't be read; throws the error where nothing.
    func iterations(
        _ unreadable: (Candidate, CairnError) throws -> Found? = { throw $1 }
    ) throws -> [Found] {
        try candidates().compactMap { candidate in
            do { return try found(candidate) } catch let error as CairnError {
                return try unreadable(candidate, error)
            }
        }
        .sorted { ($0.step ?? .max, $0.candidate.name) < ($1.step ?? .max, $1.candidate.name) }
    }
}

extension Candidate {
    /// What two layouts mean that name the same files.
    var key: Candidate { Candidate(name: "", path: path, step: nil, files: files) }
}
