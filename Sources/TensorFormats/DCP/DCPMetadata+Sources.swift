extension DCPMetadata {
    /// Of a checkpoint whose ranks wrote metadata of their own each, `__0.metadata` and so on, without talking to each other. What several
    /// ranks have is taken from the first.
    /// - Throws: `TensorFileError` where two of them contradict each other.
    public init(merging all: [DCPMetadata]) throws(TensorFileError) {
        self.init(
            tensors: [], objects: [], files: [], version: all.first?.version, checkpointID: nil, saveID: nil)
        var collection = Collection()
        for one in all {
            var files: [Int] = []
            for file in one.files { files.append(collection.file(file)) }
            for var tensor in one.tensors {
                let chunks = tensor.chunks.map { $0.moved(to: files) }
                tensor.chunks = []
                let known = collection.add(chunks, of: tensor)
                guard known.shape == tensor.shape, known.dtype == tensor.dtype else {
                    throw TensorFileError(
                        .invalidPickle,
                        "The ranks' metadata contradict each other in what \(tensor.name.quoted) is.")
                }
            }
            for object in one.objects { collection.add(object.moved(to: files)) }
        }
        (tensors, objects, files) = (collection.tensors, collection.objects, collection.files)
    }

    /// Of what DCP's writer of Hugging Face files leaves: safetensors files of each rank, which say in their metadata where their tensors
    /// belong, and nothing else. How large a tensor is follows from its chunks, so that its last ones are not missed.
    ///
    /// The place of a chunk is that of its bytes; in the file's map, the tensor has its own name.
    /// - Throws: `TensorFileError` where a header doesn't say where a tensor belongs.
    public init(shards: [(file: String, header: SafetensorsHeader)]) throws(TensorFileError) {
        self.init(tensors: [], objects: [], files: [], version: nil, checkpointID: nil, saveID: nil)
        var collection = Collection()
        for (file, header) in shards {
            let index = collection.file(file)
            let offsets = try header.savedOffsets
            for tensor in header.tensors {
                let start =
                    try offsets?.offsets(of: tensor) ?? [UInt64](repeating: 0, count: tensor.shape.count)
                let place = Place(
                    file: index, offset: UInt64(header.headerLength) + tensor.begin, length: tensor.byteCount,
                    transforms: [])
                let known = collection.add(
                    [Chunk(offsets: start, shape: tensor.shape, place: place)],
                    of: Tensor(
                        name: tensor.name, path: nil, dtype: tensor.dtype.name, shape: tensor.shape,
                        chunks: []))
                guard known.shape.count == tensor.shape.count, known.dtype == tensor.dtype.name else {
                    throw TensorFileError(
                        .invalidHeader, "The files contradict each other in what \(tensor.name.quoted) is.")
                }
            }
        }
        (tensors, files) = (collection.tensors, collection.files)
        for index in tensors.indices { tensors[index].growToChunks() }
    }
}

/// What several sources say of one checkpoint.
private struct Collection {
    var tensors: [DCPMetadata.Tensor] = []
    var objects: [DCPMetadata.Object] = []
    var files: [String] = []
    private var tensorIndices: [ExactText: Int] = [:]
    private var objectNames: Set<ExactText> = []
    private var fileIndices: [ExactText: Int] = [:]
    /// The chunks of each tensor by where they begin.
    private var starts: [Set<[UInt64]>] = []

    mutating func file(_ name: String) -> Int {
        if let known = fileIndices[ExactText(name)] { return known }
        fileIndices[ExactText(name)] = files.count
        files.append(name)
        return files.count - 1
    }

    /// - Returns: the tensor as it was known first.
    mutating func add(_ chunks: [DCPMetadata.Chunk], of tensor: DCPMetadata.Tensor) -> DCPMetadata.Tensor {
        let index: Int
        if let known = tensorIndices[ExactText(tensor.name)] {
            index = known
        } else {
            index = tensors.count
            tensorIndices[ExactText(tensor.name)] = index
            tensors.append(tensor)
            starts.append([])
        }
        for chunk in chunks where starts[index].insert(chunk.offsets).inserted {
            tensors[index].chunks.append(chunk)
        }
        var known = tensors[index]
        known.chunks = []
        return known
    }

    mutating func add(_ object: DCPMetadata.Object) {
        if objectNames.insert(ExactText(object.name)).inserted { objects.append(object) }
    }
}

extension DCPMetadata.Chunk {
    fileprivate func moved(to files: [Int]) -> Self {
        var copy = self
        if let place { copy.place?.file = files[place.file] }
        return copy
    }
}

extension DCPMetadata.Object {
    fileprivate func moved(to files: [Int]) -> Self {
        var copy = self
        if let place { copy.place?.file = files[place.file] }
        return copy
    }
}

extension DCPMetadata.Tensor {
    fileprivate mutating func growToChunks() {
        for chunk in chunks {
            for axis in shape.indices {
                shape[axis] = max(shape[axis], chunk.offsets[axis] + chunk.shape[axis])
            }
        }
    }
}

/// What a header says of where its tensors belong.
private struct SavedOffsets {
    private var offsets: [ExactText: [UInt64]] = [:]

    /// - Parameter text: JSON, `{"name": {"saved_offsets": [25, 0]}}`.
    init(_ text: String) throws(TensorFileError) {
        guard let members = (try? JSON(parsing: Array(text.utf8)))?.members else {
            throw TensorFileError(.invalidHeader, "What DCP_SHARDING_INFO says is no JSON.")
        }
        for member in members {
            guard let numbers = member.value["saved_offsets"]?.array else { continue }
            let known = numbers.compactMap(\.uint64)
            if known.count == numbers.count { offsets[ExactText(member.key)] = known }
        }
    }

    func offsets(of tensor: SafetensorsTensor) throws(TensorFileError) -> [UInt64] {
        guard let start = offsets[ExactText(tensor.name)], start.count == tensor.shape.count,
            zip(start, tensor.shape).allSatisfy({ !$0.addingReportingOverflow($1).overflow })
        else {
            throw TensorFileError(
                .invalidHeader, "The header does not say where \(tensor.name.quoted) belongs.")
        }
        return start
    }
}

extension SafetensorsHeader {
    /// nil where it says nothing: then each tensor begins at its first element.
    fileprivate var savedOffsets: SavedOffsets? {
        get throws(TensorFileError) {
            guard let text = metadata?.first(where: { $0.key == "DCP_SHARDING_INFO" })?.value else {
                return nil
            }
            return try SavedOffsets(text)
        }
    }
}
