internal import ChunkStore
internal import TensorFormats

/// The tensors of an iteration under the names that its layout gives them, for reading.
struct NamedTensorReads {
    private let named: NamedTensors
    private let places: [ExactText: Int]

    init(_ store: Store, _ info: IterationInfo, _ manifest: Manifest, _ lock: ReaderLock) throws {
        let view = try store.view(of: info, manifest, lock)
        named = try NamedTensors(store.chunks, info, manifest, view, isComparing: true)
        // The model's come first, and go by their names before what files call so.
        places = Dictionary(
            named.tensors.enumerated().map { (ExactText($1.info.name), $0) }, uniquingKeysWith: min)
    }

    subscript(name: String) -> (GatheredTensor, [Gather.Source])? {
        guard let place = places[ExactText(name)] else { return nil }
        let tensor = named.tensors[place]
        return (GatheredTensor(tensor.info, bytes: tensor.bytes), named.sources)
    }
}

/// The tensors of a file, for reading.
final class FileTensors: Sendable {
    private let schema: Schema?
    private let blobs: [BlobRef]
    private let places: [ExactText: Int]

    init(_ manifest: Manifest, _ entry: Roots.Entry) {
        blobs = manifest.contentBlobs(of: entry)
        guard case .file(.split(let id, _)) = entry.kind else {
            (schema, places) = (nil, [:])
            return
        }
        let schema = manifest.schemas[id]!
        self.schema = schema
        places = Dictionary(
            schema.tensors.enumerated().map { (ExactText($1.name), $0) }, uniquingKeysWith: min)
    }

    /// What is stored under a name.
    func info(_ name: String) -> TensorInfo? {
        guard let schema, let place = places[ExactText(name)] else { return nil }
        let tensor = schema.tensors[place]
        return TensorInfo(name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, bytes: tensor.length)
    }

    subscript(name: String) -> (GatheredTensor, [Gather.Source])? {
        guard let info = info(name), let tensor = places[ExactText(name)].map({ schema!.tensors[$0] }) else {
            return nil
        }
        let source = Gather.Source(blob: blobs[tensor.blob], offset: tensor.offset)
        return (
            GatheredTensor(info, bytes: .source(0, start: 0, count: tensor.length)), [source]
        )
    }
}

extension GatheredTensor {
    fileprivate init(_ info: TensorInfo, bytes: Elements) {
        let count = info.shape.reduce(1, *)
        let bits = DType(rawValue: info.dtype).map { UInt64($0.bitsPerElement) }
        self.init(
            name: info.name, dtype: info.dtype,
            // Of a type that is not known here, as many as it has.
            bits: bits ?? (count == 0 ? 8 : bytes.count * 8 / count), shape: info.shape, bytes: bytes)
    }
}
