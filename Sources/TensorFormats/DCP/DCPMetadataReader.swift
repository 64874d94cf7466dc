/// Finds in the tree of a `.metadata` what it says.
struct DCPMetadataReader {
    /// Classes and functions that mean something here.
    enum Class: String {
        case size = "Size"
        case tensor = "TensorStorageMetadata"
        case bytes = "BytesStorageMetadata"
        case posixPath = "PosixPath"
    }

    /// Where something with a name stands in the result.
    private enum Entry {
        case tensor(Int)
        case object(Int)
    }

    /// An item of `storage_data`.
    private struct Item {
        var offsets: [UInt64]?
        /// Which chunk, where there are no offsets.
        var index: Int?
        var place: DCPMetadata.Place
    }

    let pickle: Pickle
    private var metadata = DCPMetadata(tensors: [], objects: [], files: [])
    private var entries: [ExactText: Entry] = [:]
    /// By tensor.
    private var items: [[Item]] = []
    private var fileIndices: [ExactText: Int] = [:]
    /// By the node of a function. Most objects are of few classes.
    var classes: [Pickle.Index: Class?] = [:]

    init(_ pickle: Pickle) { self.pickle = pickle }

    mutating func read() throws(TensorFileError) -> DCPMetadata {
        let fields = fields(
            of: pickle.root,
            ["state_dict_metadata", "storage_data", "planner_data", "storage_meta", "version"])
        guard let entries = fields[0].flatMap(dictionary) else {
            throw TensorFileError(.invalidPickle, "The pickle is no metadata of a distributed checkpoint.")
        }
        for (name, value) in entries { try readEntry(name, value) }
        items = [[Item]](repeating: [], count: metadata.tensors.count)
        // A writer that has no item leaves None.
        for (index, info) in fields[1].flatMap(dictionary) ?? [] { try readItem(index, info) }
        for index in metadata.tensors.indices { giveChunksPlaces(of: index) }
        for (name, path) in fields[2].flatMap(dictionary) ?? [] { readPath(name, path) }
        metadata.version = fields[4].flatMap { pickle.text($0) }
        if let meta = fields[3] {
            let fields = self.fields(of: meta, ["checkpoint_id", "save_id"])
            metadata.checkpointID = fields[0].flatMap { path($0) }
            metadata.saveID = fields[1].flatMap { pickle.text($0) }
        }
        return metadata
    }

    // MARK: What was saved

    private mutating func readEntry(_ key: Pickle.Index, _ value: Pickle.Index) throws(TensorFileError) {
        guard let name = pickle.text(key) else {
            throw invalid("It holds something whose name is no text or has over 4096 bytes")
        }
        let isNew: Bool
        switch pickle.object(value).flatMap({ classOf($0.function) }) {
        case .tensor:
            isNew = entries.updateValue(.tensor(metadata.tensors.count), forKey: ExactText(name)) == nil
            metadata.tensors.append(try tensor(name, value))
        case .bytes:
            isNew = entries.updateValue(.object(metadata.objects.count), forKey: ExactText(name)) == nil
            metadata.objects.append(DCPMetadata.Object(name: name))
        default: throw invalid("What \(name.quoted) is, a tensor or an object, is not known")
        }
        guard isNew else { throw invalid("Two things have the name \(name.quoted)") }
    }

    private mutating func tensor(_ name: String, _ value: Pickle.Index) throws(TensorFileError)
        -> DCPMetadata.Tensor
    {
        let fields = fields(of: value, ["properties", "size", "chunks"])
        guard let dtype = fields[0].flatMap(dtype), let shape = fields[1].flatMap({ dimensions($0) }),
            case .list(let chain) = fields[2].map({ pickle[$0] })
        else { throw invalid("The tensor \(name.quoted) is described in an unknown way") }
        // That of a type of unknown size fits as well, if its elements have up to 64 bits.
        guard shape.byteCount(of: TorchDType(dtype: dtype)?.elementLength ?? 8) != nil else {
            throw invalid("The shape of the tensor \(name.quoted) is beyond 63 bits")
        }
        var chunks: [DCPMetadata.Chunk] = []
        for node in pickle.elements(of: chain) {
            let fields = self.fields(of: node, ["offsets", "sizes"])
            guard let offsets = fields[0].flatMap({ dimensions($0) }),
                let sizes = fields[1].flatMap({ dimensions($0) }),
                offsets.count == shape.count, sizes.count == shape.count
            else { throw invalid("A chunk of the tensor \(name.quoted) is described in an unknown way") }
            chunks.append(DCPMetadata.Chunk(offsets: offsets, shape: sizes))
        }
        return DCPMetadata.Tensor(
            name: name, dtype: TorchDType(dtype: dtype)?.name ?? dtype, shape: shape, chunks: chunks)
    }

