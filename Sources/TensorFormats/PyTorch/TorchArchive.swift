/// A checkpoint of PyTorch: which records of the archive are storages, and which tensors lie in each.
struct TorchArchive {
    let archive: ZipArchive
    let walk: TensorWalk
    let storages: TorchStorages
    /// The storage that each record is, by their places.
    private let storageOfRecord: [Int: Int]

    /// Reads the archive's structure, its pickle and its byte order.
    /// - Parameter spent: what other archives in the same file have taken of its limits.
    init(
        size: UInt64, spent: inout TorchSpending, read: (Range<UInt64>) throws -> [UInt8]
    ) throws {
        archive = try ZipArchive(size: size, read: read)
        let records = archive.records
        // The root is what stands before the first slash, whatever it is.
        let pickles = records.indices.filter {
            let parts = records[$0].name.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            return parts.count == 2 && parts[1] == Array("data.pkl".utf8)[...]
        }
        guard pickles.count == 1, let record = pickles.first.map({ records[$0] }) else {
            throw TensorFileError(.otherFormat, "The file is a zip file without a pickle of PyTorch in it.")
        }
        let root = Array(record.name.dropLast("data.pkl".utf8.count))
        var places: [[UInt8]: Int] = [:]
        for (index, record) in records.enumerated() { places[record.name] = index }
        try Self.checkByteOrder(places[root + "byteorder".utf8].map { records[$0] }, read)

        guard record.length <= UInt64(PickleLimits.tensors.length - spent.pickleLength) else {
            throw TensorFileError(.tooLarge, "The file has over 64 MiB of pickles.")
        }
        spent.pickleLength += Int(record.length)
        let bytes = try readExactly(record.data, read)
        guard record.crc == 0 || record.crc == CRC32(bytes).value else {
            throw TensorFileError(
                .invalidPickle, "The pickle in the file is damaged: its checksum is another.")
        }
        let pickle = try Unpickler.read(bytes)
        storages = try TorchStorages(in: pickle)
        storageOfRecord = try Self.records(of: storages, places, in: archive, folder: root + "data/".utf8)
        walk = try TensorWalk(pickle, spent: spent)
        spent = walk.spent
    }

    /// What can be cut out of the file.
    var contents: TorchContents {
        var pieces = archive.records.enumerated().map { index, record in
            TorchContents.Piece(range: record.data, storage: storageOfRecord[index])
        }
        pieces.append(TorchContents.Piece(range: archive.directory))
        return TorchContents(walk: walk, storages: storages, tensors: walk.tensors, pieces: pieces)
    }

    private static func checkByteOrder(
        _ record: ZipArchive.Record?, _ read: (Range<UInt64>) throws -> [UInt8]
    ) throws {
        // Before PyTorch 2.1 there is no such record.
        guard let record else { return }
        guard record.length <= 16, try readExactly(record.data, read) == Array("little".utf8) else {
            throw TensorFileError(.byteOrder, "The numbers in the file are not little endian.")
        }
    }

    /// Finds the record of each storage, which must be as long as the pickle says.
    private static func records(
        of storages: TorchStorages, _ places: [[UInt8]: Int], in archive: ZipArchive, folder: [UInt8]
    ) throws(TensorFileError) -> [Int: Int] {
        guard storages.views.isEmpty else {
            throw TensorFileError(
                .invalidStorage, "The file names a part of a storage, which no zip file of PyTorch does.")
        }
        var found: [Int: Int] = [:]
        for (index, storage) in storages.all.enumerated() {
            guard let record = places[folder + storage.key.utf8] else {
                throw TensorFileError(
                    .invalidStorage, "The storage \(storage.key.quoted) is missing in the file.")
            }
            let length = archive.records[record].length
            guard storage.elements == .unknown || storage.length == length else {
                throw TensorFileError(
                    .invalidStorage,
                    "The storage \(storage.key.quoted) has \(length) bytes, which is not what the pickle says."
                )
            }
            found[record] = index
        }
        return found
    }
}
