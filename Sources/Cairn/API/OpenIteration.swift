internal import ChunkStore
internal import Platform
internal import TensorFormats

/// Bytes of an iteration that are wanted in memory.
public struct StateRead: @unchecked Sendable {
    // Unchecked: who asks for bytes leaves the target alone until they have come.

    /// The file that holds the tensor, below the checkpoint's folder; nil: it is one that the iteration's layout puts together.
    public var file: String?
    /// The tensor; nil: the file's own bytes.
    public var name: String?
    /// What is wanted along each axis, of a file along its only one; nil: everything.
    public var region: [Range<UInt64>]?
    /// Exactly as many bytes as are read: they come in the order of the shape.
    public var target: UnsafeMutableRawBufferPointer

    public init(
        file: String? = nil, name: String?, region: [Range<UInt64>]? = nil,
        target: UnsafeMutableRawBufferPointer
    ) {
        (self.file, self.name, self.region, self.target) = (file, name, region, target)
    }
}

/// An iteration of which tensors are read one by one. It is kept from being removed while this exists.
public final class OpenIteration: Sendable {
    public let info: IterationInfo
    let store: Store
    let manifest: Manifest
    private let lock: ReaderLock
    private let named = Monitor<NamedTensorReads?>(nil)
    private let files = Monitor<[ExactText: FileTensors]>([:])

    init(_ store: Store, _ info: IterationInfo) throws {
        self.store = store
        self.info = info
        (manifest, lock) = try store.manifest(of: info)
    }

    /// What it holds. Tensors as in `Store.show`: under the names of the model, whole.
    public func details() throws -> IterationDetails { try store.details(info, manifest, lock) }

    /// The tensors as the files hold them, in the order of the files.
    public var stored: [TensorInfo] {
        manifest.roots.entries.flatMap { entry -> [TensorInfo] in
            guard case .file(.split(let schema, _)) = entry.kind else { return [] }
            return manifest.schemas[schema]!.tensors.map {
                TensorInfo(
                    name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: $0.length, file: entry.text)
            }
        }
    }

    /// A tensor by its name, found without looking at all others: of a state that one process saved from memory, in no pieces. `NAME` is one of
    /// the model's, `PART.NAME` any part's. nil where it takes `details` to tell, as where two parts could have it.
    public func tensorOfState(_ name: String) throws -> TensorInfo? {
        guard let bytes = try store.view(of: info, manifest, lock).read(CairnState.stateFile),
            // Somewhere in it pieces may be told of.
            !bytes.withUnsafeBytes({ $0.contains("\"shards\"") })
        else { return nil }
        func found(_ name: Substring, part: Substring) -> TensorInfo? {
            let file = part + ".safetensors"
            var info = tensors(of: String(file))?.info(String(name))
            info?.file = String(file)
            return info
        }
        if let tensor = found(name[...], part: "model") { return tensor }
        // A part's name may have dots, too.
        let dots = name.utf8.indices.filter { name.utf8[$0] == UInt8(ascii: ".") }
        let fitting = dots.compactMap { found(name[name.utf8.index(after: $0)...], part: name[..<$0]) }
        return fitting.count == 1 ? fitting[0] : nil
    }

    /// Reads tensors, slices of them and files into memory: on all jobs, every chunk checked. Where it fails, targets may hold anything.
    /// - Throws: `.notFound` where there is no such file or tensor; `.usage` for a region that is not inside of it, or a target of another
    ///   size; `.damage` with the names of the tensors and files.
    public func read(_ reads: [StateRead], progress: Progress = .silent) throws {
        defer { progress.end() }
        progress.begin(phase: "reading", totalBytes: reads.reduce(0) { $0 + UInt64($1.target.count) })
        let outputs = try reads.flatMap { try self.outputs($0) }
        let damaged = try MemoryWriter(store.chunks, outputs, settings: store.settings).run(progress)
        if !damaged.isEmpty { throw store.damage(info, manifest, damaged) }
    }

