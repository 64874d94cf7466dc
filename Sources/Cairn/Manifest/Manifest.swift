internal import ChunkStore
internal import Platform

/// The schema of one file can't be read, and with it the manifest.
struct SchemaDamage: Error {
    /// The file's path, for people.
    var file: String
    var cause: CairnError

    var error: CairnError {
        CairnError(cause.code, "the schema of \(file): \(cause.message)", path: cause.path)
    }
}

/// An iteration's description, read and decoded: the head, the roots, and the schema of each split file.
struct Manifest {
    let head: Head
    let roots: Roots
    /// By the blobs that hold them.
    let schemas: [BlobRef: Schema]

    /// - Parameter read: all bytes of a blob, checked.
    /// - Throws: `.damage` where the bytes are no manifest; `SchemaDamage` where `read` finds that for one file; what `read` throws.
    init(head bytes: [UInt8], read: (BlobRef) throws -> [UInt8]) throws {
        var schemas: [BlobRef: Schema] = [:]
        do {
            head = try Head(decoding: bytes)
            roots = try Roots(decoding: try read(head.roots)) { blob in
                if let known = schemas[blob] { return known }
                let schema = try Schema(decoding: try read(blob))
                schemas[blob] = schema
                return schema
            }
        } catch let error as FormatError {
            throw CairnError(
                .damage, "the manifest \(ChunkID.of(bytes).hex.prefix(16)) \(error); run `cairn verify`")
        }
        self.schemas = schemas
    }

    /// Every blob that a manifest refers to: what a collection must keep.
    static func blobs(of head: [UInt8], read: (BlobRef) throws -> [UInt8]) throws -> [BlobRef] {
        let manifest: Manifest
        do { manifest = try Manifest(head: head, read: read) } catch let error as SchemaDamage {
            throw error.error
        }
        return manifest.blobs
    }

    /// Every blob that it refers to.
    var blobs: [BlobRef] {
        [head.roots, head.metadata] + schemas.keys + roots.entries.flatMap { contentBlobs(of: $0) }
    }

    /// The blobs with a file's own bytes, in the order of its schema; none for folders and links.
    func contentBlobs(of entry: Roots.Entry) -> [BlobRef] {
        guard case .file(let content) = entry.kind else { return [] }
        switch content {
        case .opaque(let blob): return [blob]
        case .split(let schema, let ids):
            return zip(schemas[schema]!.blobLengths, ids).map { BlobRef(length: $0, id: $1) }
        }
    }

    /// Bytes of a file; 0 for others.
    func size(of entry: Roots.Entry) -> UInt64 {
        guard case .file(let content) = entry.kind else { return 0 }
        switch content {
        case .opaque(let blob): return blob.length
        case .split(let schema, _): return schemas[schema]!.fileSize
        }
    }
}
