internal import ChunkStore
internal import Platform

/// A file that is to be written: what it is made of, in order.
struct OutputFile: Sendable {
    enum Part: Sendable {
        case literal([UInt8])
        case blob(BlobRef)
        case gather(Gather)
        /// 4 bytes: the CRC-32 of the part of this number, little endian.
        case checksum(of: Int)
        case computed(any ComputedBytes)

        var length: UInt64 {
            switch self {
            case .literal(let bytes): UInt64(bytes.count)
            case .blob(let blob): blob.length
            case .gather(let gather): gather.length
            case .checksum: 4
            case .computed(let bytes): bytes.length
            }
        }

        /// How many stretches of blobs are gone through by turns; 0 where none is put together.
        var streams: Int {
            if case .gather(let gather) = self { gather.streams } else { 0 }
        }
    }

    /// Relative to the folder that is written.
    var path: [UInt8]
    var parts: [Part]

    var size: UInt64 { parts.reduce(0) { $0 + $1.length } }
}

extension Manifest {
    /// What a saved file is made of; nil for folders and links.
    func output(_ entry: Roots.Entry) -> OutputFile? {
        guard case .file(let content) = entry.kind else { return nil }
        let blobs = contentBlobs(of: entry)
        switch content {
        case .opaque(let blob): return OutputFile(path: entry.path, parts: [.blob(blob)])
        case .split(let schema, _):
            let parts: [OutputFile.Part] = schemas[schema]!.parts.map { part in
                switch part {
                case .literal(let bytes): .literal(bytes)
                case .blob(let index): .blob(blobs[index])
                }
            }
            return OutputFile(path: entry.path, parts: parts)
        }
    }

    /// The tensors and files in which a blob lies.
    func owners(of blob: BlobRef) -> (tensors: [String], files: [String]) {
        var tensors: [String] = []
        var files: [String] = []
        for entry in roots.entries {
            let blobs = contentBlobs(of: entry)
            guard blobs.contains(blob) else { continue }
            files.append(entry.text)
            if case .file(.split(let schema, _)) = entry.kind {
                tensors += schemas[schema]!.tensors.filter { blobs[$0.blob] == blob }.map(\.name)
            }
        }
        return (tensors, files)
    }
}
