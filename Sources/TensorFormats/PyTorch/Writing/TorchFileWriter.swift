/// Plans a file as `torch.save` writes it, which `torch.load(weights_only=True)` reads with every version from 1.6 on.
///
/// Against `torch.save` of the same value only the record `.data/serialization_id` differs, which nothing reads:
/// PyTorch makes it of its C++ library's hashes. Where the caller leaves checksums 0, the file is as PyTorch writes it
/// with `compute_crc32 = False`. No version of PyTorch compares checksums (they are switched off where it is built);
/// Python's `zipfile`, `unzip` and some readers in other languages do, and refuse a 0.
public enum TorchFileWriter {
    /// A tensor to be written. Its bytes are a content: a number in the caller's own list.
    public struct Tensor: Sendable {
        /// For sentences only; the value has the names.
        public var name: String
        public var dtype: DType
        /// As safetensors counts it.
        public var shape: [UInt64]
        /// The elements row by row, exactly as many bytes as type and shape need. Tensors of one content and type
        /// share a storage, as tied parameters do.
        public var content: Int

        public init(name: String, dtype: DType, shape: [UInt64], content: Int) {
            self.name = name
            self.dtype = dtype
            self.shape = shape
            self.content = content
        }
    }

    /// - Parameters:
    ///   - value: names tensors by their place in `tensors`. Those that it does not name are not written.
    ///   - root: the folder in the archive: `root(forFile:)`, as a rule.
    /// - Throws: `TensorFileError` for what PyTorch has no type for, or can't have.
    public static func file(
        of value: TorchValue, tensors: [Tensor], root: String = "archive"
    ) throws(TensorFileError) -> FileParts {
        guard !root.isEmpty, root.utf8.count <= 1024, !root.utf8.contains(UInt8(ascii: "/")) else {
            throw TensorFileError(.invalidName, "The archive can't have a root called \(root.quoted).")
        }
        try value.check(tensorCount: tensors.count)
        var storages = TorchStoragePlan(try tensors.map(TorchTensorPlan.init))
        try storages.checkLengths()

        var pickle = PickleWriter()
        pickle.value(value) { pickle, number in storages.write(number, to: &pickle) }

        var zip = ZipWriter()
        func add(_ name: String, _ bytes: [UInt8]) { zip.add("\(root)/\(name)", bytes) }
        let data = pickle.finish()
        add("data.pkl", data)
        add(".format_version", Array("1".utf8))
        add(".storage_alignment", Array("64".utf8))
        add("byteorder", Array("little".utf8))
        for (key, storage) in storages.used.enumerated() {
            zip.add("\(root)/data/\(key)", content: storage.content, byteCount: storage.byteCount)
        }
        add("version", Array("3\n".utf8))
        add(
            ".data/serialization_id",
            serializationID(root: root, storageCount: storages.used.count, pickle: data))
        return zip.finish()
    }

    /// The root that `torch.save` takes for a file of this name: what stands before its last dot, or `archive` where that
    /// is nothing or not ASCII.
    public static func root(forFile name: String) -> String {
        let stem = name.lastIndex(of: ".").map { name[..<$0] } ?? name[...]
        return stem.isEmpty || !stem.utf8.allSatisfy { 0x20..<0x7F ~= $0 && $0 != UInt8(ascii: "/") }
            ? "archive" : String(stem)
    }

    /// 40 digits that are the same for the same file: 20 for the names of the records, and 20 for what is in them as far
    /// as that is known.
    private static func serializationID(root: String, storageCount: Int, pickle: [UInt8]) -> [UInt8] {
        let names = CRC32(Array("\(root)/\(storageCount)".utf8)).value
        return [names, CRC32(pickle).value].flatMap { number in
            let digits = Array(String(number).utf8)
            return [UInt8](repeating: UInt8(ascii: "0"), count: 20 - digits.count) + digits
        }
    }
}
