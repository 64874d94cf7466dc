/// Writes a pickle of protocol 2, byte for byte as Python's own pickler does.
///
/// Python remembers objects; this writer remembers what is the same each time it is written: texts, globals, and what
/// is written with `shared`. A literal in a program, such as the `exp_avg` of every parameter, is one object there and
/// one text here.
struct PickleWriter {
    /// The pickle so far; `finish` ends it.
    private(set) var bytes: [UInt8] = [Opcode.proto.rawValue, 2]

    /// What the memo finds again.
    private enum Key: Hashable {
        case text(ExactText)
        case global(module: String, name: String)
        case shared(Int)
    }

    private var memo: [Key: UInt32] = [:]
    private var memoCount: UInt32 = 0

    /// The items that Python puts into one opcode.
    private static let batchCount = 1000

    mutating func finish() -> [UInt8] {
        write(.stop)
        return bytes
    }

    private mutating func write(_ opcode: Opcode) { bytes.append(opcode.rawValue) }

    // MARK: Values

    mutating func none() { write(.none) }

    mutating func bool(_ value: Bool) { write(value ? .newTrue : .newFalse) }

    mutating func integer(_ value: Int64) {
        switch value {
        case 0...0xFF:
            write(.binInt1)
            bytes.append(UInt8(value))
        case 0...0xFFFF:
            write(.binInt2)
            bytes.appendLittleEndian(UInt16(value))
        case Int64(Int32.min)...Int64(Int32.max):
            write(.binInt)
            bytes.appendLittleEndian(UInt32(truncatingIfNeeded: value))
        default:
            // As few bytes as keep the sign.
            var data = (0..<8).map { UInt8(truncatingIfNeeded: value >> Int64(8 * $0)) }
            let sign: UInt8 = value < 0 ? 0xFF : 0
            while data.last == sign, data[data.count - 2] & 0x80 == sign & 0x80 { data.removeLast() }
            write(.long1)
            bytes.append(UInt8(data.count))
            bytes += data
        }
    }

    /// - Precondition: it is below 2^63.
    mutating func integer(_ value: UInt64) { integer(Int64(value)) }

    mutating func float(_ value: Double) {
        write(.binFloat)
        bytes.appendLittleEndian(value.bitPattern.byteSwapped)
    }

    /// - Precondition: it has at most 4 GiB of UTF-8.
    mutating func text(_ value: String) {
        recall(.text(ExactText(value))) {
            $0.write(.binUnicode)
            $0.bytes.appendLittleEndian(UInt32(value.utf8.count))
            $0.bytes += value.utf8
            $0.memoize()
        }
    }

    /// Protocol 2 has no bytes: Python has them encoded from a text. Only for no bytes at all it calls `bytes()`, which
    /// `weights_only` refuses; an empty text does as well.
    mutating func data(_ value: [UInt8]) {
        call("_codecs", "encode", 2) {
            $0.text(String(String.UnicodeScalarView(value.map { Unicode.Scalar($0) })))
            $0.text("latin1")
        }
    }

    /// A class or function.
    mutating func global(_ module: String, _ name: String) {
        recall(.global(module: module, name: name)) {
            $0.write(.global)
            $0.bytes += module.utf8
            $0.bytes.append(UInt8(ascii: "\n"))
            $0.bytes += name.utf8
            $0.bytes.append(UInt8(ascii: "\n"))
            $0.memoize()
        }
    }

    // MARK: Containers

    /// - Parameters:
    ///   - count: how many items `items` writes.
    mutating func tuple(_ count: Int, _ items: (inout PickleWriter) -> Void) {
        if count == 0 { return write(.emptyTuple) }
        if count > 3 { write(.mark) }
        items(&self)
        switch count {
        case 1: write(.tuple1)
        case 2: write(.tuple2)
        case 3: write(.tuple3)
        default: write(.tuple)
        }
        memoize()
    }

