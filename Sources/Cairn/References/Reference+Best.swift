internal import Platform
internal import TensorFormats

extension Reference.Scope {
    /// The best iteration of a run.
    ///
    /// The metric is the given one, else the policy's, else what the framework recorded. The direction is the
    /// given one, else the policy's for this metric, else by the metric's name. NaN or missing is never best;
    /// of equals the earliest step wins. A superseded iteration can be the best one: what it measured still
    /// holds.
    func best(_ given: String?, _ direction: Direction?, in run: String) throws(CairnError) -> IterationInfo {
        let all = iterations(of: run)
        guard !all.isEmpty else { throw empty(run) }
        let metric: String
        if let given { metric = given } else { metric = try ownMetric(of: run, iterations: all) }
        let rule = policies[run]?.keepBest.first { sameBytes($0.metric, metric) && $0.direction != nil }
        let direction = direction ?? rule?.direction ?? .standard(for: metric)
        var best: (iteration: IterationInfo, value: Double)?
        for iteration in all {
            guard let value = iteration.metrics[metric], !value.isNaN else { continue }
            if let current = best, !direction.prefers(value, to: current.value) { continue }
            best = (iteration, value)
        }
        if let best { return best.iteration }
        let known = Set(all.flatMap(\.metrics.keys)).sorted()
        throw CairnError(
            .notFound,
            "no iteration of run \(run) has a value of the metric \(quoted(metric)); "
                + (known.isEmpty
                    ? "none has any metric, `cairn annotate` adds one" : "there is \(listed(known))"))
    }

    /// The metric that plain `best` means.
    private func ownMetric(of run: String, iterations: [IterationInfo]) throws(CairnError) -> String {
        var metrics: [String] = []
        for rule in policies[run]?.keepBest ?? []
        where !metrics.contains(where: { sameBytes($0, rule.metric) }) {
            metrics.append(rule.metric)
        }
        if metrics.count == 1 { return metrics[0] }
        if metrics.count > 1 {
            throw CairnError(
                .ambiguous,
                "the policy of run \(run) keeps the best by several metrics; write one of "
                    + "\(listed(metrics.map { "best:\($0)" }))")
        }
        if let recorded = recordedMetric(iterations) { return recorded }
        let known = Set(iterations.flatMap(\.metrics.keys)).sorted()
        throw CairnError(
            .notFound,
            "neither a policy nor the framework says which metric of run \(run) is meant; write best:METRIC"
                + (known.isEmpty ? "" : ", with \(listed(known))"))
    }

    /// What the newest iteration that has it says.
    private func recordedMetric(_ iterations: [IterationInfo]) -> String? {
        iterations.newestFirst.lazy.compactMap { TrainerState.bestMetricName(in: $0.metadata) }.first
    }
}

extension [IterationInfo] {
    /// Of iterations by step, the superseded ones last.
    var newestFirst: [IterationInfo] {
        filter { !$0.superseded }.reversed() + filter(\.superseded).reversed()
    }
}

extension TrainerState {
    /// The metric that a save recorded as the framework's own.
    static func bestMetricName(in metadata: [String: String]) -> String? {
        metadata[bestMetricNameKey].flatMap { (try? JSON(parsing: [UInt8]($0.utf8)))?.stringValue }
    }
}

/// Swift calls strings equal that Unicode calls equal; names of metrics are their bytes.
func sameBytes(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }
