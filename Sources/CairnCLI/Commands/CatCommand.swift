import ArgumentParser
import Cairn

struct CatCommand: ParsableCommand {
    /// Nobody reads standard output any more.
    private struct ReaderLeft: Error {}

    static let configuration = CommandConfiguration(
        commandName: "cat",
        abstract: "Write one saved file to standard output.",
        discussion: """
            Files are named as cairn show --files lists them.

            Examples:
              cairn cat latest trainer_state.json | jq .log_history
              cairn cat main@500 model.safetensors > model.safetensors
            """)

    @Argument(help: .reference, completion: StoreCompletion.references)
    var reference: String

    @Argument(help: "The file.")
    var file: String

    @OptionGroup var common: CommonOptions

    func validate() throws {
        if common.json { throw ValidationError("--json is not for cat, which writes the file's own bytes") }
    }

    func run() throws {
        let store = try common.openStore()
        do {
            try store.cat(reference, file: file) { bytes in
                if Interruption.isRequested {
                    throw CairnError(.interrupted, "interrupted; only a part of the file was written")
                }
                guard try Terminal.write(bytes, to: .output) else { throw ReaderLeft() }
            }
        } catch is ReaderLeft {
            // As with `head`: who closes the pipe has what they wanted.
        }
    }
}
