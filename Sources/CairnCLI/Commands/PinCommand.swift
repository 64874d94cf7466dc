import ArgumentParser
import Cairn

struct PinCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "pin",
        abstract: "Protect an iteration from every deletion, under a name.",
        discussion: """
            The name is also a reference.

            Examples:
              cairn pin main@500 before-anneal
              cairn restore before-anneal restored
              cairn pin best:eval_loss release-1 --weights-only
            """)

    @Argument(help: .reference, completion: StoreCompletion.references)
    var reference: String

    @Argument(help: "The name of the pin.")
    var name: String

    @Flag(
        help: "Protect the weights alone: a policy with --keep-optimizer-last may let go of the rest.")
    var weightsOnly = false

    @OptionGroup var common: CommonOptions

    var writes: Bool { true }

    func perform(_ session: Session) throws -> Answer {
        let pin = try session.store.pin(reference, name: name, weightsOnly: weightsOnly)
        return .report(json: JSON(pin), text: "pinned \(pin.run)@\(pin.step) as \(pin.name)".printable)
    }
}
