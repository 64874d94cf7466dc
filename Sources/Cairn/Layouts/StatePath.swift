internal import Platform
internal import TensorFormats

/// A path in an iteration's files that the framework follows when it goes on, absolute as a rule: elsewhere it leads to nothing.
struct StatePath: Sendable {
    /// What it leads to where nothing was moved.
    enum Target: Sendable {
        /// Another iteration, in the same folder as this one.
        case sibling
        /// The folder that this iteration lies in.
        case folder
    }

    /// The file that says it, below the iteration's folder.
    var file: String
    /// The key under which a JSON file has it; nil where it stands in a pickle, which is never written anew.
    var key: String?
    var path: String
    var target: Target
    /// What it is, for people: `the best checkpoint`.
    var meaning: String
    /// What a training does with one that leads nowhere, as the second half of a sentence.
    var consequence: String
}

extension StatePath {
    /// A JSON file with another path in the place of this one.
    /// - Returns: nil where it does not have this one.
    func rewritten(_ bytes: [UInt8], to new: String) -> [UInt8]? {
        guard let key else { return nil }
        let name = JSON(key).serialized()
        var start = bytes.startIndex
        while let found = bytes[start...].firstRange(of: name) {
            start = found.upperBound
            guard let value = Self.string(in: bytes, after: start),
                (try? JSON(parsing: Array(bytes[value]))) == JSON(path)
            else { continue }
            return Array(bytes[..<value.lowerBound]) + JSON(new).serialized() + bytes[value.upperBound...]
        }
        return nil
    }

    /// Where the string is that follows a key, with its quotes; nil where something else follows.
    private static func string(in bytes: [UInt8], after end: Int) -> Range<Int>? {
        var place = end
        func skipSpace() {
            while place < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[place]) { place += 1 }
        }
        skipSpace()
        guard place < bytes.count, bytes[place] == UInt8(ascii: ":") else { return nil }
        place += 1
        skipSpace()
        guard place < bytes.count, bytes[place] == UInt8(ascii: "\"") else { return nil }
        let start = place
        place += 1
        while place < bytes.count, bytes[place] != UInt8(ascii: "\"") {
            place += bytes[place] == UInt8(ascii: "\\") ? 2 : 1
        }
        return place < bytes.count ? start..<(place + 1) : nil
    }
}
