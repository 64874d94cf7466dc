/// Reads a file from front to back in windows; what is skipped stays unread.
///
/// No read goes beyond `end`, whatever the file says of itself.
struct FileCursor {
    private let read: (Range<UInt64>) throws -> [UInt8]
    /// Where it stands, in bytes from the start of the file. May be set to any place up to `end`.
    var position: UInt64
    let end: UInt64
    /// Bytes that are read at a time.
    private let windowLength: Int
    private var window: [UInt8] = []
    private var windowStart: UInt64 = 0

    /// - Parameters:
    ///   - range: what is read of the file.
    ///   - read: gives the bytes of a range inside the file.
    init(
        _ range: Range<UInt64>, windowLength: Int, read: @escaping (Range<UInt64>) throws -> [UInt8]
    ) {
        self.read = read
        position = range.lowerBound
        end = range.upperBound
        self.windowLength = windowLength
    }

    /// Of bytes that are in memory.
    init(_ bytes: [UInt8]) {
        self.init(0..<UInt64(bytes.count), windowLength: 1) { range in
            Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)])
        }
        window = bytes
    }

    /// Passes over bytes without reading them.
    mutating func skip(_ count: UInt64) throws {
        guard count <= end - position else { throw Self.short }
        position += count
    }

    mutating func bytes(_ count: Int) throws -> ArraySlice<UInt8> {
        let start = try take(count)
        return window[start..<start + count]
    }

    mutating func number<Number: FixedWidthInteger & UnsignedInteger>(_ type: Number.Type) throws -> Number {
        let start = try take(MemoryLayout<Number>.size)
        return window.number(type, at: start)
    }

    /// Makes the window hold the next bytes, and passes over them.
    /// - Returns: their place in the window.
    private mutating func take(_ count: Int) throws -> Int {
        guard UInt64(count) <= end - position else { throw Self.short }
        if position < windowStart || position + UInt64(count) > windowStart + UInt64(window.count) {
            let length = min(end - position, UInt64(max(count, windowLength)))
            window = try readExactly(position..<position + length, read)
            windowStart = position
        }
        defer { position += UInt64(count) }
        return Int(position - windowStart)
    }

    private static let short = TensorFileError(
        .damaged, "The file is cut off or damaged: it ends before what it announces.")
}

/// The bytes of a range of the file, or an error where `read` gives others than it was asked for.
func readExactly(_ range: Range<UInt64>, _ read: (Range<UInt64>) throws -> [UInt8]) throws -> [UInt8] {
    if range.isEmpty { return [] }
    let bytes = try read(range)
    guard UInt64(bytes.count) == range.upperBound - range.lowerBound else {
        throw TensorFileError(.otherFormat, "The file got shorter while it was read.")
    }
    return bytes
}

extension [UInt8] {
    /// The little-endian number there.
    ///
    /// - Precondition: all its bytes are in the array.
    func number<Number: FixedWidthInteger & UnsignedInteger>(_: Number.Type, at offset: Int) -> Number {
        var number: Number = 0
        for byte in self[offset..<offset + MemoryLayout<Number>.size].reversed() {
            number = number << 8 | Number(byte)
        }
        return number
    }
}
