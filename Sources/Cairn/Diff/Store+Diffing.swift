internal import ChunkStore
internal import Platform
internal import TensorFormats

extension Store {
    /// How the second iteration differs from the first. Only chunks whose ids differ are read.
    public func diff(_ a: String, _ b: String, progress: Progress = .silent) throws -> IterationDiff {
        defer { progress.end() }
        let (first, firstLock) = try manifest(of: try resolve(a))
        let (second, secondLock) = try manifest(of: try resolve(b))
        defer { withExtendedLifetime((firstLock, secondLock)) {} }
        let (left, right) = (first.tensorsByName(), second.tensorsByName())
        var diff = IterationDiff()
        diff.added = right.keys.subtracting(left).map { right[$0]!.info }.sorted { $0.name < $1.name }
        diff.removed = left.keys.subtracting(right).map { left[$0]!.info }.sorted { $0.name < $1.name }
        progress.begin(phase: "comparing", totalBytes: right.values.reduce(0) { $0 + $1.info.bytes })
        for (name, after) in right.sorted(by: { $0.value.info.name < $1.value.info.name }) {
            try progress.checkInterruption()
            progress.advance(bytes: after.info.bytes)
            guard let before = left[name] else { continue }
            if before.blob == after.blob, before.offset == after.offset, before.info == after.info {
                diff.unchanged += 1
            } else {
                diff.changed.append(try change(before, after))
            }
        }
        let (oldFiles, newFiles) = (first.otherFiles(), second.otherFiles())
        diff.addedFiles = newFiles.keys.subtracting(oldFiles).map { Path.text(of: $0) }.sorted()
        diff.removedFiles = oldFiles.keys.subtracting(newFiles).map { Path.text(of: $0) }.sorted()
        diff.changedFiles = newFiles.filter { oldFiles[$0.key] != nil && oldFiles[$0.key] != $0.value }
            .map { Path.text(of: $0.key) }.sorted()
        return diff
    }

    private func bytes(of tensor: StoredTensor, _ range: Range<UInt64>) throws -> [UInt8] {
        let from = tensor.offset + range.lowerBound
        return try chunks.bytes(of: tensor.blob, from..<from + UInt64(range.count))
    }

    private func change(_ before: StoredTensor, _ after: StoredTensor) throws -> IterationDiff.Change {
        let elements = after.info.elementCount
        guard before.info.dtype == after.info.dtype, before.info.shape == after.info.shape else {
            return .init(
                name: after.info.name, before: before.info, after: after.info, elements: elements,
                changedElements: elements, changedBytes: after.info.bytes, maxAbsDifference: nil)
        }
        let dtype = DType(rawValue: after.info.dtype)
        let width = dtype.map { max(1, $0.bitsPerElement / 8) } ?? after.info.unknownElementWidth
        var difference = ElementDifference()
        if before.isWhole, after.isWhole {
            for (old, new) in zip(try chunks.chunkIDs(of: before.blob), try chunks.chunkIDs(of: after.blob))
            where old != new {
                let (left, right) = (try chunks.chunk(old), try chunks.chunk(new))
                guard left.count == right.count else { throw BlobTree.otherLength(after.blob) }
                difference.add(left, right, dtype: dtype, width: width)
            }
        } else {
            // One of them is a part of a storage: its chunks are cut elsewhere.
            for start in stride(from: 0, to: after.info.bytes, by: UInt64.Stride(chunkSize)) {
                let end = min(start + UInt64(chunkSize), after.info.bytes)
                let (left, right) = (try bytes(of: before, start..<end), try bytes(of: after, start..<end))
                if left != right { difference.add(left, right, dtype: dtype, width: width) }
            }
        }
        return .init(
            name: after.info.name, before: before.info, after: after.info, elements: elements,
            changedElements: min(difference.elements, elements), changedBytes: difference.bytes,
            maxAbsDifference: difference.largest)
    }
}

extension TensorInfo {
    /// Elements that are here: of a tensor that its file has in pieces, those of this one.
    fileprivate var elementCount: UInt64 {
        guard let dtype = DType(rawValue: dtype) else { return shape.reduce(1, &*) }
        return bytes &* 8 / UInt64(dtype.bitsPerElement)
    }

    /// Bytes of an element of a type that safetensors doesn't have; 1 where elements come in blocks.
    fileprivate var unknownElementWidth: Int {
        let count = elementCount
        return count > 0 && bytes % count == 0 ? max(1, Int(clamping: bytes / count)) : 1
    }
}

/// A tensor and the blob that it is.
private struct StoredTensor {
    var info: TensorInfo
    var blob: BlobRef
    /// Bytes from the blob's first one.
    var offset: UInt64

    var isWhole: Bool { offset == 0 && info.bytes == blob.length }
}

extension Manifest {
    /// By the bytes of the name: Swift takes names for equal that differ in their Unicode form. Of a name in several files the
    /// first file's.
    fileprivate func tensorsByName() -> [[UInt8]: StoredTensor] {
        var result: [[UInt8]: StoredTensor] = [:]
        for entry in roots.entries {
            guard case .file(.split(let schema, _)) = entry.kind else { continue }
            let blobs = contentBlobs(of: entry)
            for tensor in schemas[schema]!.tensors {
                let info = TensorInfo(
                    name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, bytes: tensor.length,
                    group: ModelFiles.part(of: entry.path).rawValue)
                let key = [UInt8](tensor.name.utf8)
                if result[key] == nil {
                    result[key] = StoredTensor(info: info, blob: blobs[tensor.blob], offset: tensor.offset)
                }
            }
        }
        return result
    }

    /// What files hold beside tensors: the blob of an opaque one, the schema of a split one.
    fileprivate func otherFiles() -> [[UInt8]: BlobRef] {
        var result: [[UInt8]: BlobRef] = [:]
        for entry in roots.entries {
            guard case .file(let content) = entry.kind else { continue }
            switch content {
            case .opaque(let blob): result[entry.path] = blob
            case .split(let schema, _): result[entry.path] = schema
            }
        }
        return result
    }
}

extension Dictionary.Keys {
    fileprivate func subtracting(_ other: [Key: some Any]) -> [Key] { filter { other[$0] == nil } }
}
