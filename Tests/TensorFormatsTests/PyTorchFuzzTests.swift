import Testing

@testable import TensorFormats

/// Damaged checkpoints of PyTorch: never a crash, never a read outside the file, and never a bad cut.
struct PyTorchFuzzTests {
    private static let originals = try! Fixtures.files(in: "pytorch").filter { !$0.hasSuffix(".json") }

    @Test func `damaged files crash nothing and are never cut badly`() throws {
        let originals = try Self.originals.map { try Fixtures.bytes("pytorch/\($0)") }.filter { !$0.isEmpty }
        try fuzz("files") { random in
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
        try fuzz("pickles in files") { random in
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
        try fuzz("pickles") { random in
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

    /// Tries files until the time is over. Each must be done with at once, and some must be taken.
    /// - Parameter body: damages one and looks at it; returns whether it was taken.
    private func fuzz(_ what: String, _ body: (inout SeededGenerator) throws -> Bool) throws {
        let seed = UInt64.random(in: 0..<1_000_000)
        var random = SeededGenerator(seed: seed)
        let clock = ContinuousClock()
        let end = clock.now + Fuzz.duration
        var (tried, taken, longest) = (0, 0, Duration.zero)
        while clock.now < end {
            tried += 1
            let time = try clock.measure { taken += try body(&random) ? 1 : 0 }
            longest = max(longest, time)
        }
        print("fuzz: seed \(seed), \(tried) \(what) tried, \(taken) taken, the longest in \(longest)")
        #expect(taken > 0 && longest < .seconds(20), "seed \(seed)")
    }

    /// - Returns: whether there is a map of the file, and so a tree.
    private func probe(_ file: [UInt8]) throws -> Bool {
        guard let map = try? TensorMap(pyTorch: file) else {
            #expect(throws: PyTorchError.self) { try TorchTree(pyTorch: file) }
            return false
        }
        #expect(map.isSound(fileSize: file.count))
        let tree = try TorchTree(pyTorch: file)
        #expect(tree.tensorMap == map && tree.tensors.count >= map.tensors.count)
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
        let seed = UInt64.random(in: 0..<1_000_000)
        var random = SeededGenerator(seed: seed)
        let opcodes = (0...255 as ClosedRange<UInt8>).filter { Opcode(rawValue: $0) != nil && $0 != 0x2E }
        var whole = 0
        for _ in 0..<20_000 {
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
            guard let tree = try? Unpickler.read(bytes + [0x2E]) else { continue }
            whole += 1
            _ = try? TensorWalk(tree)
            _ = TreeProbe(try TorchTree(pickle: bytes + [0x2E]))
        }
        print("fuzz: seed \(seed), \(whole) of 20000 pickles were whole")
        #expect(whole > 0, "seed \(seed)")
    }
}
