internal import ChunkStore

/// What an iteration says of itself, whatever it was made from.
struct SaveHeading {
    var run: String
    var step: UInt64
    var layout: String
    /// The output folder, absolute; empty where it was saved from memory.
    var origin: String
    var metrics: [String: Double]
    /// JSON texts.
    var metadata: [String: String]
}

/// A file whose content is put.
struct StoredFile {
    var plan: FilePlan
    /// By extent of the plan.
    var ids: [[ChunkID]]
    /// In the same order; empty where no fingerprints are made.
    var fingerprints: [[FingerprintTable.Entry]]
}

/// A file, folder or link of an iteration that is about to be committed.
struct StoredEntry {
    enum Content {
        case file(StoredFile)
        case folder
        case link(target: [UInt8])
    }

    /// Below the checkpoint's folder; empty for that itself.
    var path: [UInt8]
    var content: Content
    var mode: UInt16
    /// Since 1970 UTC.
    var seconds: Int64
    var nanoseconds: UInt32

    var file: StoredFile? { if case .file(let file) = content { file } else { nil } }

    /// Puts what says how the file's content is put together.
    func root(_ writer: ManifestWriter) throws -> Roots.Entry {
        let kind: Roots.Kind =
            switch content {
            case .file(let file): .file(try writer.content(file.plan, file.ids))
            case .folder: .folder
            case .link(let target): .link(target: target)
            }
        return Roots.Entry(path: path, kind: kind, mode: mode, mtime: seconds, nanoseconds: nanoseconds)
    }
}
