internal import Platform
internal import TensorFormats

/// The checksums of parts of files, which are put together piece by piece, in any order.
final class PartChecksums: Sendable {
    private struct Piece {
        /// In the file.
        var start: UInt64
        var count: UInt64
        var checksum: CRC32
    }

    /// By file: where each part begins, and where the last ends.
    private let bounds: [[UInt64]]
    /// By file, and by the part that each is of: where checksums are to be.
    private let places: [[Int: [UInt64]]]
    /// By file and part, in any order.
    private let pieces: Monitor<[[Int: [Piece]]]>

    init(_ files: [OutputFile], _ bounds: [[UInt64]]) {
        self.bounds = bounds
        places = zip(files, bounds).map { file, bounds in
            var places: [Int: [UInt64]] = [:]
            for (index, part) in file.parts.enumerated() {
                if case .checksum(let other) = part { places[other, default: []].append(bounds[index]) }
            }
            return places
        }
        pieces = Monitor(files.map { _ in [:] })
    }

    /// Takes note of bytes of a file.
    func add(_ bytes: UnsafeRawBufferPointer, at start: UInt64, of file: Int) {
        guard !places[file].isEmpty else { return }
        let (bounds, end) = (bounds[file], start + UInt64(bytes.count))
        var index = bounds.indices.dropLast().partitioningIndex { bounds[$0] > start } - 1
        while index < bounds.count - 1, bounds[index] < end {
            defer { index += 1 }
            let (lower, upper) = (max(bounds[index], start), min(bounds[index + 1], end))
            guard lower < upper, places[file][index] != nil else { continue }
            var checksum = CRC32()
            checksum.update(UnsafeRawBufferPointer(rebasing: bytes[Int(lower - start)..<Int(upper - start)]))
            let piece = Piece(start: lower, count: upper - lower, checksum: checksum)
            pieces.change { $0[file][index, default: []].append(piece) }
        }
    }

    /// The checksums of a file of which all bytes were noted, and where they are to be.
    func fields(of file: Int) -> [(offset: UInt64, bytes: [UInt8])] {
        let pieces = pieces.change { $0[file] }
        return places[file].flatMap { part, offsets in
            var checksum = CRC32()
            for piece in (pieces[part] ?? []).sorted(by: { $0.start < $1.start }) {
                checksum = checksum.appending(piece.checksum, byteCount: piece.count)
            }
            let value = checksum.value
            let bytes = (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0 as UInt32)) }
            return offsets.map { ($0, bytes) }
        }
    }
}
