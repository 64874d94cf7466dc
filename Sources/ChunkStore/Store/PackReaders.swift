internal import Platform

/// The packs that are open for reading, the longest unused closed first.
final class PackReaders: Sendable {
    private struct State {
        var files: [PackName: (buffered: File, direct: File)] = [:]
        var order: [PackName] = []
    }

    /// Two descriptors each: at most 128, and a quarter of what the process may have.
    private static let limit = max(1, min(64, Process.descriptorLimit / 8))
    private let folder: Path
    private let store: [UInt8]
    private let state = Monitor(State())

    init(folder: Path, store: [UInt8]) {
        self.folder = folder
        self.store = store
    }

    func path(_ name: PackName) -> Path { folder.appending(name.fileName) }

    /// The pack, open twice: through the page cache, for little, and past it, for much.
    func open(_ name: PackName) throws -> (buffered: File, direct: File) {
        if let files = state.change({ $0.files[name] }) { return files }
        let files = (buffered: try File(path(name), .read), direct: try File(path(name), .read, direct: true))
        state.change { state in
            if state.files.updateValue(files, forKey: name) == nil { state.order.append(name) }
            if state.order.count > Self.limit { state.files[state.order.removeFirst()] = nil }
        }
        return files
    }

    func forget(_ name: PackName) {
        state.change { state in
            state.files[name] = nil
            state.order.removeAll { $0 == name }
        }
    }

    /// Closes all of them. What is deleted takes up its space for as long as somebody has it open.
    func closeAll() { state.change { $0 = State() } }

    /// The entries of a pack's table, checked against what the journal says of it.
    func table(_ summary: PackSummary) throws -> [PackEntry] {
        let path = path(summary.name)
        do {
            let file = try File(path, .read)
            let bytes = try file.read(Int(summary.tableLength), at: summary.tableOffset)
            guard ChunkID.of(bytes) == summary.tableHash else { throw FormatError("fails its checksum") }
            return try PackFormat.entries(fromTable: bytes, tableOffset: summary.tableOffset)
        } catch let error as FormatError {
            throw CairnError(
                .damage, "the table of \(path) \(error); run `cairn repair`", path: path.text)
        } catch let error as CairnError where error.code == .notFound || error.code == .changed {
            throw CairnError(
                .damage,
                "the pack \(path) is missing or cut short; restore it from a copy, or run `cairn repair`",
                path: path.text)
        }
    }
}
