import Foundation
import Testing

@testable import TensorFormats

/// Files that the writers wrote. tools/python/test_writers.py has them read by the libraries whose formats they are in; here they
/// are what is written still.
///
/// With CAIRN_GOLDEN_FOLDER set, the tests write them there instead: into Tests/TensorFormatsTests/Fixtures/golden, as a rule.
enum GoldenFiles {
    private static let folder = ProcessInfo.processInfo.environment["CAIRN_GOLDEN_FOLDER"].map {
        URL(fileURLWithPath: $0)
    }

    static func check(_ path: String, _ bytes: [UInt8]) throws {
        guard let folder else { return #expect(try Fixtures.bytes("golden/\(path)") == bytes, "\(path)") }
        let file = folder.appendingPathComponent(path)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(bytes).write(to: file)
    }

    /// The bytes of the content of this number: what test_writers.py expects of it.
    static func content(_ number: Int, count: Int) -> [UInt8] {
        (0..<count).map { UInt8((number * 31 + $0 * 7) % 251) }
    }
}
