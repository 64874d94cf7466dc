import Cairn

/// `cairn save --all`, and how `cairn watch` says what became of an iteration.
extension SaveCommand {
    func saveAll(_ session: Session) throws -> Answer {
        var lines: [String] = []
        let options = SaveAllOptions(run: run, move: move, dryRun: dryRun)
        let results = try session.store.saveAll(path, options: options, progress: session.progress) { one in
            lines.append(Self.text(one))
        }
        var answer = Answer.report(
            json: .list(results) { Self.json($0) },
            text: results.isEmpty ? "\(path.printable) holds no iterations" : Sentences.lines(lines))
        let isFailed = results.contains { if case .failed = $0.outcome { true } else { false } }
        answer.status = isFailed ? ExitStatus.failed : ExitStatus.done
        return answer
    }

    static func text(_ one: SavedIteration) -> String {
        let moved = one.isMoved ? "; the original is deleted" : ""
        switch one.outcome {
        case .saved(let result): return text(result) + moved
        case .known: return "\(one.name.printable): the store has it" + moved
        case .refused(let reasons):
            return "\(one.name.printable): not saved: " + reasons.joined(separator: "; ").printable
        case .failed(let error): return "\(one.name.printable): failed: " + error.message.printable
        }
    }

    static func json(_ one: SavedIteration) -> JSON {
        var members: [JSON.Member] = [
            .init("name", JSON(one.name)), .init("layout", JSON(optional: one.layout)),
            .init("step", one.step.map { JSON($0) } ?? .null), .init("moved", JSON(one.isMoved)),
        ]
        switch one.outcome {
        case .saved(let result):
            members.append(.init("outcome", JSON("saved")))
            members += (json(result).members ?? []).filter { !["layout", "step"].contains($0.key) }
        case .known: members.append(.init("outcome", JSON("known")))
        case .refused(let reasons):
            members += [.init("outcome", JSON("refused")), .init("reasons", .list(reasons))]
        case .failed(let error):
            members += [.init("outcome", JSON("failed")), .init("reasons", .list([error.message]))]
        }
        return .object(members)
    }
}
