import Testing

@testable import TensorFormats

/// Damaged files of MindSpore, GGUF and NumPy: never a crash, never a read outside the file, and never a bad cut.
struct FormatFuzzTests {
    private static let folders = ["mindspore", "gguf", "numpy"]

    private static func originals(_ folder: String) throws -> [(extension: String, bytes: [UInt8])] {
        try Fixtures.files(in: folder).filter { !$0.hasSuffix(".json") && !$0.hasSuffix(".safetensors") }.map
        {
            (String($0.split(separator: ".").last!), try Fixtures.bytes("\(folder)/\($0)"))
        }.filter { !$0.bytes.isEmpty }
    }

    @Test(arguments: folders)
    func `damaged files crash nothing and are never cut badly`(_ folder: String) throws {
        let originals = try Self.originals(folder)
        Fuzz.run("files of \(folder)") { random in
            var (fileExtension, file) = originals.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...3, using: &random) { Self.damage(&file, &random) }
            guard let map = try? TensorMap(fileExtension, Fixture(bytes: file)) else { return false }
            Fuzz.expect(map.isSound(fileSize: file.count))
            return true
        }
    }

    @Test(arguments: folders)
    func `files that end at any byte crash nothing and are never cut badly`(_ folder: String) throws {
        for (fileExtension, file) in try Self.originals(folder) where file.count < 3000 {
            let whole = try? TensorMap(fileExtension, Fixture(bytes: file))
            for length in 0..<file.count {
                let cut = Array(file[..<length])
                guard let map = try? TensorMap(fileExtension, Fixture(bytes: cut)) else { continue }
                #expect(map.isSound(fileSize: length))
                // What a file of MindSpore lacks may be whole messages, and one of GGUF zeros at its end.
                guard let whole else { continue }
                #expect(map.tensors.count <= whole.tensors.count)
                #expect(folder != "numpy", "an array without its end is damaged")
            }
        }
    }

    @Test(arguments: folders)
    func `absurd lengths anywhere crash nothing and are never cut badly`(_ folder: String) throws {
        let absurd: [[UInt8]] = [
            little(UInt64.max), little(UInt64(1) << 63), little(Int64.max), little(UInt32.max),
            little(UInt32(1) << 31), little(UInt16.max), [UInt8](repeating: 0xFF, count: 9) + [0x01],
            [UInt8](repeating: 0x80, count: 10), Array("99999999999999999999".utf8),
            Array("9223372036854775808".utf8), Array("9223372036854775807".utf8),
        ]
        for (fileExtension, file) in try Self.originals(folder) where file.count < 1500 {
            for place in file.indices {
                for bytes in absurd where place + bytes.count <= file.count {
                    var damaged = file
                    damaged.replaceSubrange(place..<place + bytes.count, with: bytes)
                    guard let map = try? TensorMap(fileExtension, Fixture(bytes: damaged)) else { continue }
                    #expect(map.isSound(fileSize: damaged.count))
                }
            }
        }
    }

    @Test func `damaged strategies crash nothing`() throws {
        let original = try Fixtures.bytes("mindspore/ckpt_strategy_rank_0.ckpt")
        Fuzz.run("strategies") { random in
            var file = original
            for _ in 0..<Int.random(in: 1...3, using: &random) { Self.damage(&file, &random) }
            guard let strategy = try? ParallelStrategy(parsing: file) else { return false }
            Fuzz.expect(strategy.parameters.allSatisfy { $0.name.utf8.count <= file.count })
            return true
        }
    }

    /// The structure is mostly at the start, and of zip files at the end as well.
    private static func damage(_ file: inout [UInt8], _ random: inout SeededGenerator) {
        let ranges = [0..<file.count, 0..<min(file.count, 400), max(0, file.count - 400)..<file.count]
        Fuzz.damage(&file, in: ranges.randomElement(using: &random)!, &random)
    }
}
