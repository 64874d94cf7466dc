internal import ChunkStore
internal import Platform
internal import TensorFormats

extension Store {
    /// How the second iteration differs from the first, tensor by tensor: whatever layouts they are in, tensors that these put together are
    /// compared whole. Only bytes are read that are not in the same chunks on both sides.
    public func diff(_ a: String, _ b: String, progress: Progress = .silent) throws -> IterationDiff {
        defer { progress.end() }
        let before = try side(a)
        let after = try side(b)
        defer { withExtendedLifetime((before, after)) {} }
        let pairs = TensorPairs(before.named.tensors.map(\.info), after.named.tensors.map(\.info))
        var diff = IterationDiff()
        diff.added = pairs.added.map { after.named.tensors[$0].info }
        diff.removed = pairs.removed.map { before.named.tensors[$0].info }
        let both = pairs.pairs.map { (before.named.tensors[$0.before], after.named.tensors[$0.after]) }
        let alike = both.filter { $0.info.isLike($1.info) }.map { old, new in
            TensorComparison.Pair(
                before: old.gather(before.named.sources), after: new.gather(after.named.sources),
                dtype: DType(rawValue: new.info.dtype), width: new.info.elementWidth)
        }
        progress.begin(phase: "comparing", totalBytes: alike.reduce(0) { $0 + $1.after.length })
        var differences = try TensorComparison(chunks, alike, settings: settings).run(settings, progress)[...]
        for (old, new) in both {
            let difference = old.info.isLike(new.info) ? differences.removeFirst() : nil
            if difference?.elements == 0 {
                diff.unchangedTensors.append(new.info)
            } else {
                diff.changed.append(.init(old.info, new.info, difference))
            }
        }
        diff.compareFiles(before.manifest.otherFiles(), after.manifest.otherFiles())
        diff.warnings = before.warnings + after.warnings
        return diff
    }

    /// An iteration, kept from removal while it is compared.
    private struct Side {
        var manifest: Manifest
        var view: CheckpointView
        var named: NamedTensors
        var warnings: [String]
    }

    private func side(_ reference: String) throws -> Side {
        let info = try resolve(reference)
        let (manifest, lock) = try manifest(of: info)
        let view = try view(of: info, manifest, lock)
        let named = try NamedTensors(chunks, info, manifest, view, isComparing: true)
        let warnings = named.listedProblems.map {
            "\(info.run)@\(info.step) is compared as its files hold it: \($0)"
        }
        return Side(manifest: manifest, view: view, named: named, warnings: warnings)
    }
}

extension NamedTensors.Tensor {
    fileprivate func gather(_ sources: [Gather.Source]) -> Gather {
        Gather(name: info.name, sources: sources, bytes: bytes)
    }
}

extension TensorInfo {
    /// Whether elements can be compared one by one.
    fileprivate func isLike(_ other: TensorInfo) -> Bool {
        dtype == other.dtype && shape == other.shape && bytes == other.bytes
    }

    /// Elements that are here: of a tensor that its file has in pieces, those of this one.
    fileprivate var elementCount: UInt64 {
        guard let dtype = DType(rawValue: dtype) else { return shape.reduce(1, &*) }
        return bytes &* 8 / UInt64(dtype.bitsPerElement)
    }

    /// Bytes of an element; 1 where it is less, or of a type that comes in blocks.
    fileprivate var elementWidth: Int {
        if let dtype = DType(rawValue: dtype) { return max(1, dtype.bitsPerElement / 8) }
        let count = elementCount
        return count > 0 && bytes % count == 0 ? max(1, Int(clamping: bytes / count)) : 1
    }
}

extension IterationDiff.Change {
    /// - Parameter difference: of their elements; nil where dtype or shape differ.
    fileprivate init(_ before: TensorInfo, _ after: TensorInfo, _ difference: ElementDifference?) {
        let elements = after.elementCount
        self.init(
            name: after.name, before: before, after: after, elements: elements,
            changedElements: difference.map { min($0.elements, elements) } ?? elements,
            changedBytes: difference?.bytes ?? after.bytes, maxAbsDifference: difference?.largest)
    }
}

extension IterationDiff {
    fileprivate mutating func compareFiles(_ before: [[UInt8]: BlobRef], _ after: [[UInt8]: BlobRef]) {
        addedFiles = after.keys.filter { before[$0] == nil }.map { Path.text(of: $0) }.sorted()
        removedFiles = before.keys.filter { after[$0] == nil }.map { Path.text(of: $0) }.sorted()
        changedFiles = after.filter { before[$0.key] != nil && before[$0.key] != $0.value }
            .map { Path.text(of: $0.key) }.sorted()
    }
}

extension Manifest {
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
