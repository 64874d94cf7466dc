import Foundation
import Testing

@testable import TensorFormats

/// The committed files of the tests.
enum Fixtures {
    private static let folder = Bundle.module.url(forResource: "Fixtures", withExtension: nil)!

    static func bytes(_ path: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: folder.appendingPathComponent(path)))
    }

    static func json(_ path: String, allowNonFinite: Bool = false) throws -> JSON {
        try JSON(parsing: bytes(path), allowNonFinite: allowNonFinite)
    }

    static func files(in path: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.appendingPathComponent(path).path).sorted()
    }
}

extension SafetensorsHeader {
    /// Of a whole file in memory.
    init(file: [UInt8]) throws(TensorFileError) {
        try self.init(parsing: file, fileSize: UInt64(file.count))
    }
}

/// A file of this header and so much data.
func safetensors(_ header: String, data: Int = 8) -> [UInt8] {
    let length = UInt64(header.utf8.count)
    return (0..<8).map { UInt8(truncatingIfNeeded: length >> UInt64(8 * $0)) } + header.utf8
        + [UInt8](repeating: 0, count: data)
}
