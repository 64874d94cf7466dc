/// Reads tensors and slices straight from the tokens, for a tree of all the ranks of a cluster would be many times as
/// large as the file.
struct MindFormersReader {
    private(set) var tensors: [MindFormersMetadata.Tensor] = []
    private(set) var slices: [MindFormersMetadata.StoredSlice] = []

    var lexer: JSONLexer
    /// Lists that came before: nearly every tensor has the ranks of another.
    private var lists: Set<[Int]> = []
    private var listedCount = 0
    private var fileNames: [ExactText: String] = [:]

    /// Integers in lists that differ.
    private static let maximumListedCount = 8 << 20

    init(_ lexer: JSONLexer) { self.lexer = lexer }

    mutating func read() throws {
        var sections: Set<String> = []
        try object { reader, key in
            guard key == "state_dict_metadata" || key == "storage_data" else {
                return try reader.lexer.skipValue()
            }
            guard sections.insert(key).inserted else { throw Self.error("has \(key) twice") }
            if key == "storage_data" {
                try reader.object { try $0.readSlice(key: $1) }
            } else {
                try reader.object { try $0.readTensor(name: $1) }
            }
        }
        try lexer.expectEnd()
        guard sections.count == 2 else { throw Self.error("lacks state_dict_metadata or storage_data") }
        let names = Set(tensors.map { ExactText($0.name) })
        guard names.count == tensors.count else { throw Self.error("describes a tensor twice") }
    }

    static func error(_ what: String) -> MindFormersError {
        MindFormersError("The file metadata.json \(what).")
    }

    // MARK: Tensors

    private mutating func readTensor(name: String) throws {
        var tensor = MindFormersMetadata.Tensor(
            name: name, dtype: "", replicas: .one(0), allowsShapeMismatch: false, isSaved: true, shape: [],
            fragmentations: [], layout: nil, chunks: [])
        var found: Set<String> = []
        try object { reader, key in
            found.insert(key)
            switch key {
            case "properties": try reader.readProperties(of: &tensor)
            case "global_shape": tensor.shape = try reader.shape()
            case "axis_fragmentations": tensor.fragmentations = try reader.integers()
            case "layout":
                if try reader.lexer.peek() == UInt8(ascii: "n") {
                    try reader.lexer.literal("null")
                } else {
                    tensor.layout = try reader.readLayout(of: name)
                }
            case "chunk": try reader.array { tensor.chunks.append(try $0.readChunk(of: name)) }
            default: try reader.lexer.skipValue()
            }
        }
        guard found.isSuperset(of: ["properties", "global_shape", "axis_fragmentations", "chunk"]),
            !tensor.dtype.isEmpty
        else { throw Self.error("lacks something of the tensor \(name.quoted)") }
        try check(tensor)
        tensors.append(tensor)
    }

    /// That layout, shape, cuts and chunks say the same.
    private func check(_ tensor: MindFormersMetadata.Tensor) throws {
        let whole = tensor.shape.map { _ in 1 }
        guard tensor.fragmentations == tensor.layout?.fragmentations ?? whole,
            DType.u8.byteCount(shape: tensor.shape) != nil
        else { throw Self.error("cuts the tensor \(tensor.name.quoted) otherwise than its layout does") }
        if case .each(let replicas) = tensor.replicas, replicas.count != tensor.layout?.ranks.count {
            throw Self.error(
                "counts the replicas of the tensor \(tensor.name.quoted) for other ranks than it has")
        }
        // Where slices of interleaved layouts lie is not known, but they can be read.
        let shape = tensor.layout?.isInterleaved == true ? tensor.chunks.first?.shape : nil
        let expected: [UInt64]
        do {
            expected =
                try shape ?? tensor.layout?.sliceShape(of: tensor.shape, name: tensor.name) ?? tensor.shape
        } catch {
            throw MindFormersError("\(error)")
        }
        let count = tensor.layout?.sliceCount ?? 1
        guard tensor.chunks.allSatisfy({ $0.shape == expected && (0..<count).contains($0.slice) }),
            Set(tensor.chunks.map(\.slice)).count == tensor.chunks.count
        else { throw Self.error("has slices of the tensor \(tensor.name.quoted) that don't make it up") }
    }

    private mutating func readProperties(of tensor: inout MindFormersMetadata.Tensor) throws {
        try object { reader, key in
            switch key {
            case "dtype": tensor.dtype = try reader.string()
            case "replica_id":
                if try reader.lexer.peek() == UInt8(ascii: "[") {
                    tensor.replicas = .each(try reader.rankList())
                } else {
                    tensor.replicas = .one(try reader.integer())
                }
            case "allow_shape_mismatch": tensor.allowsShapeMismatch = try reader.bool()
            case "allow_to_save": tensor.isSaved = try reader.bool()
            default: try reader.lexer.skipValue()
            }
        }
    }

