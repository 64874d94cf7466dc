internal import Platform

/// Which files of a checkpoint are kept where the training's state is let go of: the weights, and what goes with them.
///
/// A file with anything of the weights is kept as a whole, also where most of it is the optimizer's state, as with ZeRO.
struct WeightFiles {
    private let layout: (any Layout)?
    /// Files that the model is put together from, whatever they are called.
    private let pieces: Set<String>
    /// Whether the Trainer's weights are in DeepSpeed's folder alone: with ZeRO 3 they are not gathered unless that is asked for.
    private let hasDeepSpeedWeights: Bool

    /// - Parameter known: the layout of files that tell it no more.
    /// - Throws: `.damage` and the like where what says where the weights are can't be read.
    init(_ view: CheckpointView, layout known: (any Layout)? = nil) throws {
        layout = try Layouts.layout(of: view) ?? known
        hasDeepSpeedWeights =
            try (layout == nil || layout is HuggingFace) && !HuggingFace().hasWeights(view)
        var pieces: Set<String> = []
        var seen: Set<Assembly.Piece.Ranks> = []
        for piece in try Self.model(of: view, layout) {
            pieces.insert(piece.file)
            guard case .shares(let ranks, _, _, _, _) = piece.place, seen.insert(ranks).inserted else {
                continue
            }
            pieces.formUnion(ranks.tensors.map(\.file))
        }
        self.pieces = pieces
    }

    /// None where nothing is put together: then the names of the files have to tell.
    private static func model(of view: CheckpointView, _ layout: (any Layout)?) throws -> [Assembly.Piece] {
        do {
            return try layout?.assembly(of: view)?.tensors.flatMap(\.allPieces) ?? []
        } catch let error as CairnError where error.code != .inconsistent && error.code != .usage {
            throw error
        } catch {
            return []
        }
    }

    func has(_ path: [UInt8]) -> Bool {
        guard let text = String(validating: path, as: UTF8.self) else {
            return ModelFiles.part(of: path).isOfModel
        }
        if pieces.contains(text) { return true }
        if hasDeepSpeedWeights, let slash = text.firstIndex(of: "/"),
            NamePattern("global_step#").matches(text[..<slash].utf8)
        {
            return DeepSpeed().part(of: String(text[text.index(after: slash)...]), tensor: nil).isOfModel
        }
        return (layout?.part(of: text, tensor: nil) ?? ModelFiles.part(of: path)).isOfModel
    }
}
