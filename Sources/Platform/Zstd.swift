internal import CZstd

/// Makes zstd frames, through one context that is reused from frame to frame. One a thread. (RFC 8878)
public struct ZstdCompressor: ~Copyable {
    /// How the bytes of a frame are looked at; every decoder reads both.
    public enum Search: UInt8, Sendable {
        /// Each byte by itself: a Huffman code over how often each value occurs. For bytes that have no order, four times as fast
        /// as `matches`, and smaller.
        case symbols
        /// Repetitions as well (level 1).
        case matches
    }

    private let context: OpaquePointer
    private var search: Search?

    public init() throws(CairnError) {
        guard let context = ZSTD_createCCtx() else {
            throw CairnError(.system, "not enough memory to compress; lower --jobs")
        }
        self.context = context
    }

    deinit { ZSTD_freeCCtx(context) }

    /// The most bytes that a frame over `count` bytes takes.
    public static func bound(_ count: Int) -> Int { ZSTD_compressBound(count) }

    /// Writes one frame over `source` to the beginning of `target`.
    /// - Returns: its length; nil where it has no room there.
    public mutating func compress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, _ search: Search
    ) -> Int? {
        if self.search != search { prepare(search) }
        let count = ZSTD_compress2(
            context, target.baseAddress, target.count, source.baseAddress, source.count)
        guard ZSTD_isError(count) == 0 else {
            // It is in the midst of a frame, in which no other search could be set.
            ZSTD_CCtx_reset(context, ZSTD_reset_session_only)
            return nil
        }
        return count
    }

    private mutating func prepare(_ search: Search) {
        // The fastest level there is steps over nearly everything, so that all that is left is the Huffman code.
        let level = search == .matches ? 1 : ZSTD_minCLevel()
        let literals = search == .matches ? ZSTD_ps_auto : ZSTD_ps_enable
        for (parameter, value) in [
            (ZSTD_c_compressionLevel, level), (ZSTD_c_experimentalParam5, Int32(literals.rawValue)),
        ] {
            precondition(ZSTD_isError(ZSTD_CCtx_setParameter(context, parameter, value)) == 0)
        }
        self.search = search
    }
}

/// Reads zstd frames. One a thread.
public struct ZstdDecompressor: ~Copyable {
    /// What every frame begins with.
    private static let magic: UInt32 = 0xFD2F_B528
    private let context: OpaquePointer

    public init() throws(CairnError) {
        guard let context = ZSTD_createDCtx() else {
            throw CairnError(.system, "not enough memory to decompress; lower --jobs")
        }
        self.context = context
    }

    deinit { ZSTD_freeDCtx(context) }

    /// Fills `target` from the frame that `source` is.
    /// - Returns: false where it is no frame, or one of another length. Never writes beyond `target`.
    public func decompress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        // The frame alone, and nothing behind it: several of them, skipped ones, or those of before RFC 8878 are not what a plane is.
        guard source.count >= 4, UInt32(littleEndian: source.loadUnaligned(as: UInt32.self)) == Self.magic,
            ZSTD_findFrameCompressedSize(source.baseAddress, source.count) == source.count
        else { return false }
        return ZSTD_decompressDCtx(
            context, target.baseAddress, target.count, source.baseAddress, source.count) == target.count
    }
}
