package import Platform

/// Writes one pack, in large aligned blocks, from any number of threads.
///
/// The file is locked from its creation until the writer is gone, which is how a collection tells it from what a dead save left.
package final class PackWriter: Sendable {
    static let blockSize = 4 << 20
    /// More of them than the disk needs to stay busy would only push each other out of the caches.
    private static let mostBlocks = 8
    private static let longestExtension: UInt64 = 32 << 20
    /// Blocks that are on their way to the disk at once: one alone leaves it idle in between, and more are in each other's way.
    private static let writesAtOnce = 2

    private final class Block: @unchecked Sendable {
        // Unchecked: all but the bytes is changed under the writer's monitor; regions of the buffer are handed out once each.
        let buffer: Buffer
        var offset: UInt64 = 0
        var used = 0
        var copying = 0
        init(_ buffer: Buffer) { self.buffer = buffer }
    }

    private struct State {
        var current: Block?
        var full: [Block] = []
        var free: [Block] = []
        var allocated = 0
        var writing = 0
        var end: UInt64 = 0
        /// The size to which the file has been extended before it is written.
        var extent: UInt64 = 0
        var entries: [PackEntry] = []
        var failure: (any Error)?
        var isClosed = false
    }

    let name: PackName
    private let file: File
    private let blockLimit: Int
    /// Whether that is of any use: not in memory, nor past a page cache that gathers the blocks anyway.
    private let extendsBefore: Bool
    private let state = Monitor(State())

    /// - Parameter memory: bytes that buffers may take; two blocks they always have.
    package init(folder: Path, store: [UInt8], memory: Int) throws {
        blockLimit = max(2, min(Self.mostBlocks, memory / Self.blockSize))
        while true {
            let name = PackName(Random.bytes(16))
            let path = folder.appending(name.fileName)
            let file = try File(path, .create, direct: true, closesInChild: true)
            // Between making and locking it a collection may have taken it for a dead save's: then start anew.
            if try file.tryLock(.exclusive, at: 0), try file.status().links > 0 {
                self.name = name
                self.file = file
                break
            }
        }
        extendsBefore = file.isDirect && !file.isInMemory
        try PackFormat.header(store: store, name: name).withUnsafeBytes { try append($0) }
    }

    /// Bytes written so far.
    var size: UInt64 { state.change { $0.end } }

    /// Appends records, one behind the other. Copies the payloads; returns when they are in blocks, not when on the disk.
    package func append(_ records: [(entry: PackEntry, payload: UnsafeRawBufferPointer)]) throws {
        let headerSize = PackFormat.recordHeaderSize
        let length = records.reduce(0) { $0 + headerSize + $1.payload.count }
        var entries = records.map(\.entry)
        let regions = try reserve(length) { state in
            var offset = state.end
            for index in entries.indices {
                precondition(records[index].payload.count == Int(entries[index].storedLength))
                entries[index].offset = offset
                offset += UInt64(headerSize + records[index].payload.count)
            }
            state.entries += entries
        }
        let headers = entries.flatMap { PackFormat.recordHeader($0) }
        headers.withUnsafeBytes { headers in
            let pieces = records.indices.flatMap { index in
                let start = index * headerSize
                return [
                    UnsafeRawBufferPointer(rebasing: headers[start..<start + headerSize]),
                    records[index].payload,
                ]
            }
            Self.copy(pieces, into: regions)
        }
        release(regions)
    }

    /// Appends bytes that are no record.
    private func append(_ bytes: UnsafeRawBufferPointer) throws {
        let regions = try reserve(bytes.count) { _ in }
        Self.copy([bytes], into: regions)
        release(regions)
    }

    private typealias Region = (block: Block, start: Int, count: Int)

    /// Hands out room for `length` bytes behind everything before it, in as many blocks as it takes.
    /// - Parameter place: called under the lock, with `end` where the room begins.
    private func reserve(_ length: Int, _ place: (inout State) -> Void) throws -> [Region] {
        var left = length
        var regions: [Region] = []
        // The regions follow each other: the blocks for all of them are there before the first is taken.
        try gather(length / Self.blockSize + 2) { state in
            place(&state)
            while left > 0 {
                if state.current == nil {
                    let block = state.free.removeLast()
                    block.offset = state.end
                    block.used = 0
                    state.current = block
                }
                let block = state.current!
                let count = min(left, Self.blockSize - block.used)
                regions.append((block, block.used, count))
                block.used += count
                block.copying += 1
                state.end += UInt64(count)
                left -= count
                if block.used == Self.blockSize {
                    state.current = nil
                    state.full.append(block)
                }
            }
        }
        return regions
    }

    /// Runs `body` under the lock once `needed` free blocks are there; helps to write while there are fewer.
    private func gather(_ needed: Int, _ body: (inout State) -> Void) throws {
        while true {
            let wanted: Int? = try access { state in
                if let failure = state.failure { return .failure(failure) }
                guard state.free.count < needed else {
                    body(&state)
                    return .success(nil)
                }
                let more = min(needed - state.free.count, max(blockLimit, needed + 1) - state.allocated)
                state.allocated += max(0, more)
                return .success(max(0, more))
            }
            guard let wanted else { return }
            if wanted > 0 {
                do {
                    for _ in 0..<wanted {
                        let block = Block(try Buffer(size: Self.blockSize))
                        state.change { $0.free.append(block) }
                    }
                } catch {
                    // Others may be waiting for these blocks.
                    state.change { $0.failure = $0.failure ?? error }
                    throw error
                }
            } else if try !writeOne() {
                // Another thread is copying into or writing what is to be free: wait for a change.
                let _: Void = state.wait { state in
                    state.free.count >= needed || state.failure != nil || Self.ready(state) != nil ? () : nil
                }
            }
        }
    }

    private func access<R>(_ body: (inout State) -> Result<R, any Error>) throws -> R {
        try state.change(body).get()
    }

    private static func ready(_ state: State) -> Int? {
        state.writing < writesAtOnce ? state.full.firstIndex { $0.copying == 0 } : nil
    }

    private func release(_ regions: [Region]) {
        state.change { _ in for region in regions { region.block.copying -= 1 } }
    }

    private static func copy(
        _ pieces: [UnsafeRawBufferPointer], into regions: [Region]
    ) {
        var region = 0
        var filled = 0
        for piece in pieces {
            var done = 0
            while done < piece.count {
                let target = regions[region]
                let count = min(piece.count - done, target.count - filled)
                let start = target.start + filled
                UnsafeMutableRawBufferPointer(rebasing: target.block.buffer.bytes[start..<start + count])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: piece[done..<done + count]))
                done += count
                filled += count
                if filled == target.count {
                    region += 1
                    filled = 0
                }
            }
        }
    }

    /// Writes one full block. Returns false where none is ready.
    @discardableResult
    private func writeOne() throws -> Bool {
        let next: (block: Block, extent: UInt64?)? = try access { state in
            if let failure = state.failure { return .failure(failure) }
            guard let index = Self.ready(state) else { return .success(nil) }
            state.writing += 1
            let block = state.full.remove(at: index)
            return .success((block, extend(&state, for: block)))
        }
        guard let next else { return false }
        if let extent = next.extent { file.reserve(to: extent) }
        try write(next.block, count: Self.blockSize)
        return true
    }

    /// Several threads can write into a file at once, as long as none of them makes it longer: so it is made longer before, by as much
    /// as it has, 32 MiB at most. `finish` cuts off what is too much.
    /// - Returns: the size that the file is to have before this block is written, where that is more than before.
    private func extend(_ state: inout State, for block: Block) -> UInt64? {
        let end = block.offset + UInt64(Self.blockSize)
        guard extendsBefore, end > state.extent else { return nil }
        state.extent = end + min(block.offset, Self.longestExtension)
        return state.extent
    }

    private func write(_ block: Block, count: Int) throws {
        var failure: (any Error)?
        do {
            try file.write(UnsafeRawBufferPointer(rebasing: block.buffer.bytes[..<count]), at: block.offset)
        } catch {
            failure = error
        }
        state.change { state in
            state.writing -= 1
            if let failure { state.failure = state.failure ?? failure } else { state.free.append(block) }
        }
        if let failure { throw failure }
    }

    /// Writes blocks as they fill up, until `close()`: what the threads do that only write.
    package func writeBlocks() throws {
        while true {
            let isDone: Bool = try state.wait { state -> Result<Bool, any Error>? in
                if let failure = state.failure { return .failure(failure) }
                if Self.ready(state) != nil { return .success(false) }
                return state.isClosed && state.full.isEmpty ? .success(true) : nil
            }.get()
            if isDone { return }
            try writeOne()
        }
    }

    /// Lets the threads in `writeBlocks` return once everything full is written.
    package func close() { state.change { $0.isClosed = true } }

    /// Writes the table and the trailer and makes the file durable; its name is made so by syncing the folder.
    package func finish() throws -> (summary: PackSummary, entries: [PackEntry]) {
        let (entries, tableOffset) = state.change { ($0.entries, $0.end) }
        let table = PackFormat.table(entries)
        let content = tableOffset + UInt64(table.count) + UInt64(PackFormat.trailerSize)
        let blocks = (content + UInt64(PackFormat.blockSize) - 1) / UInt64(PackFormat.blockSize)
        let summary = PackSummary(
            name: name, tableOffset: tableOffset, tableLength: UInt64(table.count), tableHash: .of(table),
            fileLength: blocks * UInt64(PackFormat.blockSize))
        let end = table + [UInt8](repeating: 0, count: Int(summary.fileLength - content)) + summary.trailer()
        // In pieces, so that a table larger than the buffers passes through them.
        try end.withUnsafeBytes { bytes in
            var position = 0
            while position < bytes.count {
                let count = min(Self.blockSize, bytes.count - position)
                try append(UnsafeRawBufferPointer(rebasing: bytes[position..<position + count]))
                position += count
            }
        }
        close()
        try writeBlocks()
        let _: Void = state.wait { $0.writing == 0 ? () : nil }
        let last = state.change { state in
            state.writing += state.current == nil ? 0 : 1
            return state.current
        }
        if let last { try write(last, count: last.used) }
        if let failure = state.change({ $0.failure }) { throw failure }
        if state.change({ $0.extent > summary.fileLength }) { try file.truncate(to: summary.fileLength) }
        try file.sync()
        // The file stays open for its lock; the memory is the next pack's.
        state.change { state in
            state.current = nil
            state.free = []
            state.entries = []
        }
        return (summary, entries)
    }

    /// Removes the file. What fails here is left for the next collection.
    package func abandon() { _ = try? FileSystem.removeFile(file.path) }
}
