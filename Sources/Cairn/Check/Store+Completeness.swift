internal import ChunkStore
internal import Platform

/// What is known of damage, without reading the files' bytes: whether manifests can be read, and whether each chunk is there and
/// was not found damaged.
extension Store {
    private static let lookupBatch = 4096

    /// The iterations of which something is known to be lost.
    func incomplete(_ infos: [IterationInfo]) throws -> Set<UInt64> {
        var whole: Set<BlobRef> = []
        return Set(try infos.filter { try !isComplete($0, &whole) }.map(\.number))
    }

    /// Of one run's iterations, by step: those of which something is known to be lost, from the newest down to one that is whole.
    func newestIncomplete(_ infos: [IterationInfo]) throws -> Set<UInt64> {
        var whole: Set<BlobRef> = []
        var numbers: Set<UInt64> = []
        for info in infos.reversed() where !info.superseded {
            if try isComplete(info, &whole) { break }
            numbers.insert(info.number)
        }
        return numbers
    }

    /// - Parameter whole: blobs that were found to be whole, as iterations share most of theirs.
    private func isComplete(_ info: IterationInfo, _ whole: inout Set<BlobRef>) throws -> Bool {
        do {
            let (manifest, lock) = try manifest(of: info)
            defer { withExtendedLifetime(lock) {} }
            guard try areSound([info.id]) else { return false }
            for blob in manifest.blobs where !whole.contains(blob) {
                var ids: [ChunkID] = []
                ids += try BlobTree(chunkSize: chunkSize).chunkIDs(
                    of: blob, list: { ids.append($0) }, read: { try chunks.chunk($0) })
                guard try areSound(ids) else { return false }
                whole.insert(blob)
            }
            return true
        } catch let error as CairnError where error.code == .damage {
            return false
        } catch let error as CairnError where error.code == .notFound {
            // Deleted meanwhile: nothing depends on it any more.
            return true
        }
    }

    private func areSound(_ ids: [ChunkID]) throws -> Bool {
        for start in stride(from: 0, to: ids.count, by: Self.lookupBatch) {
            let part = [ChunkID](ids[start..<min(start + Self.lookupBatch, ids.count)])
            let places = try chunks.locate(part)
            guard places.allSatisfy({ $0?.location.isDamaged == false }) else { return false }
        }
        return true
    }
}
