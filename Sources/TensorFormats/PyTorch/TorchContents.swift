/// What is known of a file of PyTorch: its storages, the tensors in each, and where all of that lies.
struct TorchContents {
    /// A stretch of the file that may become one blob or several.
    struct Piece {
        var range: Range<UInt64>
        /// A place in `storages.all`; nil where no tensor is in it.
        var storage: Int?
    }

    /// Of the pickle, with the paths to its tensors.
    let walk: TensorWalk
    var storages: TorchStorages
    /// As the walk has them, in the order of the pickle, but that they count from the start of their storage.
    /// `storage` of each is in `storages.ofNode`.
    var tensors: [TorchTensor]
    /// In the order of the file.
    var pieces: [Piece]

    /// Where the storages lie in the file, by the nodes that name them.
    var storageRanges: [Pickle.Index: Range<UInt64>] {
        var ranges = [Range<UInt64>?](repeating: nil, count: storages.all.count)
        for piece in pieces { if let storage = piece.storage { ranges[storage] = piece.range } }
        return storages.ofNode.compactMapValues { ranges[$0] }
    }
}

extension TorchContents {
    /// Of a file of any version of PyTorch.
    init(size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        if let legacy = try TorchLegacy(size: size, read: read) {
            self = legacy.contents
        } else {
            var spent = TorchSpending()
            self = try TorchArchive(size: size, spent: &spent, read: read).contents
        }
    }
}

/// What has been taken of the limits that hold for a whole file, however many pickles it has.
struct TorchSpending {
    var pickleLength = 0
    /// Places that walks looked at.
    var stepCount = 0
    var tensorCount = 0
    /// UTF-8 bytes of the tensors' names.
    var nameLength = 0
}