    private mutating func readLayout(of name: String) throws -> MindFormersLayout {
        var (matrix, ranks): ([Int], [Int]) = ([], [])
        var (map, names): ([MindFormersLayout.Cut], [String]) = ([], [])
        var isInterleaved = false
        try object { reader, key in
            switch key {
            case "device_matrix": matrix = try reader.integers()
            case "tensor_map":
                try reader.array(atMost: MindFormersLayout.maximumAxisCount) { map.append(try $0.readCut()) }
            case "interleaved_parallel": isInterleaved = try reader.bool()
            case "alias_name":
                try reader.array(atMost: MindFormersLayout.maximumAxisCount) { names.append(try $0.string()) }
            case "rank_list": ranks = try reader.rankList()
            default: try reader.lexer.skipValue()
            }
        }
        do {
            return try MindFormersLayout(
                deviceMatrix: matrix, tensorMap: map, isInterleaved: isInterleaved, axisNames: names,
                ranks: ranks)
        } catch {
            throw MindFormersError(
                "Of the tensor \(name.quoted) it can't be said where its slices are: \(error)")
        }
    }

    private mutating func readCut() throws -> MindFormersLayout.Cut {
        if try lexer.peek() == UInt8(ascii: "[") { return .axes(try integers(from: -1)) }
        let axis = try integer(from: -1)
        return axis < 0 ? .none : .axis(axis)
    }

    private mutating func readChunk(of name: String) throws -> MindFormersMetadata.Chunk {
        var (offset, shape): ([Int], [UInt64]?) = ([], nil)
        try object { reader, key in
            switch key {
            case "global_offset": offset = try reader.integers()
            case "local_shape": shape = try reader.shape()
            default: try reader.lexer.skipValue()
            }
        }
        guard offset.count == 1, let shape else {
            throw Self.error("has a slice of the tensor \(name.quoted) without its number or shape")
        }
        return .init(slice: offset[0], shape: shape)
    }

    // MARK: Stored slices

    private mutating func readSlice(key: String) throws {
        guard let (tensor, slice) = Self.slice(of: key) else {
            throw Self.error("stores \(key.quoted), which is no name with a slice")
        }
        var places: [MindFormersMetadata.Place] = []
        try array { places.append(try $0.readPlace(of: tensor)) }
        slices.append(.init(tensor: tensor, slice: slice, places: places))
    }

    /// What `StoredSlice.key` writes.
    static func slice(of key: String) -> (tensor: String, slice: Int)? {
        let source = Substring(key).unicodeScalars
        guard source.first == "(", let (tensor, rest) = PythonText.read(source.dropFirst()) else {
            return nil
        }
        let tail = String(rest)
        guard tail.hasPrefix(", ("), tail.hasSuffix(",))") else { return nil }
        let digits = tail.utf8.dropFirst(3).dropLast(3)
        guard digits.allSatisfy({ 0x30...0x39 ~= $0 }),
            let slice = Int(String(decoding: digits, as: UTF8.self)),
            MindFormersMetadata.StoredSlice(tensor: tensor, slice: slice, places: []).key.hasSameBytes(
                as: key)
        else { return nil }
        return (tensor, slice)
    }

    private mutating func readPlace(of tensor: String) throws -> MindFormersMetadata.Place {
        var (fileName, rank, holders): (String?, Int?, [Int]?) = (nil, nil, nil)
        try object { reader, key in
            switch key {
            case "file_name": fileName = try reader.string()
            case "storage_rank": rank = try reader.integer()
            case "rank_group": holders = try reader.rankList()
            default: try reader.lexer.skipValue()
            }
        }
        guard let fileName, let rank, Self.isFileName(fileName) else {
            throw Self.error("stores the tensor \(tensor.quoted) in no file of its folder")
        }
        let shared = fileNames[ExactText(fileName)] ?? fileName
        fileNames[ExactText(fileName)] = shared
        return .init(fileName: shared, rank: rank, holders: holders)
    }

    /// Whether it names something in the folder itself.
    private static func isFileName(_ name: String) -> Bool {
        (1...255).contains(name.utf8.count) && name != "." && name != ".."
            && !name.utf8.contains { $0 == UInt8(ascii: "/") || $0 == 0 }
    }

    // MARK: Ranks

    /// A list with a number for each rank, in the memory of an equal one where there is one.
    private mutating func rankList() throws -> [Int] {
        let list = try integers(atMost: MindFormersLayout.maximumRankCount)
        let (inserted, shared) = lists.insert(list)
        if inserted {
            listedCount += list.count
            guard listedCount <= Self.maximumListedCount else {
                throw Self.error("lists over 8,388,608 ranks that differ")
            }
        }
        return shared
    }
}
