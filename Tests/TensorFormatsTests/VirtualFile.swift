@testable import TensorFormats

/// A file of bytes and of stretches of zeros that take no memory.
struct VirtualFile {
    private enum Part {
        case bytes([UInt8])
        case zeros(UInt64)
    }

    private var parts: [(range: Range<UInt64>, part: Part)] = []
    private(set) var size: UInt64 = 0

    mutating func append(_ bytes: [UInt8]) {
        parts.append((size..<size + UInt64(bytes.count), .bytes(bytes)))
        size += UInt64(bytes.count)
    }

    mutating func append(zeros count: UInt64) {
        parts.append((size..<size + count, .zeros(count)))
        size += count
    }

    mutating func append(_ file: VirtualFile) {
        for (_, part) in file.parts {
            switch part {
            case .bytes(let bytes): append(bytes)
            case .zeros(let count): append(zeros: count)
            }
        }
    }

    func read(_ range: Range<UInt64>) -> [UInt8] {
        var found: [UInt8] = []
        var index = parts.partition { $0.range.upperBound > range.lowerBound }
        while index < parts.count, parts[index].range.lowerBound < range.upperBound {
            let piece = parts[index].range.clamped(to: range)
            let start = parts[index].range.lowerBound
            switch parts[index].part {
            case .bytes(let bytes):
                found += bytes[Int(piece.lowerBound - start)..<Int(piece.upperBound - start)]
            case .zeros: found += [UInt8](repeating: 0, count: Int(piece.upperBound - piece.lowerBound))
            }
            index += 1
        }
        return found
    }
}

extension Array {
    /// The first place from which on the predicate holds.
    fileprivate func partition(_ predicate: (Element) -> Bool) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if predicate(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

extension VirtualFile {
    /// What `torch.save` writes of a tensor of that many zeros of the type float32: a zip file with zip64 fields where
    /// they are needed.
    static func savedZeros(_ count: UInt64) -> VirtualFile {
        var (file, directory) = (VirtualFile(), [UInt8]())
        let pickle = zerosPickle(count)
        file.append(record: "archive/data.pkl", pickle, to: &directory)
        file.append(record: "archive/byteorder", Array("little".utf8), to: &directory)
        file.append(record: "archive/data/0", zeros: 4 * count, to: &directory)
        file.append(record: "archive/version", Array("3\n".utf8), to: &directory)
        let start = file.size
        file.append(directory)
        let end = file.size
        let length = UInt64(directory.count)
        file.append(
            little(
                (0x0606_4B50, 4), (44, 8), (45, 2), (45, 2), (0, 8), (4, 8), (4, 8), (length, 8), (start, 8)))
        file.append(little((0x0706_4B50, 4), (0, 4), (end, 8), (1, 4)))
        file.append(
            little(
                (0x0605_4B50, 4), (0, 4), (4, 2), (4, 2), (length, 4), (min(start, 0xFFFF_FFFF), 4), (0, 2)))
        return file
    }

    static func zerosPickle(_ count: UInt64) -> [UInt8] {
        let storage = PythonValue.persistent(
            .tuple([
                .text("storage"), .global("torch", "FloatStorage"), .text("0"), .text("cpu"),
                .integer(Int64(count)),
            ]))
        return PythonValue.object(
            .global("torch._utils", "_rebuild_tensor_v2"),
            arguments: [
                storage, .integer(0), .tuple([.integer(Int64(count))]), .tuple([.integer(1)]), .none, .none,
            ], state: nil
        ).pickle
    }

    /// Appends a stored record, with its data aligned as PyTorch does, and its entry of the directory.
    private mutating func append(
        record text: String, _ bytes: [UInt8] = [], zeros: UInt64 = 0, to directory: inout [UInt8]
    ) {
        let (name, header, length) = (Array(text.utf8), size, UInt64(bytes.count) + zeros)
        let isWide = length >= 0xFFFF_FFFF || header >= 0xFFFF_FFFF
        let mark: UInt64 = 0xFFFF_FFFF
        let wide = isWide ? little((1, 2), (16, 2), (0, 8), (0, 8)) : []
        let gap = (64 - (header + 34 + UInt64(name.count + wide.count)) % 64) % 64
        let extra = wide + little((0x4246, 2), (gap, 2)) + [UInt8](repeating: 0x5A, count: Int(gap))
        let lengths = little((UInt64(name.count), 2), (UInt64(extra.count), 2))
        let marks = little((isWide ? mark : 0, 4), (isWide ? mark : 0, 4))
        append(little((0x0403_4B50, 4), (0, 2), (0x808, 2), (0, 8), (0, 2)) + marks + lengths + name + extra)
        append(bytes)
        append(zeros: zeros)
        let width = isWide ? 8 : 4
        append(little((0x0807_4B50, 4), (0, 4), (length, width), (length, width)))

        let numbers = isWide ? little((1, 2), (24, 2), (length, 8), (length, 8), (header, 8)) : []
        directory += little((0x0201_4B50, 4), (0, 4), (0x808, 2), (0, 8), (0, 2))
        directory += little((isWide ? mark : length, 4), (isWide ? mark : length, 4))
        directory += little((UInt64(name.count), 2), (UInt64(numbers.count), 2), (0, 8), (0, 2))
        directory += little((isWide ? mark : header, 4)) + name + numbers
    }
}

/// The lowest bytes of a number.
func little(_ number: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: number >> UInt64(8 * $0)) }
}

/// The lowest bytes of each number.
private func little(_ numbers: (UInt64, Int)...) -> [UInt8] { numbers.flatMap { little($0.0, $0.1) } }