    private func outputs(_ read: StateRead) throws -> [MemoryWriter.Output] {
        guard let name = read.name else { return try bytes(of: read.file ?? "", read) }
        let (tensor, sources) = try read.file.map { try stored(name, in: $0) } ?? named(name)
        let wanted = try region(read, of: tensor.shape, name)
        var slice = tensor
        do {
            for (axis, range) in wanted.enumerated() { slice = try slice.sliced(axis: axis, range) }
        } catch {
            throw CairnError(
                .usage, "\(name) is \(tensor.dtype), and that slice of it begins or ends within a byte")
        }
        let gather = slice.gather(sources)
        try check(read, gather.length, name)
        return [.init(part: .gather(gather), range: 0..<gather.length, target: read.target)]
    }

    private func region(
        _ read: StateRead, of shape: [UInt64], _ name: String
    ) throws(CairnError) -> [Range<UInt64>] {
        guard let region = read.region else { return shape.map { 0..<$0 } }
        guard region.count == shape.count, zip(region, shape).allSatisfy({ $0.upperBound <= $1 }) else {
            throw CairnError(.usage, "the slice \(region) is not inside of \(name), whose shape is \(shape)")
        }
        return region
    }

    private func check(_ read: StateRead, _ length: UInt64, _ name: String) throws(CairnError) {
        guard UInt64(read.target.count) == length else {
            throw CairnError(
                .usage, "\(length) bytes of \(name) are wanted in memory for \(read.target.count) bytes")
        }
    }

    private func named(_ name: String) throws -> (GatheredTensor, [Gather.Source]) {
        try named.change { known in
            if known == nil { known = try NamedTensorReads(store, info, manifest, lock) }
            guard let found = known![name] else {
                throw missing("tensor \(name)", "see its tensors with `cairn show REF --tensors`")
            }
            return found
        }
    }

    private func missing(_ what: String, _ advice: String) -> CairnError {
        CairnError(.notFound, "\(info.run)@\(info.step) has no \(what); \(advice)")
    }

    /// The tensors of a file; nil where there is no such file.
    private func tensors(of file: String) -> FileTensors? {
        files.change { files in
            if let known = files[ExactText(file)] { return known }
            guard let entry = manifest.file(file) else { return nil }
            let tensors = FileTensors(manifest, entry)
            files[ExactText(file)] = tensors
            return tensors
        }
    }

    private func stored(_ name: String, in file: String) throws -> (GatheredTensor, [Gather.Source]) {
        guard let tensors = tensors(of: file) else {
            throw missing("file \(file)", "see its files with `cairn show REF --files`")
        }
        guard let found = tensors[name] else {
            throw missing("tensor \(name) in \(file)", "see its tensors with `cairn show REF --tensors`")
        }
        return found
    }

    /// What a range of a file is made of.
    private func bytes(of file: String, _ read: StateRead) throws -> [MemoryWriter.Output] {
        guard let entry = manifest.file(file), let output = manifest.output(entry) else {
            throw missing("file \(file)", "see its files with `cairn show REF --files`")
        }
        let wanted = try region(read, of: [output.size], file)[0]
        try check(read, wanted.upperBound - wanted.lowerBound, file)
        var outputs: [MemoryWriter.Output] = []
        var start: UInt64 = 0
        for part in output.parts {
            let end = start + part.length
            let (lower, upper) = (max(start, wanted.lowerBound), min(end, wanted.upperBound))
            if lower < upper {
                let place = Int(lower - wanted.lowerBound)..<Int(upper - wanted.lowerBound)
                outputs.append(
                    .init(
                        part: part, range: lower - start..<upper - start,
                        target: UnsafeMutableRawBufferPointer(rebasing: read.target[place])))
            }
            start = end
        }
        return outputs
    }
}

extension Store {
    /// Opens an iteration to read tensors from it.
    public func openIteration(_ reference: String) throws -> OpenIteration {
        try OpenIteration(self, resolve(reference))
    }
}
