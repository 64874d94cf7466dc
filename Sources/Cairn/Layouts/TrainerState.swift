public import Platform
internal import TensorFormats

/// What the Hugging Face `Trainer` wrote about a checkpoint into `trainer_state.json`.
/// (transformers, `trainer_callback.py:TrainerState`)
public struct TrainerState: Sendable {
    /// The metadata key under which a save records `bestMetricName`, as a JSON text.
    public static let bestMetricNameKey = "best_metric_name"

    /// The step of the checkpoint, where the file says one.
    public var globalStep: UInt64?
    /// Each `eval_*`, and `loss`, `grad_norm`, `learning_rate` and `epoch`: what the log says of it at the
    /// greatest step that is not after `globalStep`. NaN and infinity are values like others.
    public var metrics: [String: Double]
    /// The best value of the run so far, where the trainer keeps track of one.
    public var bestMetric: Double?
    /// The step of that value. Older versions only wrote the path of its checkpoint, whose name says the
    /// step.
    public var bestGlobalStep: UInt64?
    /// The metric that it is a value of, where exactly one `eval_*` of that step has it.
    public var bestMetricName: String?

    /// - Parameter bytes: of the file; `NaN` and `Infinity`, as Python writes them, are fine.
    /// - Throws: `usage` where they are not a JSON object, where the step is no step, or where two metrics
    ///   have names that differ only in their Unicode normalisation, which no store keeps apart.
    public init(_ bytes: [UInt8]) throws(CairnError) {
        let state: JSON
        do {
            state = try JSON(parsing: bytes, allowNonFinite: true)
        } catch {
            throw Self.error("can't be read: \(error). Is the checkpoint complete?")
        }
        guard state.members != nil else {
            throw Self.error("is not a JSON object. Is the checkpoint complete?")
        }
        globalStep = try Self.step(state["global_step"], "global_step")
        bestMetric = state["best_metric"]?.double
        bestGlobalStep = try Self.step(state["best_global_step"], "best_global_step")
        if bestGlobalStep == nil, let path = state["best_model_checkpoint"]?.stringValue {
            bestGlobalStep = StepNames.step(of: Path(path).name)
        }
        let log = (state["log_history"]?.array ?? []).compactMap(LogEntry.init)
        metrics = try Self.metrics(log, upTo: globalStep)
        bestMetricName = Self.name(of: bestMetric, at: bestGlobalStep, in: log)
    }

    private static func metrics(_ log: [LogEntry], upTo limit: UInt64?) throws(CairnError) -> [String: Double]
    {
        var latest: [String: (name: String, step: UInt64, value: Double)] = [:]
        for entry in log {
            if let limit, entry.step > limit { continue }
            for (name, value) in entry.metrics {
                if let known = latest[name] {
                    guard sameBytes(known.name, name) else {
                        throw error(
                            "holds two metrics called \(quoted(name)) that differ only in their Unicode form")
                    }
                    // The log is in order of time, so of equal steps the last one counts.
                    if known.step > entry.step { continue }
                }
                latest[name] = (name, entry.step, value)
            }
        }
        return latest.mapValues(\.value)
    }

    private static func name(of best: Double?, at step: UInt64?, in log: [LogEntry]) -> String? {
        guard let best, !best.isNaN else { return nil }
        var names: Set<String> = []
        for entry in log where step == nil || entry.step == step {
            for (name, value) in entry.metrics where value == best && name.utf8.starts(with: "eval_".utf8) {
                names.insert(name)
            }
        }
        return names.count == 1 ? names.first : nil
    }

    private static func step(_ value: JSON?, _ name: String) throws(CairnError) -> UInt64? {
        guard let value, !value.isNull else { return nil }
        guard let step = value.int, step >= 0, step <= Int(Step.maximum) else {
            throw error("has a \(name) that is not a step from 0 to \(Step.maximum)")
        }
        return UInt64(step)
    }

    private static func error(_ what: String) -> CairnError {
        CairnError(.usage, "trainer_state.json \(what)", path: "trainer_state.json")
    }
}

/// One entry of `log_history` that has a step.
private struct LogEntry {
    var step: UInt64
    var metrics: [(name: String, value: Double)]

    init?(_ json: JSON) {
        guard let members = json.members, let step = json["step"]?.int, step >= 0 else { return nil }
        self.step = UInt64(step)
        metrics = members.compactMap { member in
            guard Self.isMetric(member.key), let value = member.value.double else { return nil }
            return (member.key, value)
        }
    }

    private static func isMetric(_ key: String) -> Bool {
        switch key {
        case "loss", "grad_norm", "learning_rate", "epoch": true
        default: key.utf8.starts(with: "eval_".utf8)
        }
    }
}
