/// What a file of PyTorch holds, however it is packed: what its pickle says, and where the storages lie.
struct TorchContents {
    /// A stretch of the file, which a storage fills or none.
    struct Stretch {
        var range: Range<UInt64>
        /// A place in `storages`.
        var storage: Int?

        var length: UInt64 { range.upperBound - range.lowerBound }
    }

    let pickle: Pickle
    /// In the order of the file.
    private(set) var stretches: [Stretch]
    /// What the pickle says of each storage.
    private(set) var storages: [TorchStorage] = []
    /// The storage that each persistent id stands for: a place in `storages`.
    private(set) var storageOfNode: [Pickle.Index: Int] = [:]
    /// The tensors, and how they are reached.
    let walk: TensorWalk

    /// Reads the file's structure and its pickle, but no tensor.
    /// - Parameters:
    ///   - size: bytes of the file.
    ///   - read: gives the bytes of a range inside the file.
    init(size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        self = try TorchArchive(size: size, read: read).contents(read)
    }

    /// - Parameters:
    ///   - stretches: of the file, in its order. Those that turn out to be storages must be as long as the pickle says.
    ///   - stretchOfKey: the place in `stretches` of the storage of this key; nil where it is missing.
    init(
        _ pickle: Pickle, stretches: [Range<UInt64>], stretchOfKey: (String) -> Int?
    ) throws(PyTorchError) {
        self.pickle = pickle
        self.stretches = stretches.map { Stretch(range: $0) }
        walk = try TensorWalk(pickle)
        for (node, value) in pickle.nodes.enumerated() {
            guard case .persistent(let id) = value, let storage = try TorchStorage(id: id, in: pickle) else {
                continue
            }
            guard let stretch = stretchOfKey(storage.key) else {
                throw PyTorchError(
                    .invalidStorage, "The storage \(storage.key.quoted) is missing in the file.")
            }
            storageOfNode[Pickle.Index(node)] = try add(storage, at: stretch)
        }
    }

    /// - Returns: the place in `storages`, where each stands once.
    private mutating func add(_ storage: TorchStorage, at stretch: Int) throws(PyTorchError) -> Int {
        if let known = stretches[stretch].storage {
            guard storages[known] == storage else {
                throw PyTorchError(
                    .invalidStorage,
                    "The file names the storage \(storage.key.quoted) in two ways that differ.")
            }
            return known
        }
        let length = stretches[stretch].length
        guard storage.elements == .unknown || storage.length == length else {
            throw PyTorchError(
                .invalidStorage,
                "The storage \(storage.key.quoted) has \(length) bytes, which is not what the pickle says."
            )
        }
        stretches[stretch].storage = storages.count
        storages.append(storage)
        return storages.count - 1
    }
}