    /// The name in the module `torch`. The state of the properties is a tuple that begins with it.
    private func dtype(_ properties: Pickle.Index) -> String? {
        guard let state = pickle.object(properties)?.state, let first = pickle.tuple(state)?.first,
            let name = pickle.globalName(first), name.hasPrefix("torch.")
        else { return nil }
        return String(name.dropFirst("torch.".count))
    }

    // MARK: Where it is

    private mutating func readItem(_ index: Pickle.Index, _ info: Pickle.Index) throws(TensorFileError) {
        let key = fields(of: index, ["fqn", "offset", "index"])
        guard let name = key[0].flatMap({ pickle.text($0) }) else {
            throw invalid("It places something that has no name")
        }
        guard let entry = entries[ExactText(name)] else { return }
        let value = fields(of: info, ["relative_path", "offset", "length", "transform_descriptors"])
        guard let path = value[0].flatMap({ pickle.text($0) }), let offset = value[1].flatMap(count),
            let length = value[2].flatMap(count), let transforms = texts(value[3])
        else { throw invalid("The bytes of \(name.quoted) are described in an unknown way") }
        let file = fileIndices[ExactText(path)] ?? metadata.files.count
        if file == metadata.files.count {
            metadata.files.append(path)
            fileIndices[ExactText(path)] = file
        }
        let place = DCPMetadata.Place(file: file, offset: offset, length: length, transforms: transforms)
        switch entry {
        case .object(let object): metadata.objects[object].place = place
        case .tensor(let tensor):
            items[tensor].append(
                Item(
                    offsets: key[1].flatMap { dimensions($0) }, index: key[2].flatMap(count).map { Int($0) },
                    place: place))
        }
    }

    /// Items belong to the chunks of their offsets, as in PyTorch; several chunks without elements may share one.
    private mutating func giveChunksPlaces(of tensor: Int) {
        let items = items[tensor]
        if metadata.tensors[tensor].chunks.count == 1, items.count == 1, let item = items.first {
            if item.offsets ?? metadata.tensors[tensor].chunks[0].offsets
                == metadata.tensors[tensor].chunks[0].offsets
            {
                metadata.tensors[tensor].chunks[0].place = item.place
            }
            return
        }
        var places = [[UInt64]: DCPMetadata.Place](minimumCapacity: items.count)
        for item in items {
            if let offsets = item.offsets {
                places[offsets] = item.place
            } else if let index = item.index, metadata.tensors[tensor].chunks.indices.contains(index) {
                metadata.tensors[tensor].chunks[index].place = item.place
            }
        }
        for chunk in metadata.tensors[tensor].chunks.indices {
            guard let place = places[metadata.tensors[tensor].chunks[chunk].offsets] else { continue }
            metadata.tensors[tensor].chunks[chunk].place = place
        }
    }

    private mutating func readPath(_ name: Pickle.Index, _ path: Pickle.Index) {
        guard let name = pickle.text(name), let entry = entries[ExactText(name)],
            let steps = pickle.tuple(path)
        else { return }
        var keys: [DCPMetadata.Key] = []
        for step in steps {
            if case .integer(let index) = pickle[step] {
                keys.append(.index(index))
            } else if let name = pickle.text(step) {
                keys.append(.name(name))
            } else {
                return
            }
        }
        switch entry {
        case .tensor(let tensor): metadata.tensors[tensor].path = keys
        case .object(let object): metadata.objects[object].path = keys
        }
    }
}

extension [UInt64] {
    /// Bytes of a tensor of this shape; nil where they are beyond 63 bits.
    fileprivate func byteCount(of elementLength: UInt64) -> UInt64? {
        guard !contains(0) else { return 0 }
        var count = elementLength
        for length in self {
            let (product, overflow) = count.multipliedReportingOverflow(by: length)
            guard !overflow, product <= UInt64(Int64.max) else { return nil }
            count = product
        }
        return count
    }
}
