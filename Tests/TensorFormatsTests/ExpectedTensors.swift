import Testing

@testable import TensorFormats

/// What the libraries say of files that they wrote: expected.json, which `tools/python/fixtures.py` describes.
struct ExpectedTensors {
    let folder: String
    private let members: [JSON.Member]

    init(_ folder: String) {
        self.folder = folder
        members = try! Fixtures.json("\(folder)/expected.json").members!
    }

    var accepted: [String] { members.filter { $0.value["refused"] == nil }.map(\.key) }
    var refused: [String] { members.filter { $0.value["refused"] != nil }.map(\.key) }

    /// Expects that a map of the file is sound and has exactly the tensors that the library finds.
    func check(_ file: String, _ map: (Fixture) throws -> TensorMap) throws {
        let fixture = try Fixture("\(folder)/\(file)")
        let map = try map(fixture)
        #expect(map.isSound(fileSize: fixture.bytes.count))
        let all = try #require(members.first { $0.key == file }?.value["tensors"]?.array)
        #expect(map.tensors.map(\.name) == all.map { $0["name"]!.stringValue! })
        for (tensor, one) in zip(map.tensors, all) {
            #expect(one["dtype"]?.stringValue == tensor.dtype, "\(tensor.name)")
            #expect(one["shape"]?.array?.compactMap(\.uint64) == tensor.shape, "\(tensor.name)")
            let bytes = map.bytes(of: tensor, in: fixture.bytes)
            #expect(one["bytes"]?.stringValue == bytes.hexDigits, "\(tensor.name)")
        }
    }

    /// Expects that a file is refused for the reason that it was made for.
    func checkRefusal(_ file: String, _ map: (Fixture) throws -> TensorMap) throws {
        let fixture = try Fixture("\(folder)/\(file)")
        let error = #expect(throws: TensorFileError.self) { try map(fixture) }
        let expected = members.first { $0.key == file }?.value["refused"]?.stringValue
        #expect(error?.code.rawValue == expected, "\(error?.message ?? "")")
        #expect(error?.message.hasSuffix(".") == true && error?.message.contains("\n") == false)
    }
}

/// A file in memory. A read outside of it would be a trap.
struct Fixture: Sendable {
    let bytes: [UInt8]

    init(_ path: String) throws { bytes = try Fixtures.bytes(path) }
    init(bytes: [UInt8]) { self.bytes = bytes }

    var size: UInt64 { UInt64(bytes.count) }

    func read(_ range: Range<UInt64>) -> [UInt8] {
        Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)])
    }
}

extension TensorMap {
    /// What is made of a file with this ending of its name.
    init(_ fileExtension: String, _ file: Fixture) throws {
        switch fileExtension {
        case "safetensors": self.init(try SafetensorsHeader(file: file.bytes))
        case "npy": try self.init(npy: file.size, read: file.read)
        case "npz": try self.init(npz: file.size, read: file.read)
        case "gguf": try self.init(GGUFHeader(size: file.size, read: file.read), fileSize: file.size)
        default: try self.init(mindSpore: file.size, read: file.read)
        }
    }
}

extension ArraySlice<UInt8> {
    /// In lower case.
    var hexDigits: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
