/// What the name of a file says that a training loop of somebody's own writes, such as `model_epoch=3_val_loss=0.25.pt`.
struct CheckpointName: Equatable {
    /// The number behind a word for steps, and that behind one for epochs.
    var step: UInt64?
    var epoch: UInt64?
    /// A number behind a word such as `ckpt`, or behind nothing: of what, the name doesn't say.
    var number: UInt64?
    /// A number that nothing says more of, as in `mine_12.pt`.
    var anyNumber: UInt64?
    /// Numbers with a fraction, and those behind a word for something that is measured.
    var metrics: [String: Double] = [:]
    /// In lower case, in the order of the name.
    var words: [String] = []

    /// Whether it says that it is one of several.
    var isNumbered: Bool { step != nil || epoch != nil || number != nil }
    /// Whether it says that it is overwritten again and again, as `latest.pt` is.
    var isAlias: Bool { words.contains(where: Self.aliases.contains) }
    /// Whether it is a part of something, or something else beside it.
    var isPart: Bool { words.contains(where: Self.parts.contains) }
    /// The number that stands for the step, whatever it counts.
    var order: UInt64? { step ?? epoch ?? number ?? anyNumber }

    /// - Parameter stem: the name without its ending.
    init(_ stem: some StringProtocol) {
        let tokens = Self.tokens(Array(stem.utf8))
        for (index, token) in tokens.enumerated() {
            switch token {
            case .word(let word): words.append(word)
            case .number(let text, let isAlone): add(text, isAlone, before: tokens[..<index])
            case .equals: break
            }
        }
    }

    private static let steps: Set = [
        "step", "steps", "iter", "iters", "iteration", "iterations", "it", "itr", "updates", "batch",
    ]
    private static let epochs: Set = ["epoch", "epochs", "ep", "e"]
    private static let neutral: Set = [
        "ckpt", "ckp", "checkpoint", "chkpt", "cp", "model", "net", "network", "weights", "snapshot", "state",
        "dict", "save",
        "saved", "policy", "agent", "params", "backup",
    ]
    private static let aliases: Set = [
        "latest", "last", "best", "final", "newest", "current", "checkpoint", "ckpt", "snapshot", "model",
        "weights", "net",
        "network", "policy", "state", "params",
    ]
    private static let parts: Set = [
        "rank", "shard", "part", "of", "mp", "states", "optim", "optimizer", "scheduler", "rng", "vocab",
        "tokenizer", "dataset", "data", "args", "config",
        "embeddings", "predictions", "preds", "outputs", "logits", "results", "metrics", "losses", "history",
        "stats",
    ]
    /// Words behind which a number is no step.
    private static let others: Set = [
        "v", "version", "seed", "fold", "lr", "bs", "dim", "size", "h", "x", "run", "gpu", "layer", "world",
    ]
    private static let measured: Set = [
        "loss", "acc", "accuracy", "f", "f1", "auc", "bleu", "ppl", "perplexity", "map", "iou", "miou",
        "dice", "psnr", "ssim", "fid",
        "wer", "cer", "rmse", "mse", "mae", "score", "reward", "err", "error", "metric", "recall",
        "precision", "top",
    ]
    private static let sets: Set = ["val", "valid", "validation", "test", "train", "eval", "dev"]

    private mutating func add(_ text: String, _ isAlone: Bool, before tokens: ArraySlice<Token>) {
        var (before, isNamed) = (tokens, false)
        if case .equals? = before.last { (before, isNamed) = (before.dropLast(), true) }
        let names = before.reversed().prefix { if case .word = $0 { true } else { false } }.compactMap(\.word)
        let word = names.first
        guard let number = Step.decimal(text.utf8) else {
            // With a fraction.
            guard let value = Double(text), let key = Self.key(names, isNamed) else { return }
            metrics[key] = value
            return
        }
        switch word {
        case let word? where Self.steps.contains(word): step = number
        case let word? where Self.epochs.contains(word): epoch = number
        case let word? where Self.measured.contains(word):
            metrics[Self.key(names, isNamed) ?? word] = Double(number)
        case let word? where Self.neutral.contains(word) || Self.aliases.contains(word): self.number = number
        case let word? where Self.others.contains(word) || Self.parts.contains(word): break
        case .some(_) where isAlone: anyNumber = number
        case nil where tokens.isEmpty: self.number = number
        case nil where isAlone: anyNumber = number
        default: break
        }
    }

    /// What a number with a fraction is called: all words before `=`, else the last one with the set that it is of.
    private static func key(_ names: [String], _ isNamed: Bool) -> String? {
        guard let last = names.first, isNamed || measured.contains(last) else { return nil }
        let rest = names.dropFirst()
        guard let set = rest.first, isNamed || sets.contains(set) else { return last }
        return sets.contains(set) ? set + "_" + last : last
    }

    private enum Token {
        case word(String)
        /// With a sign or fraction, where it has one. Alone, if no letter stands beside it.
        case number(String, isAlone: Bool)
        case equals

        var word: String? { if case .word(let word) = self { word } else { nil } }
    }

    private static func tokens(_ name: [UInt8]) -> [Token] {
        var tokens: [Token] = []
        var position = 0
        while position < name.count {
            let start = position
            if isLetter(name[start]) {
                while position < name.count, isLetter(name[position]) { position += 1 }
                tokens.append(.word(String(decoding: name[start..<position], as: UTF8.self).lowercased()))
            } else if StoreName.isDigit(name[start]) {
                position = endOfNumber(name, start)
                // `7b` and `c8f` are no numbers.
                if position < name.count, isLetter(name[position]) {
                    while position < name.count, isLetter(name[position]) || StoreName.isDigit(name[position])
                    { position += 1 }
                    tokens.append(.word(String(decoding: name[start..<position], as: UTF8.self).lowercased()))
                    continue
                }
                let isNegative =
                    start > 1 && name[start - 1] == UInt8(ascii: "-") && name[start - 2] == UInt8(ascii: "=")
                let text = String(decoding: name[start..<position], as: UTF8.self)
                tokens.append(
                    .number((isNegative ? "-" : "") + text, isAlone: start == 0 || !isLetter(name[start - 1]))
                )
            } else {
                if name[start] == UInt8(ascii: "=") { tokens.append(.equals) }
                position += 1
            }
        }
        return tokens
    }

    /// Digits, a fraction, an exponent that has a sign.
    private static func endOfNumber(_ name: [UInt8], _ start: Int) -> Int {
        func digits(_ from: Int) -> Int { from + name[from...].prefix(while: StoreName.isDigit).count }
        var end = digits(start)
        if end + 1 < name.count, name[end] == UInt8(ascii: "."), StoreName.isDigit(name[end + 1]) {
            end = digits(end + 1)
        }
        if end + 2 < name.count, name[end] | 0x20 == UInt8(ascii: "e"),
            name[end + 1] == UInt8(ascii: "-") || name[end + 1] == UInt8(ascii: "+"),
            StoreName.isDigit(name[end + 2])
        {
            end = digits(end + 2)
        }
        return end
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20) || byte >= 0x80
    }
}
