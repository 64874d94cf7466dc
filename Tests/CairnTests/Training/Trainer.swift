import Foundation

/// Made-up checkpoints as a Trainer of transformers leaves them, in the order in which it writes them.
extension Workbench {
    static func trainerFiles(
        _ step: Int, content: Int, best: Int? = nil
    ) -> [(name: String, bytes: [UInt8])] {
        let best = best.map { ", \"best_global_step\": \($0)" } ?? ""
        var generator = SeededGenerator(seed: UInt64(content))
        return [
            ("config.json", [UInt8]("{\"content\": \(content)}".utf8)),
            (
                "model.safetensors",
                safetensors([("w", generator.bytes(9000)), ("fixed", [UInt8](repeating: 7, count: 5000))])
            ),
            ("trainer_state.json", [UInt8]("{\"global_step\": \(step), \"log_history\": []\(best)}".utf8)),
        ]
    }

    /// - Parameters:
    ///   - content: what tells its tensors from others; nil: the step.
    ///   - name: of its folder below `out`; nil: as the Trainer calls it.
    ///   - missing: a file that it lacks.
    @discardableResult
    func checkpoint(
        _ step: Int, content: Int? = nil, best: Int? = nil, name: String? = nil,
        without missing: String? = nil
    ) throws -> String {
        let files = Self.trainerFiles(step, content: content ?? step, best: best).filter {
            $0.name != missing
        }
        return try write(
            "out/" + (name ?? "checkpoint-\(step)"),
            Dictionary(uniqueKeysWithValues: files.map { ($0.name, $0.bytes) }))
    }

    /// Sets when something below `out` changed last.
    func setTime(_ name: String, _ seconds: Double) throws {
        try FileManager.default.setAttributes(
            [.modificationDate: Date(timeIntervalSince1970: seconds)], ofItemAtPath: path("out/" + name))
    }

    /// The names below `out`.
    func names() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: path("out")).sorted()
    }
}
