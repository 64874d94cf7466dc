internal import Platform

/// How much of the machine a store may use.
public struct Settings: Sendable {
    /// What the command line and the Python package use where nobody says otherwise: 512 MiB.
    public static let defaultMemory = 512 << 20
    /// Below this a save has no room for its buffers: 64 MiB.
    public static let minimumMemory = 64 << 20

    /// Worker threads, at least 1; fewer work where memory is short. By default the processors that this process may use.
    public var jobs: Int
    /// The most bytes of buffers at any time, however large the checkpoint is.
    public var memory: Int

    public init(jobs: Int = Settings.defaultJobs, memory: Int = Settings.defaultMemory) {
        self.jobs = jobs
        self.memory = memory
    }

    /// As many of the threads as there is memory for, where each takes so many bytes. A quarter of it is left for what they share.
    func jobs(each bytes: Int) -> Int { max(1, min(jobs, memory / 4 * 3 / bytes)) }

    /// The same for threads that have two slots each, to work on one while the disk is busy with the other, or one where memory is
    /// short.
    func jobs(eachSlot bytes: Int) -> (jobs: Int, slots: Int) {
        (jobs(each: 2 * bytes), memory / 4 * 3 < 2 * bytes ? 1 : 2)
    }

    public static var defaultJobs: Int { max(1, Process.availableProcessors) }
}
