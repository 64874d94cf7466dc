/// A value of Python's, to make pickles by hand.
indirect enum PythonValue {
    case none
    case integer(Int64)
    case text(String)
    case tuple([PythonValue])
    case list([PythonValue])
    case dictionary([(PythonValue, PythonValue)])
    case global(String, String)
    case persistent(PythonValue)
    case object(PythonValue, arguments: [PythonValue], state: PythonValue?)

    /// In protocol 2.
    var pickle: [UInt8] {
        var bytes: [UInt8] = [0x80, 2]
        write(to: &bytes)
        return bytes + [0x2E]
    }

    private func write(to bytes: inout [UInt8]) {
        switch self {
        case .none: bytes.append(0x4E)
        case .integer(let value): bytes += [0x8A, 8] + little(UInt64(bitPattern: value), 8)
        case .text(let text): bytes += [0x58] + little(UInt64(text.utf8.count), 4) + text.utf8
        case .tuple(let items): PythonValue.write(0x28, items, 0x74, to: &bytes)
        case .list(let items):
            bytes.append(0x5D)
            PythonValue.write(0x28, items, 0x65, to: &bytes)
        case .dictionary(let items):
            bytes.append(0x7D)
            PythonValue.write(0x28, items.flatMap { [$0.0, $0.1] }, 0x75, to: &bytes)
        case .global(let module, let name): bytes += "c\(module)\n\(name)\n".utf8
        case .persistent(let id):
            id.write(to: &bytes)
            bytes.append(0x51)
        case .object(let function, let arguments, let state):
            function.write(to: &bytes)
            PythonValue.tuple(arguments).write(to: &bytes)
            bytes.append(0x52)
            if let state {
                state.write(to: &bytes)
                bytes.append(0x62)
            }
        }
    }

    private static func write(
        _ first: UInt8, _ items: [PythonValue], _ last: UInt8, to bytes: inout [UInt8]
    ) {
        bytes.append(first)
        for item in items { item.write(to: &bytes) }
        bytes.append(last)
    }
}

extension PythonValue {
    /// An object with attributes.
    static func instance(_ name: String, _ attributes: [(String, PythonValue)]) -> PythonValue {
        .object(
            .global("torch.distributed.checkpoint.metadata", name), arguments: [],
            state: attributes.isEmpty
                ? nil : .dictionary(attributes.map { (.text($0.0), $0.1) }))
    }

    static func size(_ lengths: [Int64]) -> PythonValue {
        .object(.global("torch", "Size"), arguments: [.tuple(lengths.map { .integer($0) })], state: nil)
    }
}

/// A `.metadata` by hand, of which each part can be wrong.
struct PythonMetadata {
    var entries: [(String, PythonValue)] = []
    var items: [(PythonValue, PythonValue)] = []

    mutating func addTensor(
        _ name: String, _ shape: [Int64], dtype: String = "float32",
        chunks: [(offsets: [Int64], shape: [Int64])]
    ) {
        let properties = PythonValue.object(
            .global("torch.distributed.checkpoint.metadata", "TensorProperties"), arguments: [],
            state: .tuple([.global("torch", dtype), .none]))
        let chunks = chunks.map {
            PythonValue.instance(
                "ChunkStorageMetadata", [("offsets", .size($0.offsets)), ("sizes", .size($0.shape))])
        }
        entries.append(
            (
                name,
                .instance(
                    "TensorStorageMetadata",
                    [("properties", properties), ("size", .size(shape)), ("chunks", .list(chunks))])
            ))
    }

    mutating func addObject(_ name: String) {
        entries.append((name, .instance("BytesStorageMetadata", [])))
    }

    mutating func place(
        _ name: String, _ offsets: [Int64]?, index: Int64? = nil, file: String = "__0_0.distcp",
        offset: Int64 = 0, length: Int64 = 100
    ) {
        var key: [(String, PythonValue)] = [("fqn", .text(name))]
        if let offsets { key.append(("offset", .size(offsets))) }
        key.append(("index", index.map { .integer($0) } ?? .none))
        items.append(
            (
                .instance("MetadataIndex", key),
                .instance(
                    "_StorageInfo",
                    [
                        ("relative_path", .text(file)), ("offset", .integer(offset)),
                        ("length", .integer(length)),
                    ])
            ))
    }

    var pickle: [UInt8] {
        PythonValue.instance(
            "Metadata",
            [
                ("state_dict_metadata", .dictionary(entries.map { (.text($0.0), $0.1) })),
                ("planner_data", .none), ("storage_data", .dictionary(items)),
            ]
        ).pickle
    }
}
