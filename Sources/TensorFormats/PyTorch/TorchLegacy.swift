/// A checkpoint of PyTorch before 1.6, or one that was saved with `_use_new_zipfile_serialization=False`: five
/// pickles, then each storage, as the number of its elements and its bytes.
///
/// The pickles are a magic number, a version, a description of the machine, the object, and a list of the storages'
/// keys in the order of their bytes. The numbers are little endian on every machine.
struct TorchLegacy {
    let contents: TorchContents

    /// Reads the pickles, and what stands in front of each storage.
    /// - Returns: nil where the file does not begin as such a file.
    init?(size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        let prefix = try readExactly(0..<min(size, Self.prefixLength), read)
        guard Self.magics.contains(where: { prefix.starts(with: $0) }) else { return nil }
        var pickles = PickleSequence(size: size)
        _ = try pickles.next(read)
        let version = try pickles.next(read)
        guard case .integer(1001) = version[version.root] else {
            throw TensorFileError(
                .invalidPickle, "The file is of a version of PyTorch's format that is not known.")
        }
        _ = try pickles.next(read)
        let pickle = try pickles.next(read)
        let keys = try Self.keys(in: try pickles.next(read))

        let storages = try TorchStorages(in: pickle)
        var pieces = [TorchContents.Piece(range: 0..<pickles.position)]
        pieces += try Self.places(of: storages, keys, from: pickles.position, size: size, read)
        let walk = try TensorWalk(pickle)
        var tensors = walk.tensors
        for index in tensors.indices {
            guard let view = storages.views[tensors[index].storage] else { continue }
            try tensors[index].move(into: view)
        }
        contents = TorchContents(walk: walk, storages: storages, tensors: tensors, pieces: pieces)
    }

    /// The first pickle, the number 0x1950A86A20F9469CFC6C, as the protocols 0 to 5 write it.
    private static let magics: [[UInt8]] = {
        let number: [UInt8] = [0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E]
        let frame: [UInt8] = [0x95, 13, 0, 0, 0, 0, 0, 0, 0]
        return [
            Array("L119547037146038801333356L\n.".utf8), [0x80, 2] + number, [0x80, 3] + number,
            [0x80, 4] + frame + number, [0x80, 5] + frame + number,
        ]
    }()
    private static let prefixLength: UInt64 = 32

    private static func keys(in pickle: Pickle) throws(TensorFileError) -> [ExactText] {
        guard case .list(let chain) = pickle[pickle.root] else { throw unknownKeys }
        var keys: [ExactText] = []
        for node in pickle.elements(of: chain) {
            guard let key = pickle.text(node) else { throw unknownKeys }
            keys.append(ExactText(key))
        }
        return keys
    }

    private static let unknownKeys = TensorFileError(
        .invalidPickle, "The list of storages in the file is not one of their keys.")

    /// Where the bytes of each storage lie: they must tile the rest of the file.
    private static func places(
        of storages: TorchStorages, _ keys: [ExactText], from start: UInt64, size: UInt64,
        _ read: (Range<UInt64>) throws -> [UInt8]
    ) throws -> [TorchContents.Piece] {
        guard keys.count == storages.all.count, Set(keys).count == keys.count else {
            throw TensorFileError(
                .invalidStorage, "The file does not list each of its storages once, as it should.")
        }
        var (position, window) = (start, ReadWindow())
        var pieces: [TorchContents.Piece] = []
        for key in keys {
            guard let index = storages.ofKey[key], let length = storages.all[index].length else {
                throw TensorFileError(
                    .invalidStorage, "The storage \(key.text.quoted) is none whose length is known.")
            }
            guard size - position >= 8, length <= size - position - 8 else {
                throw TensorFileError(
                    .invalidStorage,
                    "The file ends within the storage \(key.text.quoted): its writing was cut off.")
            }
            if window.bytes(position..<position + 8) == nil {
                try window.fill(from: position, end: size, read)
            }
            let count = window.bytes(position..<position + 8)?.number(UInt64.self, at: 0)
            guard count == storages.all[index].count else {
                throw TensorFileError(
                    .invalidStorage,
                    "The storage \(key.text.quoted) has not as many elements as the pickle says.")
            }
            pieces.append(
                TorchContents.Piece(range: position + 8..<position + 8 + length, storage: index))
            position += 8 + length
        }
        guard position == size else {
            throw TensorFileError(.damaged, "Something stands behind the last storage of the file.")
        }
        return pieces
    }
}

/// Pickles that stand one behind the other in a file.
private struct PickleSequence {
    /// Where the next one begins.
    private(set) var position: UInt64 = 0
    private let size: UInt64
    /// Bytes of the first step and of the longest.
    private static let (shortest, longest): (UInt64, UInt64) = (4096, 4 << 20)

    init(size: UInt64) { self.size = size }

    /// Reads the next one, in steps that grow with it.
    mutating func next(_ read: (Range<UInt64>) throws -> [UInt8]) throws -> Pickle {
        var (start, step) = (position, Self.shortest)
        let (pickle, length) = try Unpickler.read {
            let range = start..<start + min(step, size - start)
            (start, step) = (range.upperBound, min(2 * step, Self.longest))
            return try readExactly(range, read)
        }
        position += UInt64(length)
        return pickle
    }
}

extension TorchTensor {
    /// Counts from the storage's start instead of a part's.
    fileprivate mutating func move(into view: TorchView) throws(TensorFileError) {
        let (start, overflow) = offset.addingReportingOverflow(view.range.lowerBound)
        offset = start
        var isInside = !overflow
        if isPlain, let dtype, let range, !range.isEmpty {
            isInside = isInside && range.upperBound / dtype.elementLength <= view.range.upperBound
        }
        guard isInside else {
            throw TensorFileError(.invalidStorage, "The tensor \(name.quoted) reaches beyond its storage.")
        }
    }
}
