internal import ChunkStore
internal import Platform
internal import TensorFormats

/// An iteration's tensors under the names that its framework's users know: those that its layout puts together, and behind them whatever
/// else its files hold, as it is stored.
struct NamedTensors {
    struct Tensor {
        var info: TensorInfo
        /// What stands where, counted in bytes.
        var bytes: Elements
    }

    private(set) var tensors: [Tensor] = []
    /// Where their bytes are.
    private(set) var sources: [Gather.Source] = []
    /// Why some of the tensors have no names but those of the files, in sentences without their full stops.
    private(set) var problems: [String] = []
    private var assembler: Assembler
    /// Stored tensors that are in one of those that are put together.
    private var used: Set<Key> = []
    private var knownRanks: Set<Assembly.Piece.Ranks> = []
    private let manifest: Manifest
    private let layout: (any Layout)?

    private struct Key: Hashable {
        /// Of the file that a link stands for.
        var file: [UInt8]
        var tensor: ExactText
    }

    /// - Parameter isComparing: whether their bytes are wanted: then pieces that hold the same elements have to have the same bytes, some of
    ///   which may have to be read, and what can't be put together is none of the tensors.
    /// - Throws: `.damage` where what is read can't be.
    init(
        _ chunks: ChunkStore, _ info: IterationInfo, _ manifest: Manifest, _ view: CheckpointView,
        isComparing: Bool
    ) throws {
        self.manifest = manifest
        assembler = Assembler(chunks, manifest, checksOverlaps: isComparing)
        layout = try Layouts.layout(of: view) ?? Layouts.named(info.layout)
        let assembly = try assembly(of: view)
        for (part, tensors) in [
            (ModelFiles.Part.model, assembly?.tensors), (.optimizer, assembly?.optimizer),
        ] { for tensor in tensors ?? [] { try add(tensor, part, isComparing: isComparing) } }
        sources = assembler.sources
        for entry in manifest.roots.entries { addRest(of: entry) }
    }

    /// nil where the layout knows nothing of how its tensors are cut, or can't put them together.
    private mutating func assembly(of view: CheckpointView) throws -> Assembly? {
        do {
            return try layout?.assembly(of: view)
        } catch let error as CairnError where Self.isOfContent(error) {
            problems.append(error.message)
            return nil
        }
    }

    /// Whether files contradict each other, which is no reason to say nothing of them.
    private static func isOfContent(_ error: CairnError) -> Bool {
        error.code == .inconsistent || error.code == .usage
    }

    private mutating func add(
        _ wanted: Assembly.Tensor, _ part: ModelFiles.Part, isComparing: Bool
    ) throws {
        let gathered: GatheredTensor
        do {
            gathered = try assembler.tensor(wanted)
        } catch let error as CairnError where Self.isOfContent(error) {
            problems.append(error.message)
            if !isComparing, wanted.problem != nil { list(wanted, part) }
            return
        }
        var pieces = 0
        for piece in wanted.allPieces {
            if case .shares(let ranks, _, let count, let share, _) = piece.place {
                // As many ranks as it takes; where it is empty, none.
                pieces += min(ranks.tensors.count, Int(clamping: count == 0 ? 0 : (count - 1) / share + 1))
                if knownRanks.insert(ranks).inserted {
                    for tensor in ranks.tensors { use(tensor.file, tensor.tensor) }
                }
            } else {
                pieces += 1
                use(piece.file, piece.tensor)
            }
        }
        for copy in wanted.copies where assembler.isCopy(copy, of: wanted) { use(copy.file, copy.tensor) }
        let info = TensorInfo(
            name: wanted.name, dtype: wanted.dtype, shape: wanted.shape, bytes: gathered.bytes.count,
            group: part.rawValue, pieces: max(1, pieces))
        tensors.append(Tensor(info: info, bytes: gathered.bytes))
    }

    /// What is known of a tensor of which no bytes are.
    private mutating func list(_ wanted: Assembly.Tensor, _ part: ModelFiles.Part) {
        let bits = UInt64(DType(rawValue: wanted.dtype)?.bitsPerElement ?? 0)
        let (length, overflow) = (wanted.shape.product ?? 0).multipliedReportingOverflow(by: bits)
        let info = TensorInfo(
            name: wanted.name, dtype: wanted.dtype, shape: wanted.shape, bytes: overflow ? 0 : length / 8,
            group: part.rawValue, pieces: max(1, wanted.allPieces.count))
        tensors.append(Tensor(info: info, bytes: .empty))
    }

    private mutating func use(_ file: String, _ tensor: String) {
        let path = manifest.file(file)?.path ?? [UInt8](file.utf8)
        used.insert(Key(file: path, tensor: ExactText(tensor)))
    }

    /// What a file holds and nothing was put together from.
    private mutating func addRest(of entry: Roots.Entry) {
        guard case .file(.split(let schema, _)) = entry.kind else { return }
        let blobs = manifest.contentBlobs(of: entry)
        let path = String(decoding: entry.path, as: UTF8.self)
        for tensor in manifest.schemas[schema]!.tensors
        where !used.contains(Key(file: entry.path, tensor: ExactText(tensor.name))) {
            let part = layout?.part(of: path, tensor: tensor.name) ?? ModelFiles.part(of: entry.path)
            let info = TensorInfo(
                name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, bytes: tensor.length,
                group: part.rawValue, file: entry.text)
            let bytes = Elements.source(sources.count, start: 0, count: tensor.length)
            tensors.append(Tensor(info: info, bytes: bytes))
            sources.append(.init(blob: blobs[tensor.blob], offset: tensor.offset))
        }
    }

    /// The first few problems, and how many more there are.
    var listedProblems: [String] {
        let more = problems.count - Self.named
        return problems.prefix(Self.named) + (more > 0 ? ["\(more) more tensors can't be put together"] : [])
    }

    private static let named = 3
}
