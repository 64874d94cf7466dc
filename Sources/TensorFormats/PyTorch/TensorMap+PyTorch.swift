extension TensorMap {
    /// The map of a checkpoint of PyTorch: a zip file as `torch.save` writes it since PyTorch 1.6, or pickles and
    /// storages one behind the other, as it wrote before and still does when it is told to.
    ///
    /// Each storage is cut at the bounds of its tensors, so that a tensor is the same blob as in any other file.
    /// Tensors of the same bytes share an extent. Where tensors overlap otherwise, or one is not plain (transposed,
    /// say, or conjugated, or of an unknown type), the storage is one extent, with the plain ones as views into
    /// it; the others are in no list. What lies between tensors, and records that hold no tensors, are
    /// extents of their own from some size on, so that what is left to the template stays small.
    ///
    /// The pickle is read without anything being imported or called. Of the file only its structure is read: the
    /// end, the zip directory, the header in front of each record, the pickle, the byte order; never a tensor, but
    /// for one that stands within a few KiB of those.
    ///
    /// - Parameters:
    ///   - size: bytes of the file.
    ///   - read: gives the bytes of a range inside the file. What it throws passes through.
    /// - Throws: `TensorFileError` where the file can't be cut with certainty.
    public init(pyTorch size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        self = try TorchCut(size: size, read: read).map
    }

    /// Numbers the second and each later tensor of a name: `a`, `a#2`, `a#3`.
    ///
    /// Paths are unique, but `a.b` may be one key or two, and 1 may be a number or a text.
    fileprivate mutating func makeNamesUnique() {
        var taken = Set(tensors.map { ExactText($0.name) })
        guard taken.count < tensors.count else { return }
        var seen: [ExactText: Int] = [:]
        for index in tensors.indices {
            let name = tensors[index].name
            var number = seen[ExactText(name), default: 0] + 1
            if number > 1 {
                while !taken.insert(ExactText("\(name)#\(number)")).inserted { number += 1 }
                tensors[index].name = "\(name)#\(number)"
            }
            seen[ExactText(name)] = number
        }
    }
}

/// A file of PyTorch, its map, and which tensors of its pickle the map lists.
struct TorchCut {
    let contents: TorchContents
    private(set) var map: TensorMap
    /// Places in `contents.tensors`, for each of the map's tensors, in ascending order.
    let listed: [Int]

    /// Of a file of any version of PyTorch.
    init(size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        try self.init(try TorchContents(size: size, read: read), format: "pytorch")
        guard map.literalLength(in: size) <= TensorMap.maximumLiteralLength else {
            throw TensorFileError(
                .tooLarge, "The file has over 16 MiB around its tensors, for there are very many of them.")
        }
    }

    /// - Parameter naming: makes the name of a tensor from its path.
    init(
        _ torch: TorchContents, format: String, naming: (String) -> String = { $0 }
    ) throws(TensorFileError) {
        contents = torch
        map = TensorMap(format: format, extents: [], tensors: [])
        var tensorsOfStorage = [[Int]](repeating: [], count: torch.storages.all.count)
        for (index, tensor) in torch.tensors.enumerated() {
            guard let storage = torch.storages.ofNode[tensor.storage] else { continue }
            tensorsOfStorage[storage].append(index)
        }

        var found: [(index: Int, tensor: TensorMap.Tensor)] = []
        for piece in torch.pieces {
            let length = piece.range.upperBound - piece.range.lowerBound
            guard let storage = piece.storage else {
                if length >= TensorMap.ownExtentLength {
                    map.extents.append(
                        TensorMap.Extent(offset: piece.range.lowerBound, length: length, elementSize: 1))
                }
                continue
            }
            let tensors = tensorsOfStorage[storage].map { torch.tensors[$0] }
            let cut = try StorageCut(torch.storages.all[storage], tensors: tensors, length: length)
            for place in cut.places {
                let (tensor, index) = (tensors[place.tensor], tensorsOfStorage[storage][place.tensor])
                guard let dtype = tensor.dtype, let shape = tensor.unpackedShape else { continue }
                found.append(
                    (
                        index,
                        TensorMap.Tensor(
                            name: naming(tensor.name), dtype: dtype.name, shape: shape,
                            extent: map.extents.count + place.extent, offset: place.offset,
                            length: place.length)
                    ))
            }
            map.extents += cut.extents.map { $0.moved(by: piece.range.lowerBound) }
        }
        found.sort { $0.index < $1.index }
        listed = found.map(\.index)
        map.tensors = found.map(\.tensor)
        map.makeNamesUnique()
    }
}

extension TensorMap.Extent {
    /// The same extent in a file in which `offset` bytes stand before.
    func moved(by offset: UInt64) -> Self {
        Self(offset: self.offset + offset, length: length, elementSize: elementSize)
    }
}
