import ArgumentParser
import Cairn

/// What every command takes.
struct CommonOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp("The store's folder; CAIRN_STORE where it is not given.", valueName: "path"),
        completion: .directory)
    var store: String?

    @Flag(help: "One JSON document on standard output, also for errors.")
    var json = false

    @Flag(name: .shortAndLong, help: "No progress, and no report of what was done.")
    var quiet = false

    @Option(help: ArgumentHelp("Worker threads at most (default: the processors there are).", valueName: "n"))
    var jobs: Int?

    @Option(
        help: ArgumentHelp("The most memory for buffers (default: 512MiB).", valueName: "size"),
        transform: { text in Int(clamping: try ByteSize.parse(text)) })
    var memory = Settings.defaultMemory

    func validate() throws {
        if let jobs, jobs < 1 {
            throw ValidationError("--jobs \(jobs) leaves nobody to work: give at least 1")
        }
        if memory < Settings.minimumMemory {
            let minimum = Units.exactSize(UInt64(Settings.minimumMemory))
            throw ValidationError("--memory is too small to work with: give at least \(minimum)")
        }
    }

    /// Where the store is.
    ///
    /// - Throws: `usage` where nobody says.
    func storePath() throws(CairnError) -> String {
        if let path = store ?? Process.environment("CAIRN_STORE"), !path.isEmpty { return path }
        throw CairnError(.usage, "which store? give --store PATH, or set CAIRN_STORE")
    }

    /// - Parameters:
    ///   - changing: the command can do nothing with a store that can only be read.
    ///   - repairing: the store's index may be lost or damaged, and `repair` will make it anew.
    func openStore(changing: Bool = false, repairing: Bool = false) throws -> Store {
        let settings = Settings(jobs: jobs ?? Settings.defaultJobs, memory: memory)
        return try Store.open(
            at: try storePath(), settings: settings, changing: changing, repairing: repairing,
            onWait: { Output.complain($0) })
    }
}
