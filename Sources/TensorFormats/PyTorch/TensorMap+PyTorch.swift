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
    /// - Throws: `PyTorchError` where the file can't be cut with certainty.
    public init(pyTorch size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        let contents = try PyTorchError.from { try TorchContents(size: size, read: read) }
        try self.init(cutting: contents, format: "pytorch")
        guard literalLength(in: size) <= Self.maximumLiteralLength else {
            throw PyTorchError(
                .tooLarge, "The file has over 16 MiB around its tensors, for there are very many of them.")
        }
    }

    /// - Parameter naming: makes the name of a tensor from its path.
    init(
        cutting torch: TorchContents, format: String, naming: (String) -> String = { $0 }
    ) throws(PyTorchError) {
        self.init(format: format, extents: [], tensors: [])
        var tensorsOfStorage = [[Int]](repeating: [], count: torch.storages.all.count)
        for (index, tensor) in torch.tensors.enumerated() {
            guard let storage = torch.storages.ofNode[tensor.storage] else { continue }
            tensorsOfStorage[storage].append(index)
        }

        var found: [(index: Int, tensor: Tensor)] = []
        for piece in torch.pieces {
            let length = piece.range.upperBound - piece.range.lowerBound
            guard let storage = piece.storage else {
                if length >= Self.ownExtentLength {
                    extents.append(Extent(offset: piece.range.lowerBound, length: length, elementSize: 1))
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
                        Tensor(
                            name: naming(tensor.name), dtype: dtype.name, shape: shape,
                            extent: extents.count + place.extent, offset: place.offset, length: place.length)
                    ))
            }
            extents += cut.extents.map { $0.moved(by: piece.range.lowerBound) }
        }
        tensors = found.sorted { $0.index < $1.index }.map(\.tensor)
        makeNamesUnique()
    }

    /// Numbers the second and each later tensor of a name: `a`, `a#2`, `a#3`.
    ///
    /// Paths are unique, but `a.b` may be one key or two, and 1 may be a number or a text.
    private mutating func makeNamesUnique() {
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

extension TensorMap.Extent {
    /// The same extent in a file in which `offset` bytes stand before.
    func moved(by offset: UInt64) -> Self {
        Self(offset: self.offset + offset, length: length, elementSize: elementSize)
    }
}
