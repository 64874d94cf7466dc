internal import ChunkStore
internal import Platform
internal import TensorFormats

/// What was added to a save from memory, by files, and what became of it.
struct StateFiles {
    /// A tensor, or all of a small file.
    fileprivate struct Item {
        var name: String
        /// nil for a small file.
        var dtype: DType?
        var shape: [UInt64]
        var bytes: UnsafeRawBufferPointer
        var earlier: UnsafeRawPointer?
        var ids: [ChunkID] = []
        var fingerprints: [FingerprintTable.Entry] = []
    }

    fileprivate struct File {
        var path: [UInt8]
        var items: [Item] = []
        var names: Set<ExactText> = []
        var taken = 0
        /// The bytes of a small file.
        var copy: Copy?
    }

    /// Memory of its own.
    fileprivate final class Copy {
        let bytes: UnsafeMutableRawBufferPointer

        init(_ source: UnsafeRawBufferPointer) {
            bytes = .allocate(byteCount: max(1, source.count), alignment: 8)
            bytes.copyMemory(from: source)
        }

        deinit { bytes.deallocate() }
    }

    fileprivate var files: [File] = []
    private var places: [[UInt8]: Int] = [:]
    /// Those that the files lie in.
    private var folders: Set<[UInt8]> = [[]]

    /// Tensors and files that were taken.
    var takenCount: Int { files.reduce(0) { $0 + $1.taken } }

    var pendingBytes: UInt64 {
        files.reduce(0) { $0 + $1.items[$1.taken...].reduce(0) { $0 + UInt64($1.bytes.count) } }
    }

    mutating func add(_ tensor: StateSave.Tensor) throws {
        guard tensor.file.hasSuffix(".safetensors") else {
            throw CairnError(
                .usage, "tensors go into files that end in .safetensors, and \(tensor.file) does not")
        }
        guard let dtype = DType(rawValue: tensor.dtype) else {
            throw CairnError(.usage, "\(tensor.name) has the dtype \(tensor.dtype), which safetensors lacks")
        }
        guard dtype.byteCount(shape: tensor.shape) == UInt64(tensor.bytes.count) else {
            throw CairnError(
                .usage,
                "\(tensor.name) has \(tensor.bytes.count) bytes, which are not those of \(tensor.dtype) in the shape "
                    + "\(tensor.shape)")
        }
        let place = try place(of: tensor.file)
        guard files[place].copy == nil, files[place].names.insert(ExactText(tensor.name)).inserted else {
            throw CairnError(.usage, "two tensors of \(tensor.file) are called \(tensor.name)")
        }
        files[place].items.append(
            Item(
                name: tensor.name, dtype: dtype, shape: tensor.shape, bytes: tensor.bytes,
                earlier: tensor.earlier))
    }

    mutating func add(_ path: String, _ bytes: UnsafeRawBufferPointer) throws {
        let place = try place(of: path)
        guard files[place].copy == nil, files[place].items.isEmpty else {
            throw CairnError(.usage, "the file \(path) was added already")
        }
        let copy = Copy(bytes)
        files[place].copy = copy
        files[place].items = [
            Item(
                name: "", shape: [],
                bytes: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(copy.bytes)[..<bytes.count]))
        ]
    }

    /// The place of a file among all, which it gets where it is new.
    private mutating func place(of text: String) throws -> Int {
        let path = [UInt8](text.utf8)
        if let known = places[path] { return known }
        let entry = Roots.Entry(path: path, kind: .folder, mode: 0, mtime: 0, nanoseconds: 0)
        do { try entry.check() } catch {
            throw CairnError(.usage, "the path \(quoted(text)) can't be saved: it \(error)")
        }
        guard !path.isEmpty else { throw CairnError(.usage, "a file without a name can't be saved") }
        let above = path.indices.filter { path[$0] == UInt8(ascii: "/") }.map { [UInt8](path[..<$0]) }
        guard !folders.contains(path), !above.contains(where: { places[$0] != nil }) else {
            throw CairnError(
                .usage,
                "\(quoted(text)) can't be saved, as one file would lie below another; rename one of them")
        }
        folders.formUnion(above)
        places[path] = files.count
        files.append(File(path: path))
        return files.count - 1
    }
}

