/// The members of a header as they are read, in one pass and without a tree of JSON between.
///
/// What it takes is what the reference's serde code takes (`HashMetadata`, whose tensors are flattened, so that
/// serde buffers every value whole): hence the odd shapes below, an entry as an array or a dtype as an object.
struct SafetensorsEntries {
    private(set) var tensors: [SafetensorsTensor] = []
    private(set) var metadata: [(key: String, value: String)]?
    /// The first tensor name that comes a second time.
    private(set) var duplicate: String?

    private var names: Set<ExactText> = []
    private var hasMetadata = false

    mutating func read(from lexer: inout JSONLexer) throws(JSONError) {
        guard try lexer.peek() == UInt8(ascii: "{") else { throw lexer.fail("expected an object") }
        try lexer.open()
        var first = true
        while let key = try lexer.nextKey(first: first) {
            first = false
            if key.hasSameBytes(as: "__metadata__") {
                guard !hasMetadata else { throw lexer.fail("__metadata__ comes twice") }
                hasMetadata = true
                metadata = try lexer.metadata()
            } else {
                if !names.insert(ExactText(key)).inserted, duplicate == nil { duplicate = key }
                tensors.append(try lexer.tensor(name: key))
            }
        }
    }
}

extension JSONLexer {
    /// An object of strings, or null.
    fileprivate mutating func metadata() throws(JSONError) -> [(key: String, value: String)]? {
        if try peek() == UInt8(ascii: "n") {
            try literal("null")
            return nil
        }
        guard try peek() == UInt8(ascii: "{") else { throw fail("__metadata__ must be an object") }
        try open()
        var members: [(key: String, value: String)] = []
        var places: [ExactText: Int] = [:]
        var first = true
        while let key = try nextKey(first: first) {
            first = false
            guard try peek() == UInt8(ascii: "\"") else {
                throw fail("a value in __metadata__ must be a string")
            }
            let value = try string()
            // Of two values the last one counts, in the place of the first: so it is in a dictionary of Python.
            if let place = places[ExactText(key)] {
                members[place].value = value
            } else {
                places[ExactText(key)] = members.count
                members.append((key, value))
            }
        }
        return members
    }

    fileprivate mutating func tensor(name: String) throws(JSONError) -> SafetensorsTensor {
        switch try peek() {
        case UInt8(ascii: "{"): try tensorObject(name: name)
        case UInt8(ascii: "["): try tensorArray(name: name)
        default: throw fail("a tensor's entry must be an object")
        }
    }

    private mutating func tensorObject(name: String) throws(JSONError) -> SafetensorsTensor {
        try open()
        var (dtype, shape, extent): (DType?, [UInt64]?, Extent?)
        var first = true
        while let key = try nextKey(first: first) {
            first = false
            switch key {
            case "dtype" where dtype == nil: dtype = try self.dtype()
            case "shape" where shape == nil: shape = try integers()
            case "data_offsets" where extent == nil: extent = try self.extent()
            case "dtype", "shape", "data_offsets": throw fail("\(key) comes twice in one entry")
            default: try skipValue()
            }
        }
        guard let dtype, let shape, let extent else {
            let missing = dtype == nil ? "dtype" : shape == nil ? "shape" : "data_offsets"
            throw fail("a tensor's entry has no \(missing)")
        }
        return SafetensorsTensor(name: name, dtype: dtype, shape: shape, begin: extent.begin, end: extent.end)
    }

    /// An entry without field names: `["F32",[2],[0,8]]`.
    private mutating func tensorArray(name: String) throws(JSONError) -> SafetensorsTensor {
        try open()
        try expectElement(first: true)
        let dtype = try dtype()
        try expectElement()
        let shape = try integers()
        try expectElement()
        let extent = try extent()
        guard try !nextElement(first: false) else { throw fail("an entry has more than three elements") }
        return SafetensorsTensor(name: name, dtype: dtype, shape: shape, begin: extent.begin, end: extent.end)
    }

    private mutating func expectElement(first: Bool = false) throws(JSONError) {
        guard try nextElement(first: first) else { throw fail("an entry has fewer than three elements") }
    }

    /// `"F32"`, or as serde also reads an enumeration, `{"F32":null}`.
    private mutating func dtype() throws(JSONError) -> DType {
        switch try peek() {
        case UInt8(ascii: "\""): return try dtype(named: try string())
        case UInt8(ascii: "{"): break
        default: throw fail("dtype must be a string")
        }
        try open()
        guard let name = try nextKey(first: true) else { throw fail("dtype must be a string") }
        let dtype = try dtype(named: name)
        _ = try peek()
        try literal("null")
        guard try nextKey(first: false) == nil else { throw fail("dtype must be a string") }
        return dtype
    }

    private func dtype(named name: String) throws(JSONError) -> DType {
        guard let dtype = DType(rawValue: name) else { throw fail("the dtype \(name) is unknown") }
        return dtype
    }

    private mutating func integers() throws(JSONError) -> [UInt64] {
        guard try peek() == UInt8(ascii: "[") else { throw fail("expected an array of integers") }
        try open()
        var integers: [UInt64] = []
        while try nextElement(first: integers.isEmpty) {
            _ = try peek()
            guard case .unsigned(let value) = try number() else {
                throw fail("expected an integer from 0 to 2^64 - 1")
            }
            integers.append(value)
        }
        return integers
    }

    private typealias Extent = (begin: UInt64, end: UInt64)

    private mutating func extent() throws(JSONError) -> Extent {
        let offsets = try integers()
        guard offsets.count == 2 else { throw fail("data_offsets must be two integers") }
        return (offsets[0], offsets[1])
    }
}
