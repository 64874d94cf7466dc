/// The fields that a directory entry and a local header share, from the flags on.
private struct ZipFields {
    let flags, method: UInt16
    let crc: UInt32
    /// 0xFFFFFFFF where the zip64 extra field has the number.
    let storedLength, length: UInt32
    let nameLength, extraLength: Int

    /// - Parameter offset: where the flags stand.
    init(_ bytes: [UInt8], at offset: Int) {
        flags = bytes.number(UInt16.self, at: offset)
        method = bytes.number(UInt16.self, at: offset + 2)
        crc = bytes.number(UInt32.self, at: offset + 8)
        storedLength = bytes.number(UInt32.self, at: offset + 12)
        length = bytes.number(UInt32.self, at: offset + 16)
        nameLength = Int(bytes.number(UInt16.self, at: offset + 20))
        extraLength = Int(bytes.number(UInt16.self, at: offset + 22))
    }
}

extension ZipArchive {
    /// Bytes of a directory entry and of a local header, each without name and extra fields.
    private static let (entryLength, localLength) = (46, 30)
    /// The flag that lengths and CRC stand in a descriptor behind the data.
    private static let descriptorFlag: UInt16 = 1 << 3

    /// The entries of the central directory. The data of each is still where its header is.
    static func entries(in bytes: [UInt8], count: UInt64, before end: UInt64) throws -> [Record] {
        var records: [Record] = []
        var position = 0
        while position < bytes.count {
            guard bytes.count - position >= entryLength,
                bytes.number(UInt32.self, at: position) == 0x0201_4B50
            else { throw TensorFileError.archive("its directory is damaged") }
            let fields = ZipFields(bytes, at: position + 8)
            let comment = Int(bytes.number(UInt16.self, at: position + 32))
            let name = position + entryLength
            let extra = name + fields.nameLength
            let next = extra + fields.extraLength + comment
            guard next <= bytes.count, bytes.number(UInt16.self, at: position + 34) == 0 else {
                throw TensorFileError.archive("its directory is damaged")
            }
            guard fields.method == 0 else {
                throw TensorFileError(
                    .compressed,
                    "A record of the zip file is compressed, so that its bytes do not stand in the file.")
            }
            // Names in UTF-8, a descriptor, and two hints for the compressor are harmless; encryption is not.
            guard fields.flags & ~0x080E == 0 else {
                throw TensorFileError.archive("a record is encrypted or patched")
            }

            var zip64 = Zip64Fields(bytes[extra..<extra + fields.extraLength])
            let length = try zip64.resolve(fields.length)
            let storedLength = try zip64.resolve(fields.storedLength)
            let header = try zip64.resolve(bytes.number(UInt32.self, at: position + 42))
            guard length == storedLength, header < end, length < end - header else {
                throw TensorFileError.archive("a record reaches beyond its place")
            }
            records.append(
                Record(
                    name: Array(bytes[name..<extra]), header: header, data: header..<header + length,
                    crc: fields.crc, flags: fields.flags))
            position = next
        }
        guard count == records.count else {
            throw TensorFileError.archive("its directory has not as many entries as it says")
        }
        return records
    }

    /// Finds each record's data by its local header, and checks headers and descriptors against the directory.
    mutating func checkRecords(_ read: (Range<UInt64>) throws -> [UInt8]) throws {
        var end: UInt64 = 0
        for index in records.indices {
            let record = records[index]
            let length = UInt64(Self.localLength + record.name.count)
            let gap = try gap(from: end, to: record.header)
            guard length <= directory.lowerBound - record.header else {
                throw TensorFileError.archive("a record reaches into the directory")
            }
            // The descriptor of the record before stands right in front of the header: one read for both.
            let bytes = try readExactly(end..<record.header + length, read)
            try checkDescriptor(bytes[..<gap], ofRecordBefore: index)
            let fields = ZipFields(bytes, at: gap + 6)
            guard bytes.number(UInt32.self, at: gap) == 0x0403_4B50, fields.flags == record.flags,
                fields.method == 0, bytes[(gap + Self.localLength)...] == record.name[...]
            else { throw TensorFileError.archive("a record is not where the directory says") }
            let extra = record.header + length..<record.header + length + UInt64(fields.extraLength)
            guard extra.upperBound <= directory.lowerBound,
                record.length <= directory.lowerBound - extra.upperBound
            else { throw TensorFileError.archive("a record reaches into the directory") }
            try check(fields, of: record, extra: extra, read)
            records[index].data = extra.upperBound..<extra.upperBound + record.length
            end = records[index].data.upperBound
        }
        let gap = try gap(from: end, to: directory.lowerBound)
        let bytes = try readExactly(end..<directory.lowerBound, read)
        try checkDescriptor(bytes[..<gap], ofRecordBefore: records.count)
    }

