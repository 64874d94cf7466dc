import ArgumentParser
import Cairn

struct UnpinCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "unpin",
        abstract: "Remove a pin; the iteration stays until something deletes it.",
        discussion: """
            Example:
              cairn unpin before-anneal
            """)

    @Argument(help: "The name of the pin.", completion: StoreCompletion.pins)
    var name: String

    @OptionGroup var common: CommonOptions

    var writes: Bool { true }

    func perform(_ session: Session) throws -> Answer {
        let pin = try session.store.unpin(name)
        return .report(
            json: JSON(pin), text: "unpinned \(pin.name), which was \(pin.run)@\(pin.step)".printable)
    }
}
