import CLimits
import ChunkStore
import Platform

/// Planes into zstd frames.
final class Compressing: Work {
    private let planes: [[UInt8]]
    private let search: ZstdCompressor.Search
    private let room: Buffer
    private var compressor: ZstdCompressor
    private var next = 0

    init(_ planes: [[UInt8]], _ search: ZstdCompressor.Search) throws {
        self.planes = planes
        self.search = search
        room = try Buffer(size: Samples.chunkSize)
        compressor = try ZstdCompressor()
    }

    func step() -> Int {
        let plane = planes[next]
        next = (next + 1) % planes.count
        let length = plane.withUnsafeBytes { compressor.compress($0, into: room.bytes, search) }
        precondition(length != nil)
        return plane.count
    }
}

/// The same, on libzstd alone.
final class BareCompressing: Work {
    private let planes: [[UInt8]]
    private let context: UnsafeMutableRawPointer
    private let room: Buffer
    private var next = 0

    init(_ planes: [[UInt8]], _ search: ZstdCompressor.Search) throws {
        self.planes = planes
        room = try Buffer(size: Samples.chunkSize)
        context = lm_makeCompressor(search == .matches ? 1 : 0)!
    }

    deinit { lm_freeCompressor(context) }

    func step() -> Int {
        let plane = planes[next]
        next = (next + 1) % planes.count
        precondition(lm_compress(context, plane, plane.count, room.bytes.baseAddress, room.bytes.count) > 0)
        return plane.count
    }
}

/// Zstd frames into planes.
final class Decompressing: Work {
    private let frames: [[UInt8]]
    private let planeSize: Int
    private let room: Buffer
    private var next = 0
    private let decompressor: ZstdDecompressor
    /// Of libzstd, where it is measured alone.
    private let bare: UnsafeMutableRawPointer?

    init(_ planes: [(plane: [UInt8], search: ZstdCompressor.Search)], isBare: Bool) throws {
        let buffer = try Buffer(size: Samples.chunkSize)
        var compressor = try ZstdCompressor()
        frames = planes.map { plane, search in
            let length = plane.withUnsafeBytes { compressor.compress($0, into: buffer.bytes, search) }
            return [UInt8](buffer.bytes[..<length!])
        }
        room = buffer
        planeSize = planes[0].plane.count
        decompressor = try ZstdDecompressor()
        bare = isBare ? lm_makeDecompressor() : nil
    }

    deinit { if let bare { lm_freeDecompressor(bare) } }

    func step() -> Int {
        let frame = frames[next]
        next = (next + 1) % frames.count
        let target = UnsafeMutableRawBufferPointer(rebasing: room.bytes[..<planeSize])
        if let bare {
            let count = lm_decompress(bare, frame, frame.count, target.baseAddress, planeSize)
            precondition(count == planeSize)
        } else {
            let isFrame = frame.withUnsafeBytes { decompressor.decompress($0, into: target) }
            precondition(isFrame)
        }
        return planeSize
    }
}
