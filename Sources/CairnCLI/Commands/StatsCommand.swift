import ArgumentParser
import Cairn

struct StatsCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats",
        abstract: "Show where the bytes are.",
        discussion: """
            LOGICAL is the size of all saved files, UNIQUE that of their distinct chunks, STORED what they \
            take on disk.

            Example:
              cairn stats
            """)

    @OptionGroup var common: CommonOptions

    var writes: Bool { false }

    func perform(_ session: Session) throws -> Answer {
        let stats = try session.store.stats()
        return Answer(json: JSON(stats), text: Self.text(stats, session.style))
    }

    static func text(_ stats: StoreStats, _ style: Style) -> String {
        var fields = Fields()
        fields.add(
            "logical", "\(Units.size(stats.logicalBytes)) in \(Units.count(stats.iterations, "iteration"))")
        fields.add("unique", "\(Units.size(stats.uniqueBytes)) in \(Units.count(stats.chunks, "chunk"))")
        let saved =
            stats.storedBytes > 0 && stats.logicalBytes > stats.storedBytes
            ? " (\(Units.fixed(Double(stats.logicalBytes) / Double(stats.storedBytes), 1)) times smaller)"
            : ""
        fields.add(
            "stored", "\(Units.size(stats.storedBytes)) in \(Units.count(stats.packs, "pack"))" + saved)
        fields.add("index", Units.size(stats.indexBytes))
        var parts = [fields.text]
        if !stats.runs.isEmpty { parts.append(table(stats.runs, style)) }
        if !stats.dtypes.isEmpty { parts.append(table("DTYPE", stats.dtypes, style)) }
        if !stats.codecs.isEmpty { parts.append(table("CODEC", stats.codecs, style)) }
        return parts.joined(separator: "\n\n")
    }

    private static func table(_ runs: [StoreStats.Run], _ style: Style) -> String {
        var table = Table([
            .text("RUN", minimum: 8), .number("ITERATIONS"), .number("LOGICAL"), .number("STORED"),
        ])
        for run in runs {
            table.add([
                run.name, Units.grouped(run.iterations), Units.size(run.logicalBytes),
                Units.size(run.storedBytes),
            ])
        }
        return table.text(style)
    }

    private static func table(_ title: String, _ shares: [StoreStats.Share], _ style: Style) -> String {
        var table = Table([
            .text(title), .number("CHUNKS"), .number("UNIQUE"), .number("STORED"), .number("RATIO"),
        ])
        for share in shares {
            table.add([
                share.name, Units.grouped(share.chunks), Units.size(share.uniqueBytes),
                Units.size(share.storedBytes),
                Units.percent(share.storedBytes, of: share.uniqueBytes),
            ])
        }
        return table.text(style)
    }
}
