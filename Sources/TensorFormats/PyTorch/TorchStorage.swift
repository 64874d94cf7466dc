/// The bytes that one or more tensors of a pickle lie in: a record of the archive, or in files before PyTorch 1.6 a
/// stretch of the file.
struct TorchStorage: Equatable {
    enum Elements: Equatable {
        case typed(TorchDType)
        /// Bytes, whose type is the tensors' matter.
        case untyped
        /// Of a class that is not known here.
        case unknown
    }

    /// The record's name behind `data/`; before PyTorch 1.6 any name.
    var key: String
    var elements: Elements
    /// Elements as the pickle has it; bytes where it is untyped.
    var count: UInt64

    /// Bytes; nil where they are not known or beyond 64 bits.
    var length: UInt64? {
        switch elements {
        case .typed(let dtype):
            let (length, overflow) = count.multipliedReportingOverflow(by: dtype.elementLength)
            return overflow ? nil : length
        case .untyped: return count
        case .unknown: return nil
        }
    }

    /// Reads what a persistent id says.
    /// - Returns: nil where it stands for something else than a storage.
    init?(id: Pickle.Index, in pickle: Pickle) throws(TensorFileError) {
        guard let items = pickle.tuple(id), let kind = items.first,
            pickle.text(kind, maximumLength: 16) == "storage"
        else { return nil }
        // Before PyTorch 1.6 there is one more: the part of the storage that is meant.
        guard items.count == 5 || items.count == 6, let name = pickle.globalName(items[items.startIndex + 1]),
            let key = pickle.text(items[items.startIndex + 2]),
            case .integer(let count) = pickle[items[items.startIndex + 4]], count >= 0
        else { throw TensorFileError(.invalidStorage, "The file names a storage in an unknown way.") }
        self.key = key
        self.count = UInt64(count)
        let className = name.split(separator: ".").last.map(String.init) ?? ""
        if !name.hasPrefix("torch") {
            elements = .unknown
        } else if className == "UntypedStorage" {
            elements = .untyped
        } else {
            elements = TorchDType(storage: className).map { .typed($0) } ?? .unknown
        }
    }
}

/// The part of a storage that some tensors count from, as PyTorch had it until 0.4.
struct TorchView {
    /// Elements of the storage, from its first one.
    var range: Range<UInt64>

    /// Reads what a persistent id says besides the storage.
    /// - Returns: nil where it means the storage as a whole.
    init?(id: Pickle.Index, of storage: TorchStorage, in pickle: Pickle) throws(TensorFileError) {
        guard let last = pickle.tuple(id)?.dropFirst(5).first else { return nil }
        if case .none = pickle[last] { return nil }
        guard let items = pickle.tuple(last), items.count == 3, case .typed = storage.elements,
            case .integer(let offset) = pickle[items[items.startIndex + 1]], offset >= 0,
            case .integer(let count) = pickle[items[items.startIndex + 2]], count >= 0,
            UInt64(offset) + UInt64(count) <= storage.count
        else {
            throw TensorFileError(
                .invalidStorage, "The file has a part of the storage \(storage.key.quoted) that is not there."
            )
        }
        range = UInt64(offset)..<UInt64(offset) + UInt64(count)
    }
}

/// The storages that a pickle names.
struct TorchStorages {
    private(set) var all: [TorchStorage] = []
    /// The storage that each persistent id stands for: a place in `all`.
    private(set) var ofNode: [Pickle.Index: Int] = [:]
    /// Of the persistent ids that mean a part of a storage.
    private(set) var views: [Pickle.Index: TorchView] = [:]
    /// Places in `all`.
    private(set) var ofKey: [ExactText: Int] = [:]

    init(in pickle: Pickle) throws(TensorFileError) {
        for (node, value) in pickle.nodes.enumerated() {
            guard case .persistent(let id) = value, let storage = try TorchStorage(id: id, in: pickle) else {
                continue
            }
            let key = ExactText(storage.key)
            let index = ofKey[key] ?? all.count
            if index == all.count {
                all.append(storage)
                ofKey[key] = index
            }
            guard all[index] == storage else {
                throw TensorFileError(
                    .invalidStorage,
                    "The file names the storage \(storage.key.quoted) in two ways that differ.")
            }
            ofNode[Pickle.Index(node)] = index
            views[Pickle.Index(node)] = try TorchView(id: id, of: storage, in: pickle)
        }
    }
}
