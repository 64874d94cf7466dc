import ArgumentParser
import Cairn

struct RewindCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "rewind",
        abstract: "Go back to an iteration: what came after it is superseded.",
        discussion: """
            Superseded iterations are still listed and can be restored. They are never the latest, and the \
            first to go when space is needed; pins still hold. When the run comes by the same step once more, what \
            is saved there takes the place of the superseded iteration, unless that one is pinned.

            Example:
              cairn rewind main@500
            """)

    @Argument(help: .reference, completion: StoreCompletion.references)
    var reference: String

    @OptionGroup var common: CommonOptions

    var writes: Bool { true }

    func perform(_ session: Session) throws -> Answer {
        let superseded = try session.store.rewind(to: reference)
        return .report(
            json: JSON(superseded: superseded), text: Self.text(superseded))
    }

    static func text(_ superseded: [IterationInfo]) -> String {
        guard !superseded.isEmpty else { return "nothing came after it" }
        return "superseded: " + superseded.map { "\($0.run)@\($0.step)".printable }.joined(separator: ", ")
    }
}
