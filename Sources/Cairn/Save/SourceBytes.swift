internal import ChunkStore
internal import Platform

/// Tensors in memory, seen as one row of bytes.
struct MemorySource: @unchecked Sendable {
    // Unchecked: who adds memory to a save leaves it as it is until it was read.

    /// What is in memory of one extent.
    struct Piece {
        var bytes: UnsafeRawBufferPointer
        /// The bytes that it had in the iteration that the save is compared with, as many; nil where they are not known.
        var earlier: UnsafeRawPointer?
    }

    /// Whether nobody can change it before it was read, not even by mistake: then it is used where it lies.
    let isPrivate: Bool
    private(set) var pieces: [Piece] = []
    /// Where each begins in the row, and where the last ends.
    private(set) var bounds: [UInt64] = [0]

    init(isPrivate: Bool) { self.isPrivate = isPrivate }

    mutating func append(_ piece: Piece) {
        pieces.append(piece)
        bounds.append(bounds.last! + UInt64(piece.bytes.count))
    }

    /// Copies what lies from a place on.
    fileprivate func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) {
        var (offset, filled) = (offset, 0)
        // The last piece that begins there or before.
        var index = pieces.indices.partitioningIndex { bounds[$0] > offset } - 1
        while filled < target.count {
            let inside = Int(offset - bounds[index])
            let count = min(target.count - filled, pieces[index].bytes.count - inside)
            let part = UnsafeRawBufferPointer(rebasing: pieces[index].bytes[inside..<inside + count])
            UnsafeMutableRawBufferPointer(rebasing: target[filled..<filled + count]).copyMemory(from: part)
            filled += count
            offset += UInt64(count)
            index += 1
        }
    }
}

/// Where the bytes of a source come from.
enum SourceBytes: Sendable {
    case file(File, Path, FileStatus)
    case memory(MemorySource)

    init(_ content: Ingest.Source.Content) throws {
        switch content {
        case .file(let path, let status):
            do {
                self = .file(try File(path, .read), path, status)
            } catch {
                throw error.code == .notFound ? SourceTree.changed(path, "vanished") : error
            }
        case .memory(let memory): self = .memory(memory)
        }
    }

    func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        switch self {
        case .file(let file, let path, _):
            guard try file.read(into: target, at: offset) == target.count else {
                throw SourceTree.changed(path, "became shorter")
            }
        case .memory(let memory): memory.read(into: target, at: offset)
        }
    }

    /// A range of an extent where it lies, if it stays as it is there.
    func inPlace(_ extent: Int, _ offset: UInt64, _ count: Int) -> UnsafeRawBufferPointer? {
        guard case .memory(let memory) = self, memory.isPrivate else { return nil }
        let start = Int(offset)
        return UnsafeRawBufferPointer(rebasing: memory.pieces[extent].bytes[start..<start + count])
    }

    /// What stood in a range of an extent in the earlier iteration, where that is in memory.
    func earlier(_ extent: Int, _ offset: UInt64, _ count: Int) -> UnsafeRawBufferPointer? {
        guard case .memory(let memory) = self, let base = memory.pieces[extent].earlier else { return nil }
        return UnsafeRawBufferPointer(start: base + Int(offset), count: count)
    }

    /// - Throws: `.changed` where a file is not what it was.
    func checkUnchanged() throws {
        guard case .file(let file, let path, let status) = self else { return }
        if try file.status().differsInContent(from: status) { throw SourceTree.changed(path, "changed") }
    }
}
