extension TensorMap {
    /// The map of a checkpoint of PyTorch: a zip file as `torch.save` writes it since PyTorch 1.6.
    ///
    /// Each storage is cut at the bounds of its tensors, so that a tensor is the same blob as in any other file.
    /// Tensors of the same bytes share an extent. Where tensors overlap otherwise, or one is not plain (transposed,
    /// say, or conjugated, or of an unknown type), the storage is one extent, with the plain ones as views into
    /// it; the others are in no list. What lies between tensors, and records that hold no tensors, are
    /// extents of their own from some size on, so that what is left to the template stays small.
    ///
    /// The pickle is read without anything being imported or called. Of the file only its structure is read: the
    /// end, the zip directory, the header in front of each record, the pickle, the byte order; never a tensor.
    ///
    /// - Parameters:
    ///   - size: bytes of the file.
    ///   - read: gives the bytes of a range inside the file. What it throws passes through.
    /// - Throws: `PyTorchError` where the file can't be cut with certainty.
    public init(pyTorch size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        self = try TorchCut(try TorchContents(size: size, read: read), size: size).map
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

/// The map of a file of PyTorch, and which tensors of its pickle it lists.
struct TorchCut {
    private(set) var map = TensorMap(format: "pytorch", extents: [], tensors: [])
    /// Places among the tensors of the walk, for each of the map's, in ascending order.
    let listed: [Int]

    init(_ contents: TorchContents, size: UInt64) throws(PyTorchError) {
        var tensorsOfStorage = [[Int]](repeating: [], count: contents.storages.count)
        for (index, tensor) in contents.walk.tensors.enumerated() {
            guard let storage = contents.storageOfNode[tensor.storage] else { continue }
            tensorsOfStorage[storage].append(index)
        }

        var found: [(index: Int, tensor: TensorMap.Tensor)] = []
        for stretch in contents.stretches {
            guard let storage = stretch.storage else {
                if stretch.length >= Self.ownExtentLength { map.extents.append(Extent(stretch.range)) }
                continue
            }
            let tensors = tensorsOfStorage[storage].map { contents.walk.tensors[$0] }
            let cut = try StorageCut(contents.storages[storage], tensors: tensors, length: stretch.length)
            for place in cut.places {
                let (tensor, index) = (tensors[place.tensor], tensorsOfStorage[storage][place.tensor])
                guard let dtype = tensor.dtype, let shape = tensor.unpackedShape else { continue }
                found.append(
                    (
                        index,
                        TensorMap.Tensor(
                            name: tensor.name, dtype: dtype.name, shape: shape,
                            extent: map.extents.count + place.extent, offset: place.offset,
                            length: place.length)
                    ))
            }
            map.extents += cut.extents.map { Extent(from: $0, start: stretch.range.lowerBound) }
        }
        guard size - map.extents.reduce(0, { $0 + $1.length }) <= PyTorchLimits.literalLength else {
            throw PyTorchError(
                .tooLarge, "The file has over 16 MiB around its tensors, for there are very many of them.")
        }
        found.sort { $0.index < $1.index }
        listed = found.map(\.index)
        map.tensors = found.map(\.tensor)
        map.makeNamesUnique()
    }

    private typealias Extent = TensorMap.Extent

    /// From how many bytes on a record without tensors, or the zip directory, is an extent.
    private static let ownExtentLength: UInt64 = 64 << 10
}

extension TensorMap.Extent {
    /// Bytes whose meaning is not known.
    fileprivate init(_ range: Range<UInt64>) {
        self.init(offset: range.lowerBound, length: range.upperBound - range.lowerBound, elementSize: 1)
    }

    /// An extent of a storage that begins at `start`.
    fileprivate init(from extent: Self, start: UInt64) {
        self = extent
        offset += start
    }
}
