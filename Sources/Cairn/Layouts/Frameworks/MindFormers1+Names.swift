internal import Platform
internal import TensorFormats

extension MindFormers1 {
    /// Where the ranks' folders are, below an output folder: in itself, or in its `checkpoint`.
    struct Place {
        /// Empty, or with a slash at its end.
        var prefix: String

        func folder(_ rank: some BinaryInteger) -> String { "\(prefix)rank_\(rank)" }
        func meta(_ rank: some BinaryInteger) -> String { folder(rank) + "/" + MindFormers1Meta.fileName }

        /// Each rank's folder, as candidates with the rank for a step.
        func ranks(in output: OutputFolder) throws -> [Candidate] {
            prefix.isEmpty
                ? output.folders(rankFolder) : try output.folders(rankFolder, in: String(prefix.dropLast()))
        }
    }

    static let rankFolder: NamePattern = "rank_#"
    static let places = [Place(prefix: ""), Place(prefix: "checkpoint/")]
    static let strategy: NamePattern = "ckpt_strategy_rank_#.ckpt"
    static let strategyFolder = "strategy"
    static let health = "health_ckpts.json"

    /// The file that a rank's `meta.json` names; nil where it names none, or is none.
    static func last(_ bytes: [UInt8]) -> MindFormers1FileName? {
        guard let meta = try? MindFormers1Meta(parsing: bytes),
            var file = MindFormers1FileName(parsing: meta.file)
        else { return nil }
        (file.epoch, file.step) = (meta.epoch, meta.step)
        return file
    }
}

extension MindFormers1FileName {
    /// The same of another rank.
    func of(rank: Int) -> Self {
        var copy = self
        copy.rank = rank
        return copy
    }

    var stem: String { String(text.dropLast(format.count + 1)) }

    /// Whether it was written behind another one of the same prefix: in a later run, or later in the same.
    func isBehind(_ other: Self) -> Bool {
        (run ?? 0, epoch, step) > (other.run ?? 0, other.epoch, other.step)
    }
}
