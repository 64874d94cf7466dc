import ArgumentParser
import Cairn

struct InitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init",
        abstract: "Make a store.",
        discussion: """
            Examples:
              cairn init --store /data/store
              cairn init --store /data/store --chunk-size 64KiB

            Smaller chunks find more that is the same in large tensors of which little changes, and cost \
            more time and a larger index. Where numbers change little from save to save, their differences \
            are stored, so that getting a chunk back reads several records, within these bounds. All of \
            this is fixed from then on.
            """)

    @Option(
        help: ArgumentHelp(
            "Bytes in a chunk: a power of two from 4KiB to 4MiB (default: 256KiB).", valueName: "size"),
        transform: { text in Int(clamping: try ByteSize.parse(text)) })
    var chunkSize = 256 << 10

    @Option(
        help: ArgumentHelp(
            "How often a chunk's own bytes may be read to get it back: 1 to 16.", valueName: "times"))
    var recoveryFactor = 2

    @Option(
        help: ArgumentHelp(
            "Records that a chunk may be put together from: 1 to 64.", valueName: "n"))
    var recoveryRecords = 16

    @OptionGroup var common: CommonOptions

    func validate() throws {
        guard chunkSize.nonzeroBitCount == 1, (4 << 10)...(4 << 20) ~= chunkSize else {
            throw ValidationError("--chunk-size must be a power of two from 4KiB to 4MiB")
        }
        guard 1...16 ~= recoveryFactor else {
            throw ValidationError("--recovery-factor must be from 1 to 16")
        }
        guard 1...64 ~= recoveryRecords else {
            throw ValidationError("--recovery-records must be from 1 to 64")
        }
    }

    func run() throws {
        let store = try Store.create(
            at: try common.storePath(), chunkSize: chunkSize, recoveryFactor: recoveryFactor,
            recoveryRecords: recoveryRecords)
        let chunks = Units.exactSize(UInt64(store.chunkSize))
        try Output.answer(
            .report(
                json: JSON(store),
                text: "made a store in \(store.path.printable) with chunks of \(chunks)"),
            common)
    }
}
