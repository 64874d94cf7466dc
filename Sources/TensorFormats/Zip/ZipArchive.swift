/// The records of a zip file as PyTorch and NumPy write it: stored, not compressed, one behind the other from byte 0.
///
/// A value of this type is checked: local headers, data, descriptors, the directory and its end tile the file, and
/// what is said twice is said the same. Zip files in general may have holes, prefixes and comments; such a file is
/// refused rather than interpreted.
struct ZipArchive {
    /// A file in the archive.
    struct Record {
        /// Its name in the archive, as the bytes that stand there.
        var name: [UInt8]
        /// Where its local header begins.
        var header: UInt64
        /// Where its bytes lie in the file.
        var data: Range<UInt64>
        /// 0 also where the writer was told not to compute it.
        var crc: UInt32
        /// General purpose bits.
        var flags: UInt16

        var length: UInt64 { data.upperBound - data.lowerBound }
    }

    /// Bytes that the central directory may have, so that no file can take memory without bound.
    static let maximumDirectoryLength: UInt64 = 64 << 20

    /// In the order of the file. No two have one name.
    var records: [Record] = []
    /// Where the central directory lies.
    private(set) var directory: Range<UInt64> = 0..<0

    /// Reads the end, the directory and the local headers; each record's data stays unread.
    /// - Parameters:
    ///   - size: bytes of the file.
    ///   - read: gives the bytes of a range inside the file.
    init(size: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        let end = try ZipEnd(before: size, read: read)
        guard end.archiveLength == size else {
            throw TensorFileError.archive("its directory is not where its end says")
        }
        directory = end.directory
        let bytes = try readExactly(directory, read)
        records = try Self.entries(in: bytes, count: end.count, before: directory.lowerBound)
        records.sort { $0.header < $1.header }
        guard Set(records.map(\.name)).count == records.count else {
            throw TensorFileError.archive("two records have one name")
        }
        try checkRecords(read)
    }
}

/// What the end of a zip file says of its directory.
struct ZipEnd {
    /// Counted from where the zip file begins.
    let directory: Range<UInt64>
    /// Entries of the directory.
    let count: UInt64
    /// Bytes of the zip file. No more than there are.
    let archiveLength: UInt64

    /// Bytes of the end of central directory record, of the zip64 locator, and of the zip64 record.
    private static let (endLength, locatorLength, end64Length) = (22, 20, 56)

    /// - Parameter place: where the zip file ends. What stands in front of it need not be part of it.
    init(before place: UInt64, read: (Range<UInt64>) throws -> [UInt8]) throws {
        guard place >= UInt64(Self.endLength) else { throw Self.missing }
        let longest = UInt64(Self.endLength + Self.locatorLength + Self.end64Length)
        let tail = try readExactly(place - min(place, longest)..<place, read)
        let end = tail.count - Self.endLength
        guard tail.number(UInt32.self, at: end) == 0x0605_4B50, tail.number(UInt16.self, at: end + 20) == 0
        else { throw Self.missing }
        guard tail.number(UInt32.self, at: end + 4) == 0 else {
            throw TensorFileError.archive("it is one of several volumes")
        }
        let entries = UInt64(tail.number(UInt16.self, at: end + 10))
        guard entries == tail.number(UInt16.self, at: end + 8) else {
            throw TensorFileError.archive("it is one of several volumes")
        }
        let length = UInt64(tail.number(UInt32.self, at: end + 12))
        let offset = UInt64(tail.number(UInt32.self, at: end + 16))

        let locator = end - Self.locatorLength
        guard locator >= Self.end64Length, tail.number(UInt32.self, at: locator) == 0x0706_4B50 else {
            count = entries
            directory = try Self.directory(at: offset, length: length, before: place - UInt64(Self.endLength))
            archiveLength = directory.upperBound + UInt64(Self.endLength)
            return
        }
        let start = tail.number(UInt64.self, at: locator + 8)
        guard tail.number(UInt32.self, at: locator + 4) == 0,
            tail.number(UInt32.self, at: locator + 16) == 1,
            tail.number(UInt32.self, at: 0) == 0x0606_4B50, tail.number(UInt64.self, at: 4) == 44,
            tail.number(UInt64.self, at: 16) == 0
        else { throw TensorFileError.archive("its zip64 end is not where or what it should be") }
        count = tail.number(UInt64.self, at: 32)
        let (length64, offset64) = (tail.number(UInt64.self, at: 40), tail.number(UInt64.self, at: 48))
        guard count == tail.number(UInt64.self, at: 24), entries == count || entries == 0xFFFF,
            length == length64 || length == 0xFFFF_FFFF, offset == offset64 || offset == 0xFFFF_FFFF
        else { throw TensorFileError.archive("its two ends contradict each other") }
        directory = try Self.directory(at: offset64, length: length64, before: place - longest)
        archiveLength = directory.upperBound + longest
        guard directory.upperBound == start else {
            throw TensorFileError.archive("its zip64 end is not where or what it should be")
        }
    }

    private static let missing = TensorFileError(
        .otherFormat,
        "The file has no zip directory at its end: it is of another format, or its writing was cut off.")

    /// - Parameter end: where the directory ends, counted from where the file begins.
    private static func directory(
        at offset: UInt64, length: UInt64, before end: UInt64
    ) throws -> Range<UInt64> {
        guard length <= end, offset <= end - length else {
            throw TensorFileError.archive("its directory is not where its end says")
        }
        guard length <= ZipArchive.maximumDirectoryLength else {
            throw TensorFileError(.tooLarge, "The zip directory of the file has over 64 MiB.")
        }
        return offset..<offset + length
    }
}
