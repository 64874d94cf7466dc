/// A checkpoint of PyTorch as a zip file: where the pickle and the storages lie in it.
struct TorchArchive {
    let archive: ZipArchive
    /// What stands in front of the names of all records that matter, with a slash at its end.
    private let root: [UInt8]
    /// Each record's place in the file, by its name.
    private let places: [[UInt8]: Int]

    /// Reads the archive's structure and its byte order.
    init(size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        archive = try ZipArchive(size: size, read: read)
        // The root is what stands before the first slash, whatever it is.
        let names = archive.records.map(\.name).filter {
            let parts = $0.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            return parts.count == 2 && parts[1] == Self.pickleName[...]
        }
        guard names.count == 1, let name = names.first else {
            throw PyTorchError(.notPyTorch, "The file is a zip file without a pickle of PyTorch in it.")
        }
        root = Array(name.dropLast(Self.pickleName.count))
        var places: [[UInt8]: Int] = [:]
        for (index, record) in archive.records.enumerated() { places[record.name] = index }
        self.places = places
        try checkByteOrder(read)
    }

    private static let pickleName = Array("data.pkl".utf8)

    private func record(_ name: [UInt8]) -> ZipArchive.Record? {
        places[root + name].map { archive.records[$0] }
    }

    private func checkByteOrder(_ read: (Range<UInt64>) throws -> [UInt8]) throws {
        // Before PyTorch 2.1 there is no such record.
        guard let record = record(Array("byteorder".utf8)) else { return }
        guard record.length <= 16, try readExactly(record.data, read) == Array("little".utf8) else {
            throw PyTorchError(.byteOrder, "The numbers in the file are not little endian.")
        }
    }

    private func pickle(_ read: (Range<UInt64>) throws -> [UInt8]) throws -> [UInt8] {
        guard let record = record(Self.pickleName), record.length <= UInt64(PyTorchLimits.pickleLength) else {
            throw PyTorchError(.tooLarge, "The pickle in the file has over 128 MiB.")
        }
        let bytes = try readExactly(record.data, read)
        guard record.crc == 0 || record.crc == crc32(bytes) else {
            throw PyTorchError(.invalidPickle, "The pickle in the file is damaged: its checksum is another.")
        }
        return bytes
    }

    /// Reads the pickle, and finds its storages.
    func contents(_ read: (Range<UInt64>) throws -> [UInt8]) throws -> TorchContents {
        let pickle = try Unpickler.read(try pickle(read))
        return try TorchContents(pickle, stretches: archive.records.map(\.data) + [archive.directory]) {
            key in
            places[root + "data/".utf8 + key.utf8]
        }
    }
}

/// The CRC-32 of zip files.
private func crc32(_ bytes: [UInt8]) -> UInt32 {
    let table = (0..<256 as Range<UInt32>).map { byte in
        (0..<8).reduce(byte) { value, _ in value >> 1 ^ (value & 1 == 0 ? 0 : 0xEDB8_8320) }
    }
    var crc = UInt32.max
    for byte in bytes { crc = crc >> 8 ^ table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)] }
    return ~crc
}
