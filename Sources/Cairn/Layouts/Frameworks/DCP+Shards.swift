internal import Platform
internal import TensorFormats

/// What DCP's writer of Hugging Face files leaves: those of each rank alone, or merged into a model's beside them.
extension DCP {
    func inspectShards(_ view: CheckpointView, _ result: inout Inspection) throws {
        guard let folder = Self.shardFolder(view) else { return }
        let files = view.files(Self.shards, in: folder)
        result.worldSize = files.map { Int($0.numbers[0]) }.max()
        result.missing.append("the optimizer's state")
        if folder == Self.sharded {
            guard view.has(Self.index) else {
                result.faults.append(
                    "\(Self.index) is missing, which is written once the files in \(folder) are merged")
                return
            }
            result.faults += try view.faults(inIndex: Self.index)
            return
        }
        result.faults += Self.gaps(files)
        let (metadata, faults) = try shardMetadata(view, folder)
        result.faults += faults
        if let metadata {
            result.faults += metadata.problems(maximumCount: CheckpointView.faultLimit) { view[$0]?.size }
                .map { CheckpointView.inner($0.message) }
        }
    }

    /// The ranks and the files of a rank are numbered from 1 on.
    private static func gaps(_ files: [(file: CheckpointView.File, numbers: [UInt64])]) -> [String] {
        let counts = Set(files.map { $0.numbers[2] })
        guard counts.count == 1, let count = counts.first else {
            return [
                "the files of the ranks are of two saves, for they say that there are \(counts.sorted()) of a rank"
            ]
        }
        var faults: [String] = []
        if let rank = CheckpointView.gap(in: files.map { $0.numbers[0] }, from: 1) {
            faults.append("no file of rank \(rank) is there, such as \(name(rank, 1, count))")
        }
        if let number = CheckpointView.gap(in: files.map { $0.numbers[1] }, from: 1) {
            faults.append("\(name(1, number, count)) is missing")
        }
        let numbers = Set(files.map { $0.numbers[1] })
        if let last = numbers.max(), faults.isEmpty, last < count {
            faults.append("\(name(1, last + 1, count)) is missing")
        }
        // A rank that has a part of one tensor has parts of most.
        let ranks = Dictionary(grouping: files) { $0.numbers[0] }
        for (rank, own) in ranks.sorted(by: { $0.key < $1.key }) where own.count < numbers.count {
            let missing = numbers.subtracting(own.map { $0.numbers[1] }).sorted()
            faults += missing.prefix(CheckpointView.faultLimit).map { "\(name(rank, $0, count)) is missing" }
        }
        return Array(faults.prefix(CheckpointView.faultLimit))
    }

    private static func name(_ rank: UInt64, _ number: UInt64, _ count: UInt64) -> String {
        "shard-\(rank.padded(5))-model-\(number.padded(5))-of-\(count.padded(5)).safetensors"
    }

    /// What the headers of the ranks' files say together.
    private func shardMetadata(_ view: CheckpointView, _ folder: String) throws -> (
        DCPMetadata?, faults: [String]
    ) {
        var (shards, faults): ([(String, SafetensorsHeader)], [String]) = ([], [])
        for (file, _) in view.files(Self.shards, in: folder) {
            do {
                shards.append((file.path, try view.safetensorsHeader(of: file)))
            } catch let error as TensorFileError {
                faults.append(CheckpointView.fault(file.path, error.message))
            }
        }
        guard faults.isEmpty else { return (nil, faults) }
        do {
            return (try DCPMetadata(shards: shards), [])
        } catch {
            return (nil, [CheckpointView.inner(error.message)])
        }
    }

    func shardAssembly(_ view: CheckpointView) throws -> Assembly? {
        if view.has(Self.index) { return try HuggingFace().assembly(of: view) }
        guard let folder = Self.shardFolder(view), let metadata = try shardMetadata(view, folder).0 else {
            return nil
        }
        var assembly = Assembly()
        for tensor in metadata.tensors {
            assembly.tensors.append(
                .init(
                    name: tensor.name, dtype: tensor.dtype, shape: tensor.shape,
                    pieces: tensor.chunks.filter { !$0.shape.contains(0) }.map { chunk in
                        .init(
                            file: metadata.files[chunk.place!.file], tensor: tensor.name,
                            place: .box(offset: chunk.offsets, shape: chunk.shape))
                    }))
        }
        assembly.files = view.names().filter { view.has($0) && HuggingFace.isBeside($0) }.map { ($0, $0) }
        return assembly
    }
}

extension CheckpointView {
    /// - Throws: also `TensorFileError`.
    func safetensorsHeader(of file: File) throws -> SafetensorsHeader {
        let length = try SafetensorsHeader.headerLength(
            prefix: read(file, 0..<min(8, file.size)), fileSize: file.size)
        return try SafetensorsHeader(parsing: read(file, 0..<UInt64(length)), fileSize: file.size)
    }
}

extension UInt64 {
    /// In decimal digits, with zeros in front.
    func padded(_ count: Int) -> String {
        let digits = String(self)
        return String(repeating: "0", count: Swift.max(0, count - digits.utf8.count)) + digits
    }
}
