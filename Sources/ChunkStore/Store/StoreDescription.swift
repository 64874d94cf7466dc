internal import Platform

/// What `cairn.json` says. (Docs/format.md 2)
struct StoreDescription: Sendable {
    static let format: UInt64 = 1
    static let chunkSizes = 4096...4_194_304

    /// 16 bytes.
    var id: [UInt8]
    /// Bytes, a power of two.
    var chunkSize: Int
    var recovery: RecoveryBound

    func encoded() -> [UInt8] {
        let fields = [
            ("format", "\(Self.format)"), ("id", "\"\(id.hex)\""), ("chunkSize", "\(chunkSize)"),
            ("recoveryFactor", "\(recovery.factor)"), ("recoveryRecords", "\(recovery.records)"),
        ]
        return [UInt8]("{\(fields.map { "\"\($0)\": \($1)" }.joined(separator: ", "))}\n".utf8)
    }

    init(id: [UInt8], chunkSize: Int, recovery: RecoveryBound) throws {
        guard recovery.isValid else {
            throw CairnError(.usage, "a chunk can be read from 1 to 64 records, and 1 to 16 times its bytes")
        }
        guard Self.chunkSizes.contains(chunkSize), chunkSize.nonzeroBitCount == 1 else {
            throw CairnError(.usage, "the chunk size \(chunkSize) is not a power of two from 4 KiB to 4 MiB")
        }
        self.id = id
        self.chunkSize = chunkSize
        self.recovery = recovery
    }

    init(decoding bytes: [UInt8], path: Path) throws {
        let damaged = CairnError(
            .notAStore, "\(path) does not describe a store; if this is one, restore the file from a copy",
            path: path.text)
        var fields: [String: String] = [:]
        // The fields are plain numbers and hex digits, so that splitting reads every file that Cairn writes.
        let text = String(decoding: bytes, as: UTF8.self)
        guard let open = text.firstIndex(of: "{"), let close = text.lastIndex(of: "}"), open < close else {
            throw damaged
        }
        for part in text[text.index(after: open)..<close].split(separator: ",") {
            let sides = part.split(separator: ":", maxSplits: 1).map { side in
                String(side.filter { !$0.isWhitespace && $0 != "\"" })
            }
            if sides.count == 2 { fields[sides[0]] = sides[1] }
        }
        guard let format = fields["format"].flatMap({ UInt64($0) }) else { throw damaged }
        guard format <= Self.format else {
            throw CairnError(
                .newerVersion,
                "the store \(path.parent) has format \(format), and this version knows \(Self.format); "
                    + "use a newer version of Cairn",
                path: path.parent.text)
        }
        guard let id = fields["id"].flatMap({ [UInt8](hex: $0) }), id.count == 16,
            let chunkSize = fields["chunkSize"].flatMap({ Int($0) }),
            let description = try? StoreDescription(
                id: id, chunkSize: chunkSize,
                // Stores of the first version say nothing of these.
                recovery: RecoveryBound(
                    factor: fields["recoveryFactor"].flatMap { Int($0) } ?? RecoveryBound().factor,
                    records: fields["recoveryRecords"].flatMap { Int($0) } ?? RecoveryBound().records))
        else { throw damaged }
        self = description
    }
}
