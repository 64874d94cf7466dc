internal import ChunkStore
internal import Platform

/// Reads files once, cuts their blobs into chunks, hashes them and hands them to a save: on all jobs, in memory that does not grow
/// with the checkpoint.
final class Ingest: Sendable {
    /// A file with its plan.
    struct Source: Sendable {
        var path: Path
        var status: FileStatus
        var extents: [FilePlan.Extent]
    }

    /// Bytes of a file that are read in one go, and chunks that are looked up in one go.
    private static let unitSize: UInt64 = 4 << 20
    private static let unitChunks = 1024

    /// A stretch of one file, and the pieces of blobs in it: whole chunks but for a blob's last.
    private struct Unit: Sendable {
        var source: Int
        var range: Range<UInt64>
        var pieces: [Piece]
        struct Piece: Sendable {
            var extent: Int
            var range: Range<UInt64>
        }
    }

    private struct State {
        var next = 0
        var failed = false
        var files: [Int: (file: File, left: Int)] = [:]
        /// By source and then by extent.
        var ids: [[[ChunkID]]]
        var chunks = 0
    }

    private let sources: [Source]
    private let units: [Unit]
    private let unitsOfSource: [Int]
    private let chunkSize: UInt64
    private let state: Monitor<State>

    init(_ sources: [Source], chunkSize: Int) {
        self.sources = sources
        self.chunkSize = UInt64(chunkSize)
        var units: [Unit] = []
        for index in sources.indices { Self.cut(sources[index], index, UInt64(chunkSize), into: &units) }
        self.units = units
        unitsOfSource = units.reduce(into: [Int](repeating: 0, count: sources.count)) { $0[$1.source] += 1 }
        let tree = BlobTree(chunkSize: chunkSize)
        state = Monitor(
            State(
                ids: sources.map { source in
                    source.extents.map { [ChunkID](repeating: .zero, count: tree.chunkCount($0.length)) }
                }))
    }

    private static func cut(_ source: Source, _ index: Int, _ chunkSize: UInt64, into units: inout [Unit]) {
        var unit: Unit?
        var chunks = 0
        let stride = unitSize / chunkSize * chunkSize
        for (extentIndex, extent) in source.extents.enumerated() where extent.length > 0 {
            var start = extent.offset
            let end = extent.offset + extent.length
            while start < end {
                let piece = start..<min(start + stride, end)
                let pieceChunks = Int((UInt64(piece.count) + chunkSize - 1) / chunkSize)
                if let current = unit, piece.upperBound - current.range.lowerBound <= unitSize,
                    chunks + pieceChunks <= unitChunks
                {
                    unit!.range = current.range.lowerBound..<piece.upperBound
                    unit!.pieces.append(.init(extent: extentIndex, range: piece))
                    chunks += pieceChunks
                } else {
                    if let unit { units.append(unit) }
                    unit = Unit(
                        source: index, range: piece, pieces: [.init(extent: extentIndex, range: piece)])
                    chunks = pieceChunks
                }
                start = piece.upperBound
            }
        }
        if let unit { units.append(unit) }
    }

    /// Reads everything and puts it into `session`.
    /// - Returns: the chunks' ids by source and extent, and how many chunks there were.
    func run(_ session: SaveSession, jobs: Int, progress: Progress) throws -> (
        ids: [[[ChunkID]]], chunks: Int
    ) {
        guard !units.isEmpty else { return state.change { ($0.ids, 0) } }
        try session.run(jobs: min(jobs, units.count)) { [self] _ in
            do {
                let buffer = try Buffer(size: Int(Self.unitSize))
                let hasher = SHA256Hasher()
                while let unit = next() {
                    try progress.checkInterruption()
                    try read(unit, buffer, hasher, session)
                    progress.advance(bytes: UInt64(unit.range.count))
                }
            } catch {
                state.change { $0.failed = true }
                throw error
            }
        }
        return state.change { ($0.ids, $0.chunks) }
    }

    private func next() -> Unit? {
        state.change { state in
            guard !state.failed, state.next < units.count else { return nil }
            state.next += 1
            return units[state.next - 1]
        }
    }

    private func read(
        _ unit: Unit, _ buffer: Buffer, _ hasher: borrowing SHA256Hasher, _ session: SaveSession
    ) throws {
        let source = sources[unit.source]
        let file = try open(unit.source)
        let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<unit.range.count])
        guard try file.read(into: bytes, at: unit.range.lowerBound) == bytes.count else {
            throw SourceTree.changed(source.path, "became shorter")
        }
        var chunks: [(id: ChunkID, bytes: UnsafeRawBufferPointer)] = []
        for piece in unit.pieces {
            var start = piece.range.lowerBound
            while start < piece.range.upperBound {
                let end = min(start + chunkSize, piece.range.upperBound)
                let from = Int(start - unit.range.lowerBound)
                let chunk = UnsafeRawBufferPointer(rebasing: bytes[from..<from + Int(end - start)])
                chunks.append((ChunkID(hasher.digest(chunk)), chunk))
                start = end
            }
        }
        try session.put(chunks, isContent: true)
        try finish(unit, chunks.map(\.id), source, file)
    }

    /// The open file of a source: opened for its first unit.
    private func open(_ index: Int) throws -> File {
        try state.change { state in
            if let known = state.files[index] { return known.file }
            let file: File
            do {
                file = try File(sources[index].path, .read)
            } catch let error as CairnError where error.code == .notFound {
                throw SourceTree.changed(sources[index].path, "vanished")
            }
            state.files[index] = (file, unitsOfSource[index])
            return file
        }
    }

    /// Notes a unit's ids; after a file's last unit looks whether the file is what it was.
    private func finish(_ unit: Unit, _ ids: [ChunkID], _ source: Source, _ file: File) throws {
        let isLast = state.change { state in
            var place = 0
            for piece in unit.pieces {
                var index = Int((piece.range.lowerBound - source.extents[piece.extent].offset) / chunkSize)
                var left = Int((UInt64(piece.range.count) + chunkSize - 1) / chunkSize)
                while left > 0 {
                    state.ids[unit.source][piece.extent][index] = ids[place]
                    (index, place, left) = (index + 1, place + 1, left - 1)
                }
            }
            state.chunks += ids.count
            state.files[unit.source]!.left -= 1
            guard state.files[unit.source]!.left == 0 else { return false }
            state.files[unit.source] = nil
            return true
        }
        if isLast, try file.status().differsInContent(from: source.status) {
            throw SourceTree.changed(source.path, "changed")
        }
    }
}
