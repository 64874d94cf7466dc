internal import ChunkStore
internal import Platform

extension Store {
    /// One iteration with its tensors and files.
    public func show(_ reference: String) throws -> IterationDetails {
        let info = try resolve(reference)
        let (manifest, lock) = try manifest(of: info)
        return try details(info, manifest, lock)
    }

    func details(
        _ info: IterationInfo, _ manifest: Manifest, _ lock: ReaderLock
    ) throws -> IterationDetails {
        defer { withExtendedLifetime(lock) {} }
        var info = info
        info.metadata = try metadata(of: info, manifest.head)
        // That is for `resume`; whoever saved it gave no such thing.
        info.metadata[SavedPlace.key] = nil
        let view = try view(of: info, manifest, lock)
        let named = try NamedTensors(chunks, info, manifest, view, isComparing: false)
        let files = manifest.roots.entries.filter { !$0.path.isEmpty }
        return IterationDetails(
            info: info, tensors: named.tensors.map(\.info),
            files: files.map { FileInfo($0, size: manifest.size(of: $0)) },
            understood: try understood(view) + named.facts)
    }

    /// What the layout says of it.
    private func understood(_ view: CheckpointView) throws -> [IterationDetails.Fact] {
        var facts: [IterationDetails.Fact] = []
        if let layout = try Layouts.layout(of: view) {
            let inspection = try layout.inspect(view)
            facts.append(.init(name: "written by", value: layout.abilities.title))
            if let epoch = inspection.epoch { facts.append(.init(name: "epoch", value: "\(epoch)")) }
            if let size = inspection.worldSize { facts.append(.init(name: "world size", value: "\(size)")) }
            facts += inspection.facts.map { .init(name: $0.name, value: $0.value) }
            let lacking = inspection.faults + inspection.missing
            if !lacking.isEmpty { facts.append(.init(name: "lacks", value: lacking.joined(separator: "; "))) }
            if let unhealthy = inspection.unhealthy {
                facts.append(.init(name: "unhealthy", value: unhealthy))
            }
        }
        return facts
    }

    /// What a training would miss that goes on from an iteration, by what its layout says.
    public func resumability(_ reference: String) throws -> Resumability {
        let info = try resolve(reference)
        let view = try view(of: info)
        guard let layout = try Layouts.layout(of: view) else {
            return Resumability(
                run: info.run, step: info.step, layout: info.layout,
                lacking: ["it is in no layout that a training goes on from"])
        }
        let inspection = try layout.inspect(view)
        var lacking = inspection.faults + inspection.missing
        if let unhealthy = inspection.unhealthy { lacking.append(unhealthy) }
        let names = [view.name, view.onlyFile?.path ?? ""]
        let isNamed = names.contains { name in
            (StepNames.step(of: name) ?? layout.step(ofFile: name) ?? Step.decimal(name.utf8)) != nil
        }
        if inspection.step == nil, !isNamed {
            lacking.append("the step, which neither its name nor any file in it says")
        }
        return Resumability(run: info.run, step: info.step, layout: layout.name, lacking: lacking)
    }

    /// Where the store's bytes are.
    public func stats() throws -> StoreStats {
        let infos = try iterations()
        var stats = StoreStats()
        stats.iterations = infos.count
        stats.logicalBytes = infos.reduce(0) { $0 + $1.logicalBytes }
        for run in Set(infos.map(\.run)).sorted() {
            let own = infos.filter { $0.run == run }
            stats.runs.append(
                .init(
                    name: run, iterations: own.count, logicalBytes: own.reduce(0) { $0 + $1.logicalBytes },
                    storedBytes: own.reduce(0) { $0 + $1.storedBytes }))
        }
        let census = try chunks.census()
        stats.chunks = census.chunks
        stats.uniqueBytes = census.rawBytes
        stats.packs = census.packs
        stats.indexBytes = census.indexBytes
        stats.storedBytes = census.packBytes + census.journalBytes + census.indexBytes
        stats.codecs = census.codecs.sorted { $0.key < $1.key }.map { codec, share in
            .init(
                name: Codec(rawValue: codec).name, chunks: share.chunks,
                uniqueBytes: share.rawBytes, storedBytes: share.storedBytes)
        }
        stats.dtypes = try dtypes(infos, census)
        return stats
    }

    /// Chunks by the dtype of the first tensor that holds them; `other` for what is in no tensor.
    private func dtypes(_ infos: [IterationInfo], _ census: ChunkStore.Census) throws -> [StoreStats.Share] {
        var shares: [String: StoreStats.Share] = [:]
        var seen: Set<BlobRef> = []
        var counted: Set<ChunkID> = []
        for info in infos {
            let (manifest, lock) = try manifest(of: info)
            defer { withExtendedLifetime(lock) {} }
            for entry in manifest.roots.entries {
                guard case .file(.split(let schema, _)) = entry.kind else { continue }
                let blobs = manifest.contentBlobs(of: entry)
                for tensor in manifest.schemas[schema]!.tensors where seen.insert(blobs[tensor.blob]).inserted
                {
                    let ids = try chunks.chunkIDs(of: blobs[tensor.blob]).filter {
                        counted.insert($0).inserted
                    }
                    for place in try chunks.locate(ids) {
                        guard let location = place?.location else { continue }
                        shares[
                            tensor.dtype,
                            default: .init(name: tensor.dtype, chunks: 0, uniqueBytes: 0, storedBytes: 0)
                        ]
                        .add(location)
                    }
                }
            }
        }
        let inTensors = shares.values.reduce((chunks: 0, bytes: 0 as UInt64)) {
            ($0.chunks + $1.chunks, $0.bytes + $1.uniqueBytes)
        }
        let other = StoreStats.Share(
            name: "other", chunks: census.chunks - inTensors.chunks,
            uniqueBytes: census.rawBytes - inTensors.bytes,
            storedBytes: census.storedBytes - shares.values.reduce(0) { $0 + $1.storedBytes })
        return shares.values.sorted { $0.uniqueBytes > $1.uniqueBytes } + [other]
    }
}

extension NamedTensors {
    /// Why tensors have the names of the files.
    fileprivate var facts: [IterationDetails.Fact] {
        listedProblems.map { .init(name: "not whole", value: $0) }
    }
}

extension StoreStats.Share {
    /// One more chunk.
    fileprivate mutating func add(_ location: ChunkLocation) {
        chunks += 1
        uniqueBytes += UInt64(location.rawLength)
        storedBytes += UInt64(location.storedLength) + UInt64(PackFormat.recordHeaderSize)
    }
}

extension Roots.Entry {
    /// Nanoseconds since 1970 UTC; the nearest that there is for years before 1678 and after 2262, which a file can have.
    fileprivate var modifiedAt: Int64 {
        let (whole, tooLarge) = mtime.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, overflow) = whole.addingReportingOverflow(Int64(nanoseconds))
        return tooLarge || overflow ? (mtime < 0 ? .min : .max) : sum
    }
}

extension FileInfo {
    init(_ entry: Roots.Entry, size: UInt64) {
        var kind = FileInfo.Kind.file
        var target: String?
        switch entry.kind {
        case .file: break
        case .folder: kind = .folder
        case .link(let bytes):
            kind = .link
            target = Path.text(of: bytes)
        }
        self.init(
            path: entry.text, bytes: size, kind: kind, mode: entry.mode,
            modifiedAt: entry.modifiedAt, target: target)
    }
}
