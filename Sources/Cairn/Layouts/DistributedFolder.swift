internal import Platform
internal import TensorFormats

/// A folder of a checkpoint in which torch's distributed checkpoints (DCP) keep what all ranks saved.
struct DistributedFolder {
    let view: CheckpointView
    /// Of the names, with the slash at its end; empty for the checkpoint's own folder.
    let prefix: String
    /// What is where; nil where that is missing, or can't be read.
    let metadata: DCPMetadata?
    /// Why not everything is there that the metadata names, each a sentence without its full stop.
    let faults: [String]

    init(_ view: CheckpointView, folder: String = "") throws {
        self.view = view
        prefix = folder.isEmpty ? "" : folder + "/"
        let path = prefix + Self.metadataName
        guard let bytes = try view.read(path) else {
            (metadata, faults) = (nil, ["\(path) is missing, which is written once all files are"])
            return
        }
        do {
            let metadata = try DCPMetadata(parsing: bytes)
            let place = folder.isEmpty ? "" : "in \(folder), "
            let problems = metadata.problems(maximumCount: Self.faultLimit) { [prefix] in
                view[prefix + $0]?.size
            }
            (self.metadata, faults) = (metadata, problems.map { place + CheckpointView.inner($0.message) })
        } catch {
            (metadata, faults) = (nil, ["\(path) is not whole: \(CheckpointView.inner(error.message))"])
        }
    }

    static let metadataName = ".metadata"
    private static let faultLimit = 20

    func has(_ name: String) -> Bool { view.has(prefix + name) }

    /// Ranks that have files here, as their names count them; at least 1.
    var rankCount: Int {
        let files = view.files("*__#_#.distcp", in: String(prefix.dropLast()))
        return Int(files.map(\.numbers[0]).max() ?? 0) + 1
    }

    /// A tensor of the metadata, as it is put together.
    func tensor(_ tensor: DCPMetadata.Tensor, of metadata: DCPMetadata, name: String)
        -> Assembly.Tensor
    {
        var pieces: [Assembly.Piece] = []
        var problem: Assembly.Problem?
        for chunk in tensor.chunks where !chunk.shape.contains(0) {
            guard let place = chunk.place, place.transforms.isEmpty else {
                problem = chunk.problem(in: metadata.files.map { prefix + $0 })
                continue
            }
            pieces.append(
                .init(
                    file: prefix + metadata.files[place.file], tensor: "@\(place.offset)",
                    place: .box(offset: chunk.offsets, shape: chunk.shape)))
        }
        return .init(
            name: name, dtype: tensor.dtype, shape: tensor.shape, pieces: pieces, problem: problem)
    }

    /// What `torch.save` wrote of an object; nil where there is none of that name, or it can't be read.
    func object(_ name: String) throws -> TorchTree? {
        guard let place = metadata?.objects.first(where: { $0.name == name })?.place,
            place.transforms.isEmpty,
            let file = metadata.flatMap({ view[prefix + $0.files[place.file]] })
        else { return nil }
        let (end, overflow) = place.offset.addingReportingOverflow(place.length)
        guard !overflow, end <= file.size else { return nil }
        do {
            return try TorchTree(pyTorch: place.length) { range in
                try view.read(file, place.offset + range.lowerBound..<place.offset + range.upperBound)
            }
        } catch is TensorFileError {
            return nil
        }
    }
}

extension DCPMetadata.Chunk {
    /// Why nothing can be put together from it.
    func problem(in files: [String]) -> Assembly.Problem {
        guard let place else { return .init(why: "nothing says where a part of it is") }
        let steps = place.transforms.joined(separator: ", ")
        return .init(
            why: "it is compressed (\(steps)), which only PyTorch undoes; use `cairn restore`",
            file: files[place.file])
    }
}