    /// The bytes of the descriptor between two places, which is all that may be there.
    private func gap(from end: UInt64, to next: UInt64) throws -> Int {
        guard next >= end, [0, 16, 24].contains(next - end), end > 0 || next == 0 else {
            throw TensorFileError.archive("its records overlap, or something stands between them")
        }
        return Int(next - end)
    }

    private func checkDescriptor(_ bytes: ArraySlice<UInt8>, ofRecordBefore index: Int) throws {
        guard !bytes.isEmpty else { return }
        let (bytes, record) = (Array(bytes), records[index - 1])
        let lengths: (UInt64, UInt64) =
            bytes.count == 24
            ? (bytes.number(UInt64.self, at: 8), bytes.number(UInt64.self, at: 16))
            : (UInt64(bytes.number(UInt32.self, at: 8)), UInt64(bytes.number(UInt32.self, at: 12)))
        guard record.flags & Self.descriptorFlag != 0, bytes.number(UInt32.self, at: 0) == 0x0807_4B50,
            bytes.number(UInt32.self, at: 4) == record.crc, lengths == (record.length, record.length)
        else { throw TensorFileError.archive("what stands behind a record contradicts the directory") }
    }

    /// That CRC and lengths in the local header are the directory's, or 0 where a descriptor may have them.
    private func check(
        _ fields: ZipFields, of record: Record, extra: Range<UInt64>,
        _ read: (Range<UInt64>) throws -> [UInt8]
    ) throws {
        var lengths = [UInt64(fields.length), UInt64(fields.storedLength)]
        if fields.length == .max || fields.storedLength == .max {
            var zip64 = Zip64Fields(try readExactly(extra, read)[...])
            lengths = [try zip64.resolve(fields.length), try zip64.resolve(fields.storedLength)]
        }
        let mayBeZero = fields.flags & Self.descriptorFlag != 0
        guard fields.crc == record.crc || mayBeZero && fields.crc == 0,
            lengths.allSatisfy({ $0 == record.length || mayBeZero && $0 == 0 })
        else { throw TensorFileError.archive("a record's header contradicts the directory") }
    }
}

/// The zip64 extra field: the numbers that have no room where they belong, in the order of the fields.
private struct Zip64Fields {
    private var bytes: [UInt8] = []

    /// Looks for it among the extra fields of an entry or a header.
    init(_ extra: ArraySlice<UInt8>) {
        let extra = Array(extra)
        var position = 0
        while extra.count - position >= 4 {
            let length = Int(extra.number(UInt16.self, at: position + 2))
            guard length <= extra.count - position - 4 else { return }
            if extra.number(UInt16.self, at: position) == 1 {
                bytes = Array(extra[position + 4..<position + 4 + length])
                return
            }
            position += 4 + length
        }
    }

    /// The number of a field, from here where the field is full of ones.
    mutating func resolve(_ field: UInt32) throws -> UInt64 {
        guard field == .max else { return UInt64(field) }
        guard bytes.count >= 8 else {
            throw TensorFileError.archive("the zip64 field of a record is missing or too short")
        }
        defer { bytes.removeFirst(8) }
        return bytes.number(UInt64.self, at: 0)
    }
}
