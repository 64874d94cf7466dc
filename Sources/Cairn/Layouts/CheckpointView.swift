internal import Platform
internal import TensorFormats

/// A checkpoint as layouts look at it: the files of a folder on disk, or those that an iteration in the store has.
///
/// Of a single file, the only path is its name. Names that are not UTF-8 are in no layout, so they are left out here.
struct CheckpointView: Sendable {
    struct File: Sendable, Hashable {
        /// Below the checkpoint's folder, parts separated by `/`.
        var path: String
        /// Bytes.
        var size: UInt64
        /// Modification time: seconds since 1970 UTC, and nanoseconds below 10^9.
        var seconds: Int64
        var nanoseconds: UInt32
    }

    /// What the folder or file is called, such as `checkpoint-500`.
    let name: String
    /// Sorted by path. A link stands for the file that it points to.
    let files: [File]
    /// Sorted; without the checkpoint's own.
    let folders: [String]
    /// Nobody said that it is whole: a training may be about to write more, and what is written last has to be there.
    var mayBeUnfinished = true
    /// Why it was called unhealthy when it was saved, by a file that is not in it.
    var knownUnhealthy: String?
    private let content: Content

    /// Where files' contents come from.
    struct Content: Sendable {
        /// The bytes of a range inside a file.
        var bytes: @Sendable (File, Range<UInt64>) throws -> [UInt8]
        /// The tensors in a file; nil where it holds none that are known.
        var tensors: @Sendable (File) throws -> TensorMap?
    }

    init(name: String, files: [File], folders: [String], content: Content) {
        self.name = name
        self.files = files.sorted { $0.path < $1.path }
        self.folders = folders.sorted()
        self.content = content
    }

    subscript(path: String) -> File? {
        Self.place(of: path, among: files.count) { files[$0].path }.map { files[$0] }
    }

    func has(_ path: String) -> Bool { self[path] != nil }

    func hasFolder(_ path: String) -> Bool {
        Self.place(of: path, among: folders.count) { folders[$0] } != nil
    }

    private static func place(of path: String, among count: Int, _ paths: (Int) -> String) -> Int? {
        let place = (0..<count).partitioningIndex { paths($0) >= path }
        return place < count && paths(place) == path ? place : nil
    }

    /// The names right in a folder, of files and folders, sorted. `""` is the checkpoint's own.
    func names(in folder: String = "") -> [String] {
        let prefix = folder.isEmpty ? "" : folder + "/"
        let below = (files.map(\.path) + folders).filter {
            $0.hasPrefix(prefix) && !$0.dropFirst(prefix.count).contains("/") && $0.count > prefix.count
        }
        return below.map { String($0.dropFirst(prefix.count)) }.sorted()
    }

    /// The files right in a folder whose names match, with the numbers that stand for the `#`s; by these numbers.
    func files(_ pattern: NamePattern, in folder: String = "") -> [(file: File, numbers: [UInt64])] {
        let prefix = folder.isEmpty ? "" : folder + "/"
        return files.compactMap { file in
            guard file.path.hasPrefix(prefix),
                let numbers = pattern.numbers(in: file.path.utf8.dropFirst(prefix.utf8.count))
            else { return nil }
            return (file, numbers)
        }.sorted { $0.numbers.lexicographicallyPrecedes($1.numbers) }
    }

    /// The same without the folder above: what lies in `checkpoint-500/actor` as if that were the checkpoint.
    func view(of folder: String) -> CheckpointView {
        let prefix = folder + "/"
        func below(_ path: String) -> String? {
            path.hasPrefix(prefix) ? String(path.dropFirst(prefix.count)) : nil
        }
        let inner = files.compactMap { file in
            below(file.path).map { path in
                File(path: path, size: file.size, seconds: file.seconds, nanoseconds: file.nanoseconds)
            }
        }
        let whole = { @Sendable (file: File) in
            var copy = file
            copy.path = prefix + file.path
            return copy
        }
        let content = content
        return CheckpointView(
            name: String(folder.split(separator: "/").last ?? ""), files: inner,
            folders: folders.compactMap(below),
            content: Content(
                bytes: { try content.bytes(whole($0), $1) }, tensors: { try content.tensors(whole($0)) }))
    }
}

// MARK: Reading

extension CheckpointView {
    /// The most bytes of a file that is read as a whole: texts and JSON.
    static let wholeLimit: UInt64 = 256 << 20

    /// The bytes of a range that lies inside a file.
    /// - Throws: `.notFound` where the file is gone, `.changed` where it became shorter, `.damage` where the store's bytes are damaged.
    func read(_ file: File, _ range: Range<UInt64>) throws -> [UInt8] {
        let read = try content.bytes(file, range)
        guard read.count == range.count else {
            throw CairnError(.changed, "\(file.path) became shorter while it was read", path: file.path)
        }
        return read
    }

    /// All bytes of a file; nil where there is none of that name.
    /// - Throws: also `.usage` where it is larger than any file of its kind.
    func read(_ path: String) throws -> [UInt8]? {
        guard let file = self[path] else { return nil }
        guard file.size <= Self.wholeLimit else {
            throw CairnError(.usage, "\(path) is larger than any file of its kind", path: path)
        }
        return try read(file, 0..<file.size)
    }

    func text(_ path: String) throws -> String? {
        try read(path).map { String(decoding: $0, as: UTF8.self) }
    }

    /// A file's JSON; nil where there is no such file, or where it is not JSON. `NaN` and `Infinity`, as Python writes them, are fine.
    func json(_ path: String) throws -> JSON? {
        guard let bytes = try read(path) else { return nil }
        return try? JSON(parsing: bytes, allowNonFinite: true)
    }

    /// The tensors that a file holds, by name, dtype and shape; nil where it holds none that are known.
    /// - Throws: also `TensorFileError`, `TensorFileError` and the like where the file is not what its name says.
    func tensors(in path: String) throws -> TensorMap? {
        guard let file = self[path] else { return nil }
        return try content.tensors(file)
    }
}