// MARK: Taking

extension StateFiles {
    /// What is to be taken: a source for each file that has any.
    /// - Parameters:
    ///   - isPrivate: whether nobody can change the tensors' memory.
    ///   - hasSame: whether the earlier iteration has a file as it was when the bytes at hand were saved.
    func sources(isPrivate: Bool, _ hasSame: ([UInt8]) -> Bool) -> [Ingest.Source] {
        files.filter { $0.taken < $0.items.count }.map { file in
            let isSame = hasSame(file.path)
            var memory = MemorySource(isPrivate: isPrivate || file.copy != nil)
            var extents: [FilePlan.Extent] = []
            for item in file.items[file.taken...] {
                extents.append(
                    .init(
                        offset: memory.bounds.last!, length: UInt64(item.bytes.count),
                        elementSize: item.dtype?.bytesPerNumber ?? 1))
                memory.append(.init(bytes: item.bytes, earlier: isSame ? item.earlier : nil))
            }
            return Ingest.Source(
                content: .memory(memory), place: file.path, extents: extents,
                names: file.items[file.taken...].map { [UInt8]($0.name.utf8) })
        }
    }

    /// Notes what became of `sources`.
    mutating func take(_ outcome: Ingest.Outcome) {
        var source = 0
        for index in files.indices where files[index].taken < files[index].items.count {
            let first = files[index].taken
            for place in first..<files[index].items.count {
                files[index].items[place].ids = outcome.ids[source][place - first]
                if !outcome.fingerprints.isEmpty {
                    files[index].items[place].fingerprints = outcome.fingerprints[source][place - first]
                }
            }
            files[index].taken = files[index].items.count
            source += 1
        }
    }

    /// Everything is to be taken once more.
    mutating func forgetTaken() { for index in files.indices { files[index].taken = 0 } }
}

// MARK: The checkpoint

extension StateFiles {
    /// The files and the folders that they lie in.
    /// - Parameter time: their modification time, in nanoseconds since 1970 UTC.
    func entries(time: Int64) -> [StoredEntry] {
        let all: [([UInt8], StoredEntry.Content, UInt16)] =
            folders.map { ($0, .folder, 0o755) } + files.map { ($0.path, .file($0.stored), 0o644) }
        return all.map { path, content, mode in
            StoredEntry(
                path: path, content: content, mode: mode, seconds: time / 1_000_000_000,
                nanoseconds: UInt32(time % 1_000_000_000))
        }
    }
}

extension StateFiles.File {
    fileprivate var stored: StoredFile {
        guard copy == nil else {
            return StoredFile(
                plan: FilePlan(opaque: UInt64(items[0].bytes.count)),
                ids: items[0].bytes.isEmpty ? [] : [items[0].ids],
                fingerprints: items[0].bytes.isEmpty ? [] : [items[0].fingerprints])
        }
        let (header, order) = SafetensorsHeader.canonicalHeader(
            tensors: items.map { ($0.name, $0.dtype!, $0.shape, UInt64($0.bytes.count)) },
            metadata: [("format", "pt")])
        let sorted = order.map { items[$0] }
        var offset = UInt64(header.count)
        var extents: [FilePlan.Extent] = []
        for item in sorted {
            let length = UInt64(item.bytes.count)
            extents.append(.init(offset: offset, length: length, elementSize: item.dtype!.bytesPerNumber))
            offset += length
        }
        let schema = Schema(
            format: "safetensors", blobLengths: extents.map(\.length),
            tensors: sorted.enumerated().map { place, item in
                .init(
                    name: item.name, dtype: item.dtype!.name, shape: item.shape, blob: place, offset: 0,
                    length: UInt64(item.bytes.count))
            }, parts: [.literal(header)] + extents.indices.map { .blob($0) })
        return StoredFile(
            plan: FilePlan(extents: extents, schema: schema), ids: sorted.map(\.ids),
            fingerprints: sorted.map(\.fingerprints))
    }
}
