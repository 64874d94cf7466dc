extension TensorMap {
    /// The map of a `.npy` file: one array, whose name is empty.
    ///
    /// An array in Fortran's order is an extent, but no tensor, unless both orders are the same.
    ///
    /// - Parameters:
    ///   - size: bytes of the file.
    ///   - read: gives the bytes of a range inside the file. What it throws passes through.
    /// - Throws: `TensorFileError` where the file can't be cut with certainty.
    public init(npy size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        let header = try NumPyHeader(in: 0..<size, read)
        try self.init(format: "npy", size: size, [header.stretch(at: 0, name: "")])
    }

    /// The map of a `.npz` file, a zip file of arrays: each has the name that `numpy.load` gives it.
    ///
    /// Members that are no plain arrays (objects, fields, big-endian numbers, other files) are in no list; where all
    /// are such, the first one's reason is thrown. Of the file only its structure is read, never an element.
    public init(npz size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        let archive = try ZipArchive(size: size, read: read)
        var stretches: [Stretch] = []
        var reason: TensorFileError?
        for record in archive.records {
            guard record.name.suffix(4).elementsEqual(".npy".utf8),
                let name = String(validating: record.name.dropLast(4), as: UTF8.self)
            else { continue }
            do {
                let header = try NumPyHeader(in: record.data, read)
                stretches.append(header.stretch(at: record.data.lowerBound, name: name))
            } catch let error as TensorFileError where error.code != .damaged {
                reason = reason ?? error
                guard record.length >= Self.ownExtentLength else { continue }
                stretches.append(Stretch(range: record.data, elementSize: 1))
            }
        }
        if let reason, !stretches.contains(where: { $0.tensor != nil }) { throw reason }
        try self.init(format: "npz", size: size, stretches)
    }
}
