extension Unpickler {
    mutating func perform(_ opcode: Opcode) throws(TensorFileError) {
        switch opcode {
        case .stop: break
        case .proto:
            guard try byte() <= 5 else { throw fail("an unknown protocol") }
        case .frame: _ = try number(UInt64.self)
        case .mark: try mark()
        case .pop: try popAny()
        case .popMark: _ = try popMark()
        case .dup: try push(try top())

        case .put: try put(try decimal())
        case .binPut: try put(try byte())
        case .longBinPut: try put(try number(UInt32.self))
        case .memoize: try memoize()
        case .get: try get(try decimal())
        case .binGet: try get(try byte())
        case .longBinGet: try get(try number(UInt32.self))

        case .emptyTuple: try makeTuple([])
        case .tuple1: try makeTuple(1)
        case .tuple2: try makeTuple(2)
        case .tuple3: try makeTuple(3)
        case .tuple: try makeTuple(try popMark())
        case .frozenSet: try pushFrozenSet(try popMark())
        case .emptyList: try push(.list(Pickle.Chain()))
        case .emptySet: try push(.set(Pickle.Chain()))
        case .list: try pushList(try popMark())
        case .emptyDict: try push(.dictionary(Pickle.Chain()))
        case .dict: try pushDictionary(try popMark())
        case .append: try appendToTop([try pop()])
        case .appends, .addItems: try appendToTop(try popMark())
        case .setItem:
            let value = try pop()
            try setItemsOfTop([try pop(), value])
        case .setItems: try setItemsOfTop(try popMark())

        case .global: try pushGlobal()
        case .stackGlobal: try pushStackGlobal()
        case .reduce, .newObj: try call(arguments: try pop())
        case .newObjEx:
            let named = try pop()
            try call(arguments: try pop(), named: named)
        case .build: try setStateOfTop(try pop())
        case .binPersID: try push(.persistent(try pop()))

        default: try pushScalar(opcode)
        }
    }

    private mutating func pushScalar(_ opcode: Opcode) throws(TensorFileError) {
        switch opcode {
        case .none: try push(.none)
        case .newTrue: try push(.bool(true))
        case .newFalse: try push(.bool(false))
        case .int: try pushInt()
        case .binInt: try push(.integer(Int64(Int32(bitPattern: try number(UInt32.self)))))
        case .binInt1: try push(.integer(Int64(try byte())))
        case .binInt2: try push(.integer(Int64(try number(UInt16.self))))
        case .long: try pushLong(try line())
        case .long1: try pushLong(length: try byte())
        case .long4: try pushLong(length: try number(UInt32.self))
        case .float:
            let text = try line()
            guard let value = Double(String(decoding: pickle.bytes[text].prefix(64), as: UTF8.self)) else {
                throw fail("a damaged number")
            }
            try push(.float(value))
        case .binFloat: try push(.float(Double(bitPattern: try number(UInt64.self).byteSwapped)))
        case .string: try pushQuoted(try line())
        case .unicode:
            let text = try line()
            try push(.escapedText(start: UInt32(text.lowerBound), count: UInt32(text.count), isQuoted: false))
        case .binString, .binUnicode: try pushText(length: try number(UInt32.self))
        case .shortBinString, .shortBinUnicode: try pushText(length: try byte())
        case .binUnicode8: try pushText(length: try number(UInt64.self))
        case .binBytes: try pushBytes(length: try number(UInt32.self))
        case .shortBinBytes: try pushBytes(length: try byte())
        case .binBytes8, .byteArray8: try pushBytes(length: try number(UInt64.self))
        default: throw fail("the opcode \(opcode.rawValue), which is refused,")
        }
    }

    /// A number of the memo in decimal digits.
    private mutating func decimal() throws(TensorFileError) -> UInt32 {
        let line = try line()
        guard let number = UInt32(String(decoding: pickle.bytes[line].prefix(16), as: UTF8.self)) else {
            throw fail("a damaged number")
        }
        return number
    }

    /// An integer in decimal digits; `00` and `01` are false and true.
    private mutating func pushInt() throws(TensorFileError) {
        let line = try line()
        switch pickle.bytes[line] {
        case [0x30, 0x30]: try push(.bool(false))
        case [0x30, 0x31]: try push(.bool(true))
        default: try pushLong(line)
        }
    }

    /// An integer in decimal digits, with an `L` behind it or not.
    private mutating func pushLong(_ line: Range<Int>) throws(TensorFileError) {
        var digits = pickle.bytes[line]
        if digits.last == UInt8(ascii: "L") { digits.removeLast() }
        let value = Int64(String(decoding: digits.prefix(32), as: UTF8.self))
        try push(value.map { .integer($0) } ?? .bigInteger)
    }

    /// A little-endian two's complement of any length.
    private mutating func pushLong(length: some BinaryInteger) throws(TensorFileError) {
        let start = try skip(length)
        guard length <= 8 else { return try push(.bigInteger) }
        let isNegative = length > 0 && pickle.bytes[position - 1] >= 0x80
        var value: UInt64 = isNegative ? .max : 0
        for byte in pickle.bytes[start..<position].reversed() { value = value << 8 | UInt64(byte) }
        try push(.integer(Int64(bitPattern: value)))
    }

    private mutating func pushText(length: some BinaryInteger) throws(TensorFileError) {
        let start = try skip(length)
        try pushText(start..<position)
    }

    private mutating func pushText(_ range: Range<Int>) throws(TensorFileError) {
        try push(.text(start: UInt32(range.lowerBound), count: UInt32(range.count)))
    }

    private mutating func pushQuoted(_ line: Range<Int>) throws(TensorFileError) {
        guard line.count >= 2, let quote = pickle.bytes[line].first, pickle.bytes[line].last == quote,
            quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"")
        else { throw fail("a damaged string") }
        try push(
            .escapedText(start: UInt32(line.lowerBound + 1), count: UInt32(line.count - 2), isQuoted: true))
    }

    private mutating func pushBytes(length: some BinaryInteger) throws(TensorFileError) {
        let start = try skip(length)
        try push(.bytes(start: UInt32(start), count: UInt32(position - start)))
    }

    private mutating func pushGlobal() throws(TensorFileError) {
        let (module, name) = (try line(), try line())
        try pushText(module)
        try pushText(name)
        try pushStackGlobal()
    }

    private mutating func pushStackGlobal() throws(TensorFileError) {
        let name = try pop()
        let module = try pop()
        guard case .text = pickle[name], case .text = pickle[module] else {
            throw fail("a name that is no text")
        }
        try pushGlobal(module: module, name: name)
    }
}
