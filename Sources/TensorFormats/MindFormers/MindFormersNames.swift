/// The name of a file with tensors in a checkpoint of MindSpore Transformers 2.0, such as
/// `qwen3-model-0000000-0000004.safetensors`.
public struct MindFormersFileName: Sendable, Equatable {
    public enum Kind: String, Sendable {
        case model
        case optimizer = "opt"
    }

    /// What the user calls the model; nil for nothing.
    public var prefix: String?
    public var kind: Kind
    /// From 0; the rank, unless redundancy was removed.
    public var index: Int
    /// Files of this kind.
    public var count: Int

    public init(prefix: String?, kind: Kind, index: Int, count: Int) {
        self.prefix = prefix
        self.kind = kind
        self.index = index
        self.count = count
    }

    public var text: String {
        let name = "\(kind.rawValue)-\(index.padded(to: 7))-\(count.padded(to: 7)).safetensors"
        return prefix.map { "\($0)-\(name)" } ?? name
    }

    /// - Returns: nil where the text is no such name.
    public init?(parsing text: String) {
        guard text.hasSuffix(".safetensors") else { return nil }
        // The prefix may have any of this in it, so it is read from the end.
        let parts = text.dropLast(12).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 3, let kind = Kind(rawValue: String(parts[parts.count - 3])),
            let index = Int(digits: parts[parts.count - 2], atLeast: 7),
            let count = Int(digits: parts[parts.count - 1], atLeast: 7)
        else { return nil }
        let prefix = parts.dropLast(3).joined(separator: "-")
        guard parts.count == 3 || !prefix.isEmpty else { return nil }
        self.init(prefix: parts.count == 3 ? nil : prefix, kind: kind, index: index, count: count)
    }
}

/// The name of a file of MindSpore Transformers 1.0, such as `qwen3_8b_rank_0-1_3.safetensors`.
public struct MindFormers1FileName: Sendable, Equatable {
    public var prefix: String
    public var rank: Int
    /// Counts the runs that found files of this prefix when they began.
    public var run: Int?
    /// From 1.
    public var epoch: Int
    /// In the epoch, from 1.
    public var step: Int
    /// `safetensors` or `ckpt`.
    public var format: String

    public init(
        prefix: String, rank: Int, run: Int? = nil, epoch: Int, step: Int, format: String = "safetensors"
    ) {
        self.prefix = prefix
        self.rank = rank
        self.run = run
        self.epoch = epoch
        self.step = step
        self.format = format
    }

    public var text: String {
        "\(prefix)_rank_\(rank)\(run.map { "_\($0)" } ?? "")-\(epoch)_\(step).\(format)"
    }

    /// - Returns: nil where the text is no such name.
    public init?(parsing text: String) {
        guard let dot = text.lastIndex(of: "."), let dash = text[..<dot].lastIndex(of: "-") else {
            return nil
        }
        let format = text[text.index(after: dot)...]
        guard format == "safetensors" || format == "ckpt" else { return nil }
        let position = text[text.index(after: dash)..<dot].split(
            separator: "_", omittingEmptySubsequences: false)
        var words = text[..<dash].split(separator: "_", omittingEmptySubsequences: false)
        guard position.count == 2, let epoch = Int(digits: position[0]), let step = Int(digits: position[1]),
            let last = words.popLast().flatMap({ Int(digits: $0) })
        else { return nil }
        var (rank, run): (Int, Int?) = (last, nil)
        if words.last != "rank" {
            guard let number = words.popLast().flatMap({ Int(digits: $0) }) else { return nil }
            (rank, run) = (number, last)
        }
        guard words.popLast() == "rank", !words.joined(separator: "_").isEmpty else { return nil }
        self.init(
            prefix: words.joined(separator: "_"), rank: rank, run: run, epoch: epoch, step: step,
            format: String(format))
    }
}

/// `rank_N/meta.json` of MindSpore Transformers 1.0: the last file of a rank.
public struct MindFormers1Meta: Sendable, Equatable {
    public static let fileName = "meta.json"

    public var epoch: Int
    public var step: Int
    /// The name of a file in the same folder.
    public var file: String

    public init(epoch: Int, step: Int, file: String) {
        self.epoch = epoch
        self.step = step
        self.file = file
    }

    /// - Throws: `MindFormersError` where a member is missing or of another kind.
    public init(parsing bytes: [UInt8]) throws(MindFormersError) {
        guard bytes.count <= 1 << 20, let json = try? JSON(parsing: bytes),
            case .integer(let epoch) = json["last_epoch"], case .integer(let step) = json["last_step"],
            let file = json["last_ckpt_file"]?.stringValue
        else { throw MindFormersError("The file meta.json does not name a file with its epoch and step.") }
        self.init(epoch: Int(epoch), step: Int(step), file: file)
    }

    /// The file as the library writes it: one line, without a newline at its end.
    public func serialized() -> [UInt8] {
        var bytes = Array(#"{"last_epoch": \#(epoch), "last_step": \#(step), "last_ckpt_file": "#.utf8)
        bytes.appendJSONString(file, asciiOnly: true)
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }
}

extension Int {
    fileprivate func padded(to width: Int) -> String {
        let digits = String(self)
        return String(repeating: "0", count: Swift.max(0, width - digits.utf8.count)) + digits
    }

    /// nil unless there are digits alone, and a number that fits.
    fileprivate init?(digits: Substring, atLeast count: Int = 1) {
        guard digits.utf8.count >= count, digits.utf8.allSatisfy({ 0x30...0x39 ~= $0 }) else { return nil }
        self.init(digits)
    }
}
