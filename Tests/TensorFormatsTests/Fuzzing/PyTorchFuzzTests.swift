import Testing

@testable import TensorFormats

/// Damaged checkpoints of PyTorch: never a crash, never a read outside the file, and never a bad cut.
struct PyTorchFuzzTests {
    private static let originals = try! Fixtures.files(in: "pytorch").filter { !$0.hasSuffix(".json") }

    @Test func `damaged files crash nothing and are never cut badly`() throws {
        let originals = try Self.originals.map { try Fixtures.bytes("pytorch/\($0)") }.filter { !$0.isEmpty }
        Fuzz.run("files", share: 4) { random in
            var file = originals.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                // The structure is mostly at the end; what is damaged in a tensor is nobody's matter here.
                let near = Bool.random(using: &random) ? max(0, file.count - 600) : 0
                Fuzz.damage(&file, in: file.isEmpty ? nil : near..<file.count, &random)
            }
            return try probe(file)
        }
    }

    @Test func `a damaged pickle in a whole file crashes nothing and is never cut badly`() throws {
        // Without a checksum the damage gets as far as the unpickler.
        let originals = try Self.originals.filter { $0.contains("no-crc") }.map {
            try Fixtures.bytes("pytorch/\($0)")
        }
        #expect(originals.count >= 3)
        Fuzz.run("pickles in files", share: 4) { random in
            var file = originals.randomElement(using: &random)!
            let pickle = try Self.pickle(of: file)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let place = Int.random(in: pickle, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: file[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1: file[place] = UInt8.random(in: 0...255, using: &random)
                default: file[place] = file[Int.random(in: pickle, using: &random)]
                }
            }
            return try probe(file)
        }
    }

    @Test func `a damaged pickle by itself crashes nothing, whatever its tree is asked for`() throws {
        let files = try Fixtures.files(in: "trees").filter { !$0.hasSuffix(".json") }
        let originals = try files.map { file in
            let bytes = try Fixtures.bytes("trees/\(file)")
            return file.hasSuffix(".pkl") ? bytes : Array(bytes[try Self.pickle(of: bytes)])
        }
        var (distributed, refused) = (0, 0)
        Fuzz.run("pickles", share: 4) { random in
            var pickle = originals.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...3, using: &random) { Fuzz.damage(&pickle, &random) }
            guard let tree = try? TorchTree(pickle: pickle) else { return false }
            let probe = TreeProbe(tree)
            distributed += probe.distributed
            refused += probe.refused
            return true
        }
        print("fuzz: \(distributed) distributed tensors, \(refused) not understood")
        #expect(distributed > 0)
    }

    /// - Returns: whether there is a map of the file, and so a tree.
    private func probe(_ file: [UInt8]) throws -> Bool {
        guard let map = try? TensorMap(pyTorch: file) else {
            Fuzz.expect((try? TorchTree(pyTorch: file)) == nil)
            return false
        }
        Fuzz.expect(map.isSound(fileSize: file.count))
        let tree = try TorchTree(pyTorch: file)
        Fuzz.expect(tree.tensorMap == map && tree.tensors.count >= map.tensors.count)
        _ = TreeProbe(tree, fileSize: UInt64(file.count))
        return true
    }

    /// Where the pickle of a whole file lies.
    private static func pickle(of file: [UInt8]) throws -> Range<Int> {
        let archive = try ZipArchive(size: UInt64(file.count)) {
            Array(file[Int($0.lowerBound)..<Int($0.upperBound)])
        }
        let data = archive.records[0].data
        return Int(data.lowerBound)..<Int(data.upperBound)
    }

    @Test func `opcodes in any order crash nothing`() throws {
        let opcodes = (0...255 as ClosedRange<UInt8>).filter { Opcode(rawValue: $0) != nil && $0 != 0x2E }
        Fuzz.run("opcodes", share: 4) { random in
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 1...40, using: &random) {
                bytes.append(
                    Bool.random(using: &random)
                        ? opcodes.randomElement(using: &random)!
                        : "]})(Nae0us".utf8.randomElement(using: &random)!)
                if Int.random(in: 0..<4, using: &random) == 0 {
                    bytes.append(UInt8.random(in: 0...3, using: &random))
                }
            }
            guard let tree = try? Unpickler.read(bytes + [0x2E]) else { return false }
            _ = try? TensorWalk(tree)
            _ = TreeProbe(try TorchTree(pickle: bytes + [0x2E]))
            return true
        }
    }
}
