extension FileSystem {
    /// Puts `bytes` under `path`, all or nothing: a temporary name beside it, write, sync, rename, sync the folder.
    ///
    /// When it returns, the file survives a power cut. When it throws, `path` is as it was, and the temporary file is gone; a
    /// process that is killed leaves it, under a name that starts with `.` and ends with `.partial`.
    public static func publish(_ bytes: [UInt8], at path: Path, exclusive: Bool = false, mode: UInt16 = 0o666)
        throws(CairnError)
    {
        let temporary = path.parent.appending(
            [UInt8(ascii: ".")] + path.name + [UInt8](".\(Random.hex(8)).partial".utf8))
        do throws(CairnError) {
            let file = try File(temporary, .create, mode: mode)
            try file.write(bytes, at: 0)
            try file.sync()
            try rename(temporary, to: path, exclusive: exclusive)
        } catch {
            _ = try? removeFile(temporary)
            throw error
        }
        try syncFolder(path.parent)
    }
}
