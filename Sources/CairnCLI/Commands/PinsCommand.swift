import ArgumentParser
import Cairn

struct PinsCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "pins",
        abstract: "List the pins.",
        discussion: """
            Example:
              cairn pins
            """)

    @OptionGroup var common: CommonOptions

    var writes: Bool { false }

    func perform(_ session: Session) throws -> Answer {
        let pins = try session.store.pins()
        return Answer(json: .list(pins) { JSON($0) }, text: Self.text(pins, session.style))
    }

    static func text(_ pins: [PinInfo], _ style: Style) -> String {
        guard !pins.isEmpty else { return "no pins; cairn pin REF NAME makes one" }
        var table = Table([.text("PIN", minimum: 10), .text("RUN", minimum: 8), .number("STEP"), .text("ID")])
        for pin in pins { table.add([pin.name, pin.run, String(pin.step), "#" + pin.id.prefix(12)]) }
        return table.text(style)
    }
}
