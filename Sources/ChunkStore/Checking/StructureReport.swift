extension ChunkStore {
    /// What is wrong with the structure of a store.
    public struct StructureReport: Sendable {
        public enum IndexCondition: UInt8, Sendable {
            /// It says what journal and tables say, as far as it has folded the journal.
            case sound
            /// It is missing, or of another journal: whoever may write makes it anew without a word.
            case obsolete
            case damaged
        }

        /// Each a sentence.
        public var problems: [String] = []
        /// Packs whose header, table or trailer is damaged.
        public var damagedPacks: Set<PackName> = []
        /// Iterations whose commit record is damaged, as far as the index still knows them.
        public var damagedIterations: Set<UInt64> = []
        public var index = IndexCondition.sound

        mutating func noteDamagedIndex(_ sentence: String) {
            index = .damaged
            problems.append(sentence.hasSuffix(".") ? sentence : sentence + ".")
        }
    }
}

extension ChunkStore.StructureReport {
    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.varint(problems.count)
        for problem in problems { writer.string(problem) }
        writer.varint(damagedPacks.count)
        for name in damagedPacks { writer.raw(name.bytes) }
        writer.varint(damagedIterations.count)
        for number in damagedIterations { writer.varint(number) }
        writer.u8(index.rawValue)
        return writer.bytes
    }

    init(decoding bytes: [UInt8]) throws(FormatError) {
        var reader = ByteReader(bytes)
        for _ in 0..<(try reader.items()) { problems.append(try reader.string()) }
        for _ in 0..<(try reader.items(each: 16)) { damagedPacks.insert(PackName(try reader.raw(16))) }
        for _ in 0..<(try reader.items()) { damagedIterations.insert(try reader.varint()) }
        guard let condition = IndexCondition(rawValue: try reader.u8()) else {
            throw FormatError("has an unknown condition of the index")
        }
        index = condition
        try reader.expectEnd()
    }
}
