internal import ChunkStore
internal import TensorFormats

/// A tensor that a saved file holds.
struct SourceTensor: Sendable {
    /// Below the checkpoint's folder.
    var file: String
    var dtype: String
    var shape: [UInt64]
    /// Bytes.
    var length: UInt64
}

/// The tensors of an iteration's files, each with a number once it was asked for.
///
/// Tensors of one file that are the same memory, and the same in it, have the same number.
struct SourceTensors {
    /// Why there is no such tensor.
    enum Missing: Error {
        case file
        /// The file is kept as it is.
        case split
        case tensor
    }

    /// What a tensor is but for its name.
    private struct Memory: Hashable {
        var blob: Int
        var offset: UInt64
        var dtype: String
        var shape: [UInt64]
    }

    /// A storage of which there are views.
    private struct Storage: Hashable {
        var file: ExactText
        var start: UInt64
        var dtype: String
    }

    /// A file's tensors, looked at when the first of them is asked for.
    private final class File {
        let schema: Schema
        let blobs: [BlobRef]
        private(set) var places: [ExactText: Int] = [:]
        var numbers: [Memory: Int] = [:]

        init(_ schema: Schema, _ blobs: [BlobRef]) {
            self.schema = schema
            self.blobs = blobs
            for (place, tensor) in schema.tensors.enumerated() { places[ExactText(tensor.name)] = place }
        }
    }

    /// By their numbers.
    private(set) var tensors: [SourceTensor] = []
    /// Where their bytes are.
    private(set) var sources: [Gather.Source] = []
    private let manifest: Manifest
    private var files: [ExactText: File] = [:]
    private var storages: [Storage: Int] = [:]

    init(_ manifest: Manifest) { self.manifest = manifest }

    /// The number of a tensor.
    /// - Parameters:
    ///   - name: as the file's `TensorMap` has it.
    ///   - path: below the checkpoint's folder.
    mutating func number(of name: String, in path: String) throws(Missing) -> Int {
        let file = try file(path)
        guard let place = file.places[ExactText(name)] else { throw .tensor }
        let tensor = file.schema.tensors[place]
        let memory = Memory(
            blob: tensor.blob, offset: tensor.offset, dtype: tensor.dtype, shape: tensor.shape)
        if let number = file.numbers[memory] { return number }
        file.numbers[memory] = tensors.count
        tensors.append(
            SourceTensor(file: path, dtype: tensor.dtype, shape: tensor.shape, length: tensor.length))
        sources.append(.init(blob: file.blobs[tensor.blob], offset: tensor.offset))
        return tensors.count - 1
    }

    /// The number of a storage, all of it as one row of elements, of which a file has views.
    /// - Parameters:
    ///   - range: of the file: one blob, or of one that has no other tensors and so is kept as it is, a part of that.
    ///   - bits: of an element.
    mutating func number(
        ofStorage range: Range<UInt64>, _ dtype: String, bits: UInt64, in path: String
    ) throws(Missing) -> Int {
        let key = Storage(file: ExactText(path), start: range.lowerBound, dtype: dtype)
        if let number = storages[key] { return number }
        let source = try source(of: range, in: path)
        storages[key] = tensors.count
        let length = range.upperBound - range.lowerBound
        let shape = [min(length, 1 << 60) * 8 / bits]
        tensors.append(SourceTensor(file: path, dtype: dtype, shape: shape, length: length))
        sources.append(source)
        return tensors.count - 1
    }

    private mutating func source(
        of range: Range<UInt64>, in path: String
    ) throws(Missing) -> Gather.Source {
        if case .file(.opaque(let blob)) = manifest.file(path)?.kind {
            guard range.upperBound <= blob.length else { throw .tensor }
            return Gather.Source(blob: blob, offset: range.lowerBound)
        }
        let file = try file(path)
        guard let blob = file.schema.blob(at: range) else { throw .tensor }
        return Gather.Source(blob: file.blobs[blob], offset: 0)
    }

    private mutating func file(_ path: String) throws(Missing) -> File {
        if let known = files[ExactText(path)] { return known }
        guard let entry = manifest.file(path) else { throw .file }
        guard case .file(.split(let schema, _)) = entry.kind else { throw .split }
        let file = File(manifest.schemas[schema]!, manifest.contentBlobs(of: entry))
        files[ExactText(path)] = file
        return file
    }
}

extension Manifest {
    /// The file at a path, or the one that a link there stands for.
    func file(_ path: String) -> Roots.Entry? {
        guard let entry = roots[[UInt8](path.utf8)] else { return nil }
        switch entry.kind {
        case .file: return entry
        case .link(let target): return roots.file(behind: target, from: entry.path)
        case .folder: return nil
        }
    }
}

extension Schema {
    /// The blob that is just these bytes of the file.
    fileprivate func blob(at range: Range<UInt64>) -> Int? {
        var offset: UInt64 = 0
        for part in parts {
            guard offset <= range.lowerBound else { return nil }
            let length = length(of: part)
            if case .blob(let index) = part, offset == range.lowerBound {
                return length == range.upperBound - range.lowerBound ? index : nil
            }
            offset += length
        }
        return nil
    }
}
