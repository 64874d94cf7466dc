/// A checkpoint of PyTorch: which records of the archive are storages, and which tensors lie in each.
struct TorchArchive {
    let archive: ZipArchive
    /// What the pickle says of each storage.
    private(set) var storages: [TorchStorage] = []
    /// In the order of the pickle. `storage` of each is in `storageOfNode`.
    private(set) var tensors: [TorchTensor] = []
    /// The storage that each persistent id stands for: a place in `storages`.
    private(set) var storageOfNode: [Pickle.Index: Int] = [:]
    /// The record of each storage, and by the record the other way round.
    private(set) var storageOfRecord: [Int: Int] = [:]

    /// Reads the archive's structure, its pickle and its byte order.
    init(size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        archive = try ZipArchive(size: size, read: read)
        let records = archive.records
        // The root is what stands before the first slash, whatever it is.
        let pickles = records.indices.filter {
            let parts = records[$0].name.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            return parts.count == 2 && parts[1] == Array("data.pkl".utf8)[...]
        }
        guard pickles.count == 1, let record = pickles.first.map({ records[$0] }) else {
            throw PyTorchError(.notPyTorch, "The file is a zip file without a pickle of PyTorch in it.")
        }
        let root = Array(record.name.dropLast("data.pkl".utf8.count))
        var places: [[UInt8]: Int] = [:]
        for (index, record) in records.enumerated() { places[record.name] = index }
        try Self.checkByteOrder(places[root + "byteorder".utf8].map { records[$0] }, read)

        guard record.length <= UInt64(PyTorchLimits.pickleLength) else {
            throw PyTorchError(.tooLarge, "The pickle in the file has over 64 MiB.")
        }
        let bytes = try readExactly(record.data, read)
        guard record.crc == 0 || record.crc == CRC32(bytes).value else {
            throw PyTorchError(.invalidPickle, "The pickle in the file is damaged: its checksum is another.")
        }
        let pickle = try Unpickler.read(bytes)
        try findStorages(in: pickle, places, folder: root + "data/".utf8)
        tensors = try TensorWalk(pickle).tensors
    }

    private static func checkByteOrder(
        _ record: ZipArchive.Record?, _ read: (Range<UInt64>) throws -> [UInt8]
    ) throws {
        // Before PyTorch 2.1 there is no such record.
        guard let record else { return }
        guard record.length <= 16, try readExactly(record.data, read) == Array("little".utf8) else {
            throw PyTorchError(.byteOrder, "The numbers in the file are not little endian.")
        }
    }

    /// Finds the record of each storage, which must be as long as the pickle says.
    private mutating func findStorages(
        in pickle: Pickle, _ places: [[UInt8]: Int], folder: [UInt8]
    ) throws(PyTorchError) {
        for (node, value) in pickle.nodes.enumerated() {
            guard case .persistent(let id) = value, let storage = try TorchStorage(id: id, in: pickle) else {
                continue
            }
            guard let record = places[folder + storage.key.utf8] else {
                throw PyTorchError(
                    .invalidStorage, "The storage \(storage.key.quoted) is missing in the file.")
            }
            if let known = storageOfRecord[record] {
                guard storages[known] == storage else {
                    throw PyTorchError(
                        .invalidStorage,
                        "The file names the storage \(storage.key.quoted) in two ways that differ.")
                }
                storageOfNode[Pickle.Index(node)] = known
                continue
            }
            let length = archive.records[record].length
            guard storage.elements == .unknown || storage.length == length else {
                throw PyTorchError(
                    .invalidStorage,
                    "The storage \(storage.key.quoted) has \(length) bytes, which is not what the pickle says."
                )
            }
            storageOfRecord[record] = storages.count
            storageOfNode[Pickle.Index(node)] = storages.count
            storages.append(storage)
        }
    }
}
