internal import ChunkStore
internal import Platform
internal import TensorFormats

/// An iteration whose tensors are exported, and what is wanted of them.
struct ExportSubject {
    let info: IterationInfo
    let manifest: Manifest
    let view: CheckpointView
    let layout: any Layout
    let assembly: Assembly
    let options: ExportOptions
    let chunks: ChunkStore

    /// The longest JSON file that is read.
    private static let configLimit: UInt64 = 16 << 20

    /// A file of the user's.
    static func read(_ path: String) throws -> [UInt8] {
        let file = try File(Path(path), .read)
        let size = try file.status().size
        guard size <= configLimit else {
            throw CairnError(.usage, "\(path) has \(size) bytes, more than any file of its kind", path: path)
        }
        return try file.read(Int(size), at: 0)
    }

    /// The model's configuration: the one that was given, or the iteration's.
    func config() throws -> [UInt8]? {
        if let path = options.config {
            let bytes = try Self.read(path)
            guard (try? JSON(parsing: bytes, allowNonFinite: true)) != nil else {
                throw CairnError(
                    .usage, "\(path) is not JSON, so it can't be the model's config.json", path: path)
            }
            return bytes
        }
        guard let path = assembly.files.first(where: { $0.name == "config.json" })?.path,
            let entry = manifest.file(path), manifest.size(of: entry) <= Self.configLimit
        else { return nil }
        return try manifest.contentBlobs(of: entry).flatMap { try chunks.bytes(of: $0) }
    }

    /// What a file that some part of the framework writes says; nil where there is none, or it is none.
    func parsed<Value>(_ path: String, _ parse: ([UInt8]) throws -> Value) throws -> Value? {
        guard let bytes = try view.read(path) else { return nil }
        return try? parse(bytes)
    }
}
