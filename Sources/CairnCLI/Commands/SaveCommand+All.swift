import Cairn

/// `cairn save --all`, and how `cairn watch` says what became of an iteration.
extension SaveCommand {
    func saveAll(_ session: Session) throws -> Answer {
        let options = SaveAllOptions(run: run, move: move, dryRun: dryRun)
        let results = try session.store.saveAll(path, options: options, progress: session.progress) { one in
            session.progress.end()
            if !common.json { Self.say(one, common) }
        }
        var answer = Answer.nothing
        if common.json || results.isEmpty {
            answer = .report(
                json: .list(results) { JSON($0) }, text: "\(path.printable) holds no iterations")
        }
        answer.status = results.contains(where: \.isFailed) ? ExitStatus.failed : ExitStatus.done
        return answer
    }

    /// A line, at once.
    static func say(_ one: SavedIteration, _ common: CommonOptions) {
        for warning in one.warnings { Output.complain("warning: \(warning)") }
        if case .failed(let error) = one.outcome, !common.json {
            return Output.complain("\(one.name): \(error.message)")
        }
        if common.quiet, !common.json { return }
        let line = common.json ? JSON(one).line : [UInt8]((text(one) + "\n").utf8)
        // Where nobody reads it any more, what it says is done nevertheless.
        _ = try? Output.write(line)
    }

    static func text(_ one: SavedIteration) -> String {
        var original = one.isMoved ? "; the original is deleted" : ""
        if let kept = one.kept { original = "; the original stays: \(kept.printable)" }
        switch one.outcome {
        case .saved(let result): return text(result) + original
        case .known: return "\(one.name.printable): the store has it" + original
        case .left: return "\(one.name.printable): left, as a newer one was waiting"
        case .refused(let reasons):
            return "\(one.name.printable): not saved: " + reasons.joined(separator: "; ").printable
        case .failed(let error): return "\(one.name.printable): failed: " + error.message.printable
        }
    }
}

extension SavedIteration {
    var isFailed: Bool { if case .failed = outcome { true } else { false } }

    fileprivate var warnings: [String] {
        if case .saved(let result) = outcome { result.warnings } else { [] }
    }
}
