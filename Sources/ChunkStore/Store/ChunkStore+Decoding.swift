internal import Platform

/// Chunks from their records, one by one. Much is read by `ChunkReader` instead.
extension ChunkStore {
    /// The records that a chunk is made from: its own, its base's, and so on to one without a base.
    /// - Throws: `.damage` where one is missing, or there are more than any store may have: bases in a circle among them.
    func chain(_ place: ChunkPlace, _ locate: ChunkLocator) throws -> [ChunkPlace] {
        var chain = [place]
        while let last = chain.last, last.location.codec.hasBase {
            guard chain.count < PackFormat.chainLimit else {
                throw CairnError(
                    .damage,
                    "the chunk \(place.id.hex.prefix(16)) of \(folder) leans on more than \(PackFormat.chainLimit) others; "
                        + "run `cairn verify`, then `cairn repair --from` a copy", path: folder.text)
            }
            guard let base = try locate(last.location.base) else { throw missing(last.location.base) }
            chain.append(base)
        }
        return chain
    }

    /// The chunk at the beginning of a chain, read through the page cache: each record's header and each chunk's SHA-256 is checked.
    func decode(_ chain: [ChunkPlace]) throws -> [UInt8] {
        let coder =
            try chain.count == 1 && chain[0].location.codec == .raw ? nil : PlaneCoder(chunkSize: chunkSize)
        var bytes: [UInt8] = []
        for place in chain.reversed() {
            bytes = try record(place).withUnsafeBytes { try decode($0, place, onto: bytes, coder) }
        }
        return bytes
    }

    /// A chunk's record as it lies in its pack, once the chunk was decoded from it and checked.
    func checkedRecord(_ id: ChunkID) throws -> (entry: PackEntry, payload: [UInt8]) {
        let chain = try chain(id)
        let base = chain.count > 1 ? try decode([ChunkPlace](chain.dropFirst())) : []
        let record = try record(chain[0])
        let coder = try PlaneCoder(chunkSize: chunkSize)
        _ = try record.withUnsafeBytes { try decode($0, chain[0], onto: base, coder) }
        return (chain[0].location.entry(id), [UInt8](record.dropFirst(PackFormat.recordHeaderSize)))
    }

    /// Header and payload.
    private func record(_ place: ChunkPlace) throws -> [UInt8] {
        do {
            let file = try packs.open(place.pack).buffered
            return try file.read(Int(place.location.range.count), at: place.location.offset)
        } catch let error as CairnError where error.code == .notFound || error.code == .changed {
            throw CairnError(
                .damage, "\(error.message), but the store needs it; restore the pack from a copy",
                path: packs.path(place.pack).text)
        }
    }

    /// One record's chunk, checked by its SHA-256.
    private func decode(
        _ record: UnsafeRawBufferPointer, _ place: ChunkPlace, onto base: [UInt8], _ coder: PlaneCoder?
    ) throws -> [UInt8] {
        let path = packs.path(place.pack)
        let bytes = try decode(record, place, path, onto: base, coder)
        guard ChunkID.of(bytes) == place.id else { throw damage(place, path, "is damaged") }
        return bytes
    }

    /// One record's chunk, not yet checked by its SHA-256.
    private func decode(
        _ record: UnsafeRawBufferPointer, _ place: ChunkPlace, _ path: Path, onto base: [UInt8],
        _ coder: PlaneCoder?
    ) throws -> [UInt8] {
        let payload = try payload(of: record, place, path)
        guard let coder, place.location.codec != .raw else { return [UInt8](payload) }
        let count = Int(place.location.rawLength)
        guard count <= chunkSize, !place.location.codec.hasBase || base.count == count else {
            throw damage(place, path, "has another length than its base")
        }
        var bytes = place.location.codec.hasBase ? base : [UInt8](repeating: 0, count: count)
        let done = bytes.withUnsafeMutableBytes {
            coder.decode(payload, hasBase: place.location.codec.hasBase, into: $0)
        }
        guard done else { throw damage(place, path, "can't be decoded") }
        return bytes
    }

    /// The payload of a record whose header says what the index says.
    func payload(
        of record: UnsafeRawBufferPointer, _ place: ChunkPlace, _ path: Path
    ) throws -> UnsafeRawBufferPointer {
        try checkCodec(place.location.codec, path)
        do {
            let header = [UInt8](record[..<PackFormat.recordHeaderSize])
            guard try PackFormat.entry(fromRecordHeader: header) == place.location.entry(place.id) else {
                throw damage(place, path, "is another one")
            }
        } catch let error as FormatError {
            throw damage(place, path, "has a header that \(error)")
        }
        return UnsafeRawBufferPointer(rebasing: record[PackFormat.recordHeaderSize...])
    }

    private func damage(_ place: ChunkPlace, _ path: Path, _ what: String) -> CairnError {
        CairnError(
            .damage,
            "the chunk \(place.id.hex.prefix(16)) at byte \(place.location.offset) of \(path) \(what); "
                + "run `cairn verify`, then `cairn repair --from` a copy", path: path.text)
    }
}
