import Foundation

@testable import Cairn
@testable import ChunkStore

/// A tensor as a safetensors file has it.
struct Tensor {
    var name: String
    var dtype: String
    var shape: [Int]
    var bytes: [UInt8]

    /// - Parameter shape: nil: all numbers in a row.
    init(_ name: String, _ dtype: String, _ shape: [Int]?, _ bytes: [UInt8]) {
        let sizes = ["F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I8": 1, "F8_E4M3": 1]
        self.name = name
        self.dtype = dtype
        self.shape = shape ?? [bytes.count / sizes[dtype]!]
        self.bytes = bytes
    }

    init(_ name: String, _ bytes: [UInt8]) { self.init(name, "F32", nil, bytes) }

    /// Numbers as a layer has them.
    static func floats(_ count: Int, _ generator: inout SeededGenerator) -> [UInt8] {
        floats((0..<count).map { _ in Float.random(in: -0.05...0.05, using: &generator) })
    }

    static func floats(_ values: [Float]) -> [UInt8] {
        values.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { [UInt8]($0) } }
    }

    static func file(_ tensors: [Tensor]) -> [UInt8] {
        var offset = 0
        let entries = tensors.map { tensor in
            defer { offset += tensor.bytes.count }
            return "\"\(tensor.name)\":{\"dtype\":\"\(tensor.dtype)\",\"shape\":\(tensor.shape),"
                + "\"data_offsets\":[\(offset),\(offset + tensor.bytes.count)]}"
        }
        let header = [UInt8]("{\(entries.joined(separator: ","))}".utf8)
        let length = withUnsafeBytes(of: UInt64(header.count).littleEndian) { [UInt8]($0) }
        return length + header + tensors.flatMap(\.bytes)
    }
}

extension Workbench {
    /// Saves a checkpoint of one file. Returns what the save says.
    @discardableResult
    func save(
        _ step: Int, _ tensors: [Tensor], file: String = "model.safetensors", run: String? = nil,
        _ options: SaveOptions = SaveOptions()
    ) throws -> SaveResult {
        var options = options
        options.run = run ?? options.run
        let folder = try write("\(run ?? "out")/checkpoint-\(step)", [file: Tensor.file(tensors)])
        return try store.save(folder, options: options)
    }

    /// Whether an iteration comes back with these files.
    func restores(_ reference: String, as folder: String) throws -> Bool {
        let place = path("restored-\(UUID().uuidString)")
        try Store.open(at: path("store")).restore(reference, to: place)
        let names = try FileManager.default.subpathsOfDirectory(atPath: folder).sorted()
        guard try FileManager.default.subpathsOfDirectory(atPath: place).sorted() == names else {
            return false
        }
        return names.allSatisfy { name in
            FileManager.default.contents(atPath: place + "/" + name)
                == FileManager.default.contents(atPath: folder + "/" + name)
        }
    }

    /// The records of an iteration's own bytes.
    func places(_ reference: String) throws -> [ChunkPlace] {
        let (manifest, lock) = try store.manifest(of: try store.resolve(reference))
        defer { withExtendedLifetime(lock) {} }
        let blobs = manifest.roots.entries.flatMap { manifest.contentBlobs(of: $0) }
        return try store.chunks.locate(try blobs.flatMap { try store.chunks.chunkIDs(of: $0) }).compactMap {
            $0
        }
    }

    /// How many of an iteration's chunks are encoded as deltas.
    func deltas(_ reference: String) throws -> Int {
        try places(reference).filter { $0.location.codec == .delta }.count
    }

    /// Flips a bit in the last byte of a chunk's record.
    func damage(_ place: ChunkPlace) throws {
        let path = store.chunks.packs.path(place.pack).text
        try flip(path, Int(place.location.range.upperBound) - 1)
    }
}
