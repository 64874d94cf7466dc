extension TensorMap {
    /// The map of a `.distcp` file, in which PyTorch's distributed checkpoints (DCP) and Megatron-LM's `torch_dist`
    /// keep what one rank saved: items one behind the other, each what `torch.save` writes of a tensor or an object.
    ///
    /// What the items are called is not in the file but in the checkpoint's `.metadata`, which names the bytes that
    /// each takes (`DCPMetadata.Place`). So the tensor of an item is named by the byte that the item begins at:
    /// `@1577`. Tensors in an object's item have their path in it as well, such as `@0.exp_avg`. The shape is that of
    /// the chunk that the file has. Each storage is cut as in `init(pyTorch:read:)`.
    ///
    /// There is no directory of the items. But each is a zip file, whose end says how long it is, so the items are
    /// found from the last to the first. They must tile the file. One that has been compressed, as
    /// `FileSystemWriter` does it with extensions, or that another writer made is none, and the file is then refused as a whole.
    ///
    /// Small items that stand side by side are read together; of each large one a few KiB are read.
    ///
    /// - Parameters:
    ///   - size: bytes of the file. Of an empty one, which a writer without any items leaves, the map is empty.
    ///   - read: gives the bytes of a range inside the file. What it throws passes through.
    /// - Throws: `TensorFileError` where the file can't be cut with certainty.
    public init(distributed size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        var items = DistributedItems(end: size)
        var maps: [(start: UInt64, map: TensorMap)] = []
        do {
            while let item = try items.previous(read) { maps.append(item) }
        } catch let error as TensorFileError where error.code == .damaged {
            guard let name = CompressedStream.name(try read(0..<min(size, CompressedStream.prefixLength)))
            else { throw error }
            throw TensorFileError(.compressed, "Its items are compressed with \(name).")
        }
        self.init(format: "distcp", extents: [], tensors: [])
        for (start, map) in maps.reversed() {
            for var tensor in map.tensors {
                tensor.extent += extents.count
                tensors.append(tensor)
            }
            extents += map.extents.map { $0.moved(by: start) }
        }
    }
}

/// Bytes that a program has compressed, each item by itself, so that a file begins as they do.
private enum CompressedStream {
    static let prefixLength: UInt64 = 6

    private static let magics: [(name: String, bytes: [UInt8])] = [
        ("zstd", [0x28, 0xB5, 0x2F, 0xFD]), ("gzip", [0x1F, 0x8B, 8]), ("lz4", [0x04, 0x22, 0x4D, 0x18]),
        ("xz", [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0]), ("bzip2", [0x42, 0x5A, 0x68]),
    ]

    static func name(_ prefix: [UInt8]) -> String? {
        magics.first { prefix.starts(with: $0.bytes) }?.name
    }
}

/// The items of a `.distcp` file, from the last to the first.
private struct DistributedItems {
    /// Items of a file, and bytes of it that are in no extent. PyTorch puts 1.5 KiB around a tensor.
    private static let (maximumCount, maximumLiteral): (Int, UInt64) = (1 << 17, 64 << 20)
    /// The end of an item with its directory takes 800 bytes or so.
    private static let tailLength: UInt64 = 2048

    /// Where the next one ends.
    private var end: UInt64
    private var count = 0
    private var literal: UInt64 = 0
    private var spent = TorchSpending()
    /// Around the end of an item, and where it begins.
    private var (tail, head) = (ReadWindow(), ReadWindow())

    init(end: UInt64) { self.end = end }

    /// The one that ends where the one before begins; nil where there are no more.
    mutating func previous(
        _ read: (Range<UInt64>) throws -> [UInt8]
    ) throws -> (start: UInt64, map: TensorMap)? {
        guard end > 0 else { return nil }
        if tail.bytes(end - min(end, Self.tailLength)..<end) == nil { try tail.fill(before: end, read) }
        let length = try archiveLength(read)
        let start = end - length
        if start < tail.range.lowerBound { try head.fill(from: start, end: end, read) }
        let map: TensorMap
        do {
            let archive = try TorchArchive(size: length, spent: &spent) { [tail, head] range in
                let range = start + range.lowerBound..<start + range.upperBound
                return try tail.bytes(range) ?? head.bytes(range) ?? read(range)
            }
            map = try TorchCut(archive.contents, format: "distcp") { path in
                path.isEmpty ? "@\(start)" : "@\(start).\(path)"
            }.map
        } catch let error as TensorFileError {
            throw TensorFileError(
                error.code == .otherFormat ? .damaged : error.code,
                "Of the item at byte \(start) of the file: \(error.message)")
        }
        (end, count, literal) = (start, count + 1, literal + map.literalLength(in: length))
        guard count <= Self.maximumCount, literal <= Self.maximumLiteral else {
            throw TensorFileError(
                .tooLarge, "The file has over 131,072 items, or over 64 MiB around the tensors in them.")
        }
        return (start, map)
    }

    /// Bytes of the item that ends at `end`.
    private func archiveLength(_ read: (Range<UInt64>) throws -> [UInt8]) throws -> UInt64 {
        do {
            return try ZipEnd(before: end) { try tail.bytes($0) ?? read($0) }.archiveLength
        } catch let error as TensorFileError {
            let start = "No item of `torch.save` ends at byte \(end) of the file: "
            guard error.code == .otherFormat else { throw TensorFileError(error.code, start + error.message) }
            throw TensorFileError(
                .damaged,
                start + "it is compressed or of another format, or its writing was cut off.")
        }
    }
}
