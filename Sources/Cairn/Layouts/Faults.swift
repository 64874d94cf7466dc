internal import Platform
internal import TensorFormats

/// Whether files are whole, by their structure alone. Each answers with what is wrong, as a sentence without its full stop; nil where
/// nothing is.
extension CheckpointView {
    /// So many of one kind are named; nobody reads more.
    static let faultLimit = 100

    /// What reading a file ended with.
    static func fault(_ path: String, _ message: String) -> String {
        "\(path) is not whole: \(inner(message))"
    }

    /// The same; nil where the file is whole as far as can be seen, but nothing that is looked into.
    static func fault(_ path: String, _ error: TensorFileError) -> String? {
        switch error.code {
        case .compressed, .encrypted, .byteOrder, .unsupported, .tooLarge: nil
        default: fault(path, error.message)
        }
    }

    /// Of a file that holds tensors: safetensors, PyTorch, MindSpore, and whatever else is known by its name.
    func fault(inTensors path: String) throws -> String? { try tensorsOrFault(in: path).fault }

    /// The tensors of such a file, or what is wrong with it. A file that is whole may have none that are known.
    func tensorsOrFault(in path: String) throws -> (map: TensorMap?, fault: String?) {
        guard has(path) else { return (nil, "\(path) is missing") }
        do {
            return (try tensors(in: path), nil)
        } catch let error as TensorFileError {
            return (nil, Self.fault(path, error))
        }
    }

    /// Of a JSON file.
    func fault(inJSON path: String) throws -> String? {
        guard has(path) else { return "\(path) is missing" }
        return try json(path) == nil ? "\(path) is not JSON, so its writing was cut off" : nil
    }

    /// Of the files that say how to build a model, as far as there are any.
    /// - Parameter folder: with its slash; empty for the checkpoint's own.
    func faults(inConfigurationsOf folder: String = "") throws -> [String] {
        try ["config.json", "generation_config.json", "tokenizer_config.json"].map { folder + $0 }
            .filter(has).compactMap { try fault(inJSON: $0) }
    }

    /// Of a file of PyTorch, whatever its pickle holds: one of Python's objects may be of any kind.
    func fault(inRecordsOf path: String) throws -> String? {
        guard let file = self[path] else { return "\(path) is missing" }
        do {
            _ = try tree(of: file)
        } catch let error as TensorFileError where error.code == .otherFormat || error.code == .damaged {
            return try treeOrFault(of: file).fault
        } catch is TensorFileError {}
        return nil
    }

    /// Of the shards that an index names, and the index. (transformers, `modeling_utils.py`)
    func faults(inIndex path: String) throws -> [String] {
        guard let index = try json(path), let map = index["weight_map"]?.members else {
            return ["\(path) is not an index of shards, so its writing was cut off"]
        }
        let folder = path.contains("/") ? String(path[...path.lastIndex(of: "/")!]) : ""
        let shards = Set(map.compactMap { $0.value.stringValue })
        return try shards.sorted().compactMap { try fault(inTensors: folder + $0) }
    }

    /// The first number that is missing below the greatest of some; nil where none is.
    /// - Parameter first: what they are counted from.
    static func gap(in numbers: some Sequence<UInt64>, from first: UInt64 = 0) -> UInt64? {
        var wanted = first
        for number in Set(numbers).sorted() {
            guard number == wanted else { return wanted }
            wanted += 1
        }
        return nil
    }

    /// A sentence as a part of another one.
    static func inner(_ sentence: String) -> String {
        let text = sentence.hasSuffix(".") ? String(sentence.dropLast()) : sentence
        return text.prefix(1).lowercased() + text.dropFirst()
    }
}
