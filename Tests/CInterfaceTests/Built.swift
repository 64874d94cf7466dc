import Foundation
import Testing

/// What was built beside this test, and what is built with it.
enum Built {
    private static let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    static let header = sources.deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Sources/CCairn/include")

    private static let folder: String = {
        let program = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return (program as NSString).deletingLastPathComponent
    }()

    static let library = folder + "/libCairnC.so"
    static let command = ProcessInfo.processInfo.environment["CAIRN"] ?? folder + "/cairn"

    /// Compiles a program of Fixtures. Returns its path.
    static func program(_ name: String, in place: URL) throws -> String {
        let program = place.appendingPathComponent("program").path
        let arguments = [
            "cc", "-std=c99", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g",
            "-I", header.path, sources.appendingPathComponent("Fixtures/\(name).c").path, "-o", program,
            "-L", folder, "-lCairnC", "-Wl,-rpath," + folder, "-pthread",
        ]
        let ending = try run("/usr/bin/env", arguments)
        try #require(ending.status == 0, "\(ending.output)")
        return program
    }

    /// Runs a program to its end. The output is what it wrote to both streams.
    static func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let bytes = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: bytes, as: UTF8.self))
    }

    /// A file with one tensor `a`.
    static func safetensors(_ values: [Float]) -> Data {
        let bytes = values.count * 4
        let header = #"{"a":{"dtype":"F32","shape":[\#(values.count)],"data_offsets":[0,\#(bytes)]}}"#
        var file = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
        file += Data(header.utf8)
        for value in values { file += withUnsafeBytes(of: value.bitPattern.littleEndian) { Data($0) } }
        return file
    }
}