    mutating func list<Items: RandomAccessCollection>(
        _ items: Items, _ item: (inout PickleWriter, Items.Element) -> Void
    ) {
        write(.emptyList)
        memoize()
        if items.count == 1 {
            item(&self, items[items.startIndex])
            return write(.append)
        }
        var rest = items[...]
        while !rest.isEmpty {
            write(.mark)
            for one in rest.prefix(Self.batchCount) { item(&self, one) }
            write(.appends)
            rest = rest.dropFirst(Self.batchCount)
        }
    }

    /// - Parameter item: writes the key and the value of an item.
    mutating func dictionary<Items: RandomAccessCollection>(
        _ items: Items, _ item: (inout PickleWriter, Items.Element) -> Void
    ) {
        write(.emptyDict)
        memoize()
        if items.isEmpty { return }
        if items.count == 1 { return setItems(items[...], item) }
        // Where the last batch is full, Python writes an empty one behind it.
        var rest = items[...]
        while true {
            write(.mark)
            for one in rest.prefix(Self.batchCount) { item(&self, one) }
            write(.setItems)
            if rest.count < Self.batchCount { return }
            rest = rest.dropFirst(Self.batchCount)
        }
    }

    /// A dictionary of `count` items, fewer than 1,000, which `items` writes: keys and values of any kind.
    mutating func dictionary(_ count: Int, _ items: (inout PickleWriter) -> Void) {
        write(.emptyDict)
        memoize()
        if count > 1 { write(.mark) }
        items(&self)
        if count > 0 { write(count > 1 ? .setItems : .setItem) }
    }

    /// An `OrderedDict`.
    mutating func orderedDictionary<Items: RandomAccessCollection>(
        _ items: Items, _ item: (inout PickleWriter, Items.Element) -> Void
    ) {
        call("collections", "OrderedDict", 0) { _ in }
        var rest = items[...]
        while !rest.isEmpty {
            setItems(rest.prefix(Self.batchCount), item)
            rest = rest.dropFirst(Self.batchCount)
        }
    }

    private mutating func setItems<Items: RandomAccessCollection>(
        _ items: Items, _ item: (inout PickleWriter, Items.Element) -> Void
    ) {
        if items.count > 1 { write(.mark) }
        for one in items { item(&self, one) }
        write(items.count > 1 ? .setItems : .setItem)
    }

    // MARK: Objects

    /// What a function returns for `count` arguments.
    mutating func call(
        _ module: String, _ name: String, _ count: Int, _ arguments: (inout PickleWriter) -> Void
    ) {
        global(module, name)
        tuple(count, arguments)
        write(.reduce)
        memoize()
    }

    /// An object of a class, made without its initializer, and its state where it has any.
    mutating func object(_ module: String, _ name: String, state: ((inout PickleWriter) -> Void)?) {
        global(module, name)
        write(.emptyTuple)
        write(.newObj)
        memoize()
        guard let state else { return }
        state(&self)
        write(.build)
    }

    /// What the reader of the pickle makes of `id`.
    mutating func persistent(_ id: (inout PickleWriter) -> Void) {
        id(&self)
        write(.binPersID)
    }

    /// The same object at each place with this number.
    /// - Parameter object: writes it, ending with what Python would remember.
    mutating func shared(_ number: Int, _ object: (inout PickleWriter) -> Void) {
        recall(.shared(number), object)
    }

    // MARK: Memo

    private mutating func recall(_ key: Key, _ write: (inout PickleWriter) -> Void) {
        if let number = memo[key] {
            if number < 256 {
                self.write(.binGet)
                bytes.append(UInt8(number))
            } else {
                self.write(.longBinGet)
                bytes.appendLittleEndian(number)
            }
            return
        }
        write(&self)
        memo[key] = memoCount - 1
    }

    private mutating func memoize() {
        if memoCount < 256 {
            write(.binPut)
            bytes.append(UInt8(memoCount))
        } else {
            write(.longBinPut)
            bytes.appendLittleEndian(memoCount)
        }
        memoCount += 1
    }
}

extension [UInt8] {
    mutating func appendLittleEndian(_ number: some FixedWidthInteger & UnsignedInteger) {
        for shift in stride(from: 0, to: number.bitWidth, by: 8) {
            append(UInt8(truncatingIfNeeded: number >> shift))
        }
    }
}
