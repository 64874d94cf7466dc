import Cairn
import Foundation
import Testing

/// A temporary folder with a store in it and checkpoints beside it; gone with the value.
final class Workbench: Sendable {
    let folder: String
    let store: Store

    init(chunkSize: Int = 4096) throws {
        folder = NSTemporaryDirectory() + "cairn-save-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        store = try Store.create(at: folder + "/store", chunkSize: chunkSize)
    }

    deinit {
        _ = try? FileManager.default.removeItem(atPath: folder)
    }

    func path(_ name: String) -> String { folder + "/" + name }

    /// Writes files, with the folders above them. Returns the path of the folder.
    @discardableResult
    func write(_ name: String, _ files: [String: [UInt8]]) throws -> String {
        for (file, bytes) in files {
            let url = URL(fileURLWithPath: path(name) + "/" + file)
            try FileManager.default.createDirectory(
                at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(bytes).write(to: url)
        }
        return path(name)
    }

    /// Flips a bit of a file.
    func flip(_ path: String, _ offset: Int, bit: UInt8 = 0x10) throws {
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
        try file.seek(toOffset: UInt64(offset))
        let byte = try #require(try file.read(upToCount: 1)?.first)
        try file.seek(toOffset: UInt64(offset))
        try file.write(contentsOf: Data([byte ^ bit]))
        try file.close()
    }

    /// The code of the error that `body` throws.
    func code(_ body: () throws -> Void) -> CairnError.Code? {
        do {
            try body()
            return nil
        } catch {
            return (error as? CairnError)?.code
        }
    }

    /// A safetensors file with one U8 tensor for each name.
    static func safetensors(_ tensors: [(name: String, bytes: [UInt8])]) -> [UInt8] {
        var offset = 0
        let entries = tensors.map { tensor in
            defer { offset += tensor.bytes.count }
            return "\"\(tensor.name)\":{\"dtype\":\"U8\",\"shape\":[\(tensor.bytes.count)],"
                + "\"data_offsets\":[\(offset),\(offset + tensor.bytes.count)]}"
        }
        let header = [UInt8]("{\(entries.joined(separator: ","))}".utf8)
        let length = withUnsafeBytes(of: UInt64(header.count).littleEndian) { [UInt8]($0) }
        return length + header + tensors.flatMap(\.bytes)
    }
}
