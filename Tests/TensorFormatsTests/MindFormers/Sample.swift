import Foundation

/// Real checkpoints of small models: Tests/Fixtures/checkpoints.tar.gz.
enum Sample {
    private static let archive = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Fixtures/checkpoints.tar.gz").path

    private static func tar(_ arguments: String...) throws -> Data {
        let (process, pipe) = (Process(), Pipe())
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["tar"] + arguments
        process.standardOutput = pipe
        try process.run()
        let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw CocoaError(.fileReadUnknown) }
        return output
    }

    /// The files below a folder of it, by their paths.
    static func files(in folder: String) throws -> [String] {
        String(decoding: try tar("-tzf", archive, folder), as: UTF8.self).split(separator: "\n").map(
            String.init
        )
        .filter { !$0.hasSuffix("/") }.sorted()
    }

    static func bytes(_ path: String) throws -> [UInt8] { [UInt8](try tar("-xOzf", archive, path)) }
}
