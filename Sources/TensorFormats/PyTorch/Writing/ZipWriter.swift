/// The records of a zip file, laid out as PyTorch's writer does: stored, each record's bytes at a multiple of 64, the
/// lengths behind them, and zip64 fields where a length or place needs them.
struct ZipWriter {
    /// What stands for a number that has no room where it belongs.
    private static let full: UInt64 = 0xFFFF_FFFF
    private static let alignment: UInt64 = 64

    private enum Checksum {
        case known(UInt32)
        case content(Int)
    }

    private struct Record {
        var name: [UInt8]
        var header: UInt64
        var length: UInt64
        var checksum: Checksum

        /// Names and descriptors are as PyTorch marks them: UTF-8, and a descriptor unless there are no bytes.
        var flags: UInt16 { length > 0 ? 0x0808 : 0x0800 }
        var isLong: Bool { length >= ZipWriter.full }
        var isFar: Bool { header >= ZipWriter.full }

        /// The zip64 field: the numbers that have no room, in this order.
        func zip64(storedLength: UInt64) -> [UInt8] {
            guard isLong || isFar else { return [] }
            let numbers = (isLong ? [length, storedLength] : []) + (isFar ? [header] : [])
            var field: [UInt8] = []
            field.appendLittleEndian(1 as UInt16)
            field.appendLittleEndian(UInt16(8 * numbers.count))
            for number in numbers { field.appendLittleEndian(number) }
            return field
        }
    }

    private(set) var file = FileParts()
    private var records: [Record] = []

    /// A record of these bytes.
    mutating func add(_ name: String, _ bytes: [UInt8]) {
        let checksum = CRC32(bytes).value
        add(name, length: UInt64(bytes.count), .known(checksum)) { $0.append(bytes) }
    }

    /// A record of the bytes of a content.
    mutating func add(_ name: String, content: Int, byteCount: UInt64) {
        add(name, length: byteCount, .content(content)) { $0.appendContent(content, byteCount: byteCount) }
    }

    /// - Precondition: the name has less than 64 KiB, and the file less than 2^63 bytes.
    private mutating func add(
        _ name: String, length: UInt64, _ checksum: Checksum, _ data: (inout FileParts) -> Void
    ) {
        let record = Record(name: Array(name.utf8), header: file.length, length: length, checksum: checksum)
        // The length of the stored bytes stays 0 in front of them, though it is known.
        let zip64 = record.zip64(storedLength: 0)
        let end = record.header + 30 + UInt64(record.name.count + zip64.count + 4)
        let padding = Int((Self.alignment - end % Self.alignment) % Self.alignment)

        var header: [UInt8] = []
        header.appendLittleEndian(0x0403_4B50 as UInt32)
        header.appendLittleEndian(0 as UInt16)
        header.appendLittleEndian(record.flags)
        // Method, time and date; then CRC and two lengths, which stand behind the data.
        header += [UInt8](repeating: 0, count: 6 + 12)
        header.appendLittleEndian(UInt16(record.name.count))
        header.appendLittleEndian(UInt16(zip64.count + 4 + padding))
        header += record.name
        header += zip64
        header += "FB".utf8
        header.appendLittleEndian(UInt16(padding))
        header += [UInt8](repeating: UInt8(ascii: "Z"), count: padding)
        file.append(header)
        data(&file)
        if length > 0 { appendDescriptor(of: record) }
        records.append(record)
    }

    private mutating func appendDescriptor(of record: Record) {
        file.append([0x50, 0x4B, 0x07, 0x08])
        append(record.checksum)
        var lengths: [UInt8] = []
        for _ in 0..<2 {
            if record.isLong || record.isFar {
                lengths.appendLittleEndian(record.length)
            } else {
                lengths.appendLittleEndian(UInt32(record.length))
            }
        }
        file.append(lengths)
    }

    private mutating func append(_ checksum: Checksum) {
        switch checksum {
        case .known(let value):
            var bytes: [UInt8] = []
            bytes.appendLittleEndian(value)
            file.append(bytes)
        case .content(let content): file.appendChecksum(of: content)
        }
    }

    /// Appends the directory and the ends, and gives the whole file.
    mutating func finish() -> FileParts {
        let start = file.length
        for record in records { appendEntry(of: record) }
        let length = file.length - start
        let count = UInt64(records.count)

        var end: [UInt8] = []
        end.appendLittleEndian(0x0606_4B50 as UInt32)
        end.appendLittleEndian(44 as UInt64)
        // Made on Unix by version 3.0 of the format, needing 4.5.
        end.appendLittleEndian(0x031E as UInt16)
        end.appendLittleEndian(45 as UInt16)
        end.appendLittleEndian(0 as UInt64)
        for number in [count, count, length, start] { end.appendLittleEndian(number) }

        end.appendLittleEndian(0x0706_4B50 as UInt32)
        end.appendLittleEndian(0 as UInt32)
        end.appendLittleEndian(start + length)
        end.appendLittleEndian(1 as UInt32)

        end.appendLittleEndian(0x0605_4B50 as UInt32)
        end.appendLittleEndian(0 as UInt32)
        for _ in 0..<2 { end.appendLittleEndian(UInt16(min(count, 0xFFFF))) }
        for number in [length, start] { end.appendLittleEndian(UInt32(min(number, Self.full))) }
        end.appendLittleEndian(0 as UInt16)
        file.append(end)
        return file
    }

    private mutating func appendEntry(of record: Record) {
        let zip64 = record.zip64(storedLength: record.length)
        var entry: [UInt8] = []
        entry.appendLittleEndian(0x0201_4B50 as UInt32)
        entry.appendLittleEndian(0 as UInt32)
        entry.appendLittleEndian(record.flags)
        entry += [UInt8](repeating: 0, count: 6)
        file.append(entry)
        append(record.checksum)

        entry = []
        for _ in 0..<2 { entry.appendLittleEndian(UInt32(min(record.length, Self.full))) }
        entry.appendLittleEndian(UInt16(record.name.count))
        entry.appendLittleEndian(UInt16(zip64.count))
        entry += [UInt8](repeating: 0, count: 10)
        entry.appendLittleEndian(UInt32(min(record.header, Self.full)))
        entry += record.name
        entry += zip64
        file.append(entry)
    }
}
