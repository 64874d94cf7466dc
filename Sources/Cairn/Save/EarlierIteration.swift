internal import ChunkStore
internal import Platform

/// The iteration that a save is compared with: its chunks by their places, which the new ones may equal or lean on.
///
/// It is kept from being removed until `release`.
final class EarlierIteration: Sendable {
    /// A tensor, or what is no tensor's, of the earlier iteration.
    struct Blob: Sendable {
        var ref: BlobRef
        /// The place of its first chunk in the table of fingerprints.
        var firstChunk: Int
    }

    private struct Place: Hashable {
        /// Empty where any file will do.
        var file: [UInt8]
        var name: [UInt8]
    }

    /// Of its manifest.
    let id: ChunkID
    private let chunks: ChunkStore
    private let table: FingerprintTable?
    private let blobs: [Place: Blob]
    private let lock: Monitor<ReaderLock?>
    private let step: UInt64
    private let roots: Roots

    /// - Parameter table: the run's; of no use where it is another iteration's.
    init(
        _ info: IterationInfo, _ manifest: Manifest, _ lock: ReaderLock, _ chunks: ChunkStore,
        _ table: FingerprintTable?
    ) {
        self.chunks = chunks
        self.lock = Monitor(lock)
        id = info.id
        step = info.step
        roots = manifest.roots
        var blobs: [Place: Blob] = [:]
        /// Names that stand in several files, of which none is meant without one.
        var ambiguous: Set<Place> = []
        let tree = BlobTree(chunkSize: chunks.chunkSize)
        var count = 0
        for entry in manifest.roots.entries {
            let names = manifest.blobNames(of: entry)
            for (ref, name) in zip(manifest.contentBlobs(of: entry), names) {
                let blob = Blob(ref: ref, firstChunk: count)
                count += tree.chunkCount(ref.length)
                blobs[Place(file: entry.path, name: name)] = blob
                blobs[Place(file: Self.withoutStep(entry.path, info.step), name: name)] = blob
                guard !name.isEmpty else { continue }
                let anywhere = Place(file: [], name: name)
                if blobs.updateValue(blob, forKey: anywhere) != nil { ambiguous.insert(anywhere) }
            }
        }
        for place in ambiguous { blobs[place] = nil }
        self.blobs = blobs
        self.table = table.flatMap { $0.manifest == info.id && $0.count == count ? $0 : nil }
    }

    /// Lets go of the iteration, which may be the one that a commit replaces. What leans on it by then is looked up in the commit.
    func release() { lock.change { $0 = nil } }

    /// What stood at the same place: in the file of the same path, or the path that only differs by the step; else wherever the one
    /// tensor of this name is.
    /// - Parameter step: of the save.
    func blob(file: [UInt8], name: [UInt8], step: UInt64) -> Blob? {
        blobs[Place(file: file, name: name)] ?? blobs[Place(file: Self.withoutStep(file, step), name: name)]
            ?? (name.isEmpty ? nil : blobs[Place(file: [], name: name)])
    }

    /// What it has at a path.
    func kind(of path: [UInt8]) -> Roots.Kind? { roots[path]?.kind }

    /// The ids of a blob's chunks; none where its list is damaged.
    func chunkIDs(of blob: Blob) -> [ChunkID] { (try? chunks.chunkIDs(of: blob.ref)) ?? [] }

    /// The fingerprints of one of a blob's chunks.
    func fingerprints(of blob: Blob, chunk: Int) -> FingerprintTable.Entry {
        table.map { $0[blob.firstChunk + chunk] } ?? (.none, .none)
    }

    /// A path in which every number that is the step is a `#`, as in `global_step500/`.
    private static func withoutStep(_ path: [UInt8], _ step: UInt64) -> [UInt8] {
        var result: [UInt8] = []
        var digits: [UInt8] = []
        let flush = {
            let isStep = UInt64(String(decoding: digits, as: UTF8.self)) == step
            result += isStep ? [UInt8(ascii: "#")] : digits
            digits = []
        }
        for byte in path {
            if StoreName.isDigit(byte) {
                digits.append(byte)
            } else {
                if !digits.isEmpty { flush() }
                result.append(byte)
            }
        }
        if !digits.isEmpty { flush() }
        return result
    }
}

extension Manifest {
    /// What the blobs of a file are called, in the order of `contentBlobs`: by their first tensor; an opaque file's has no name.
    func blobNames(of entry: Roots.Entry) -> [[UInt8]] {
        guard case .file(let content) = entry.kind else { return [] }
        switch content {
        case .opaque: return [[]]
        case .split(let schema, _): return schemas[schema]!.blobNames
        }
    }
}

extension Schema {
    /// What the blobs are called: by their first tensor; those without one by their number.
    var blobNames: [[UInt8]] {
        var names = [[UInt8]?](repeating: nil, count: blobLengths.count)
        for tensor in tensors where names[tensor.blob] == nil {
            names[tensor.blob] = [UInt8](tensor.name.utf8)
        }
        return names.enumerated().map { $1 ?? [UInt8]("\0\($0)".utf8) }
    }
}
