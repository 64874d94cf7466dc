/// What an export writes.
struct ExportPlan {
    /// A saved file or link that comes along as it is.
    struct Copied {
        var entry: Roots.Entry
        /// Where it goes, below the destination.
        var path: [UInt8]
    }

    /// What is written anew.
    var written: [OutputFile] = []
    var copied: [Copied] = []
    /// Whether the one file that is written is the destination, and not in it.
    var isFile = false
    /// Another iteration of which something is written, kept from removal until that is done.
    var base: CheckpointView?
    /// Sentences for people.
    var warnings: [String] = []

    /// All files, but for links and folders.
    func files(_ manifest: Manifest) -> [OutputFile] {
        written
            + copied.compactMap { copied in
                var file = manifest.output(copied.entry)
                file?.path = copied.path
                return file
            }
    }
}
