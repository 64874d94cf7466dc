import Foundation

/// Real checkpoints of small models, Tests/Fixtures/checkpoints.tar.gz, unpacked once; removed when the process ends.
enum Samples {
    private static let folder: String = {
        let archive = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Fixtures/checkpoints.tar.gz").path
        let folder = FileManager.default.temporaryDirectory.path + "/cairn-samples-" + UUID().uuidString
        try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let tar = Process()
        tar.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        tar.arguments = ["tar", "-xzf", archive, "-C", folder]
        try? tar.run()
        tar.waitUntilExit()
        atexit { try? FileManager.default.removeItem(atPath: Samples.folder) }
        return folder
    }()

    /// The files below a folder, or all, by their paths in the archive, in order.
    static func files(in prefix: String = "") throws -> [String] {
        let prefix = prefix.isEmpty || prefix.hasSuffix("/") ? prefix : prefix + "/"
        return try FileManager.default.subpathsOfDirectory(atPath: folder).filter { path in
            var isFolder: ObjCBool = false
            _ = FileManager.default.fileExists(atPath: folder + "/" + path, isDirectory: &isFolder)
            return path.hasPrefix(prefix) && !isFolder.boolValue
        }.sorted()
    }

    static func bytes(_ path: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(fileURLWithPath: folder + "/" + path)))
    }
}
