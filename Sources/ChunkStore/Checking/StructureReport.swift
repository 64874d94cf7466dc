extension ChunkStore {
    /// What is wrong with the structure of a store.
    public struct StructureReport: Sendable {
        public enum IndexCondition: Sendable {
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
