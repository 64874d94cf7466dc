import Testing

@testable import TensorFormats

/// Damaged checkpoints of PyTorch: never a crash, never a read outside the file, and never a bad cut.
struct PyTorchFuzzTests {
    private static let originals = try! Fixtures.files(in: "pytorch").filter { !$0.hasSuffix(".json") }

    @Test func `damaged files crash nothing and are never cut badly`() throws {
        let seed = UInt64.random(in: 0..<1_000_000)
        var random = SeededGenerator(seed: seed)
        let originals = try Self.originals.map { try Fixtures.bytes("pytorch/\($0)") }.filter { !$0.isEmpty }
        let clock = ContinuousClock()
        let end = clock.now + .seconds(3)
        var (tried, accepted) = (0, 0)
        while clock.now < end {
            var file = originals.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 1...3, using: &random) { damage(&file, &random) }
            tried += 1
            guard let map = try? TensorMap(pyTorch: file) else { continue }
            accepted += 1
            #expect(map.isSound(fileSize: file.count), "seed \(seed)")
        }
        print("fuzz: seed \(seed), \(tried) files tried, \(accepted) accepted")
        #expect(accepted > 0, "seed \(seed)")
    }

    @Test func `a damaged pickle in a whole file crashes nothing and is never cut badly`() throws {
        let seed = UInt64.random(in: 0..<1_000_000)
        var random = SeededGenerator(seed: seed)
        // Without a checksum the damage gets as far as the unpickler.
        let originals = try Self.originals.filter { $0.contains("no-crc") }.map {
            try Fixtures.bytes("pytorch/\($0)")
        }
        #expect(originals.count >= 3)
        let clock = ContinuousClock()
        let end = clock.now + .seconds(3)
        var (tried, accepted) = (0, 0)
        while clock.now < end {
            var file = originals.randomElement(using: &random)!
            let archive = try ZipArchive(size: UInt64(file.count)) {
                Array(file[Int($0.lowerBound)..<Int($0.upperBound)])
            }
            let pickle = archive.records[0].data
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let place = Int(UInt64.random(in: pickle, using: &random))
                switch Int.random(in: 0..<3, using: &random) {
                case 0: file[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
                case 1: file[place] = UInt8.random(in: 0...255, using: &random)
                default: file[place] = file[Int(UInt64.random(in: pickle, using: &random))]
                }
            }
            tried += 1
            guard let map = try? TensorMap(pyTorch: file) else { continue }
            accepted += 1
            #expect(map.isSound(fileSize: file.count), "seed \(seed)")
        }
        print("fuzz: seed \(seed), \(tried) pickles tried, \(accepted) accepted")
        #expect(accepted > 0, "seed \(seed)")
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
        }
        print("fuzz: seed \(seed), \(whole) of 20000 pickles were whole")
        #expect(whole > 0, "seed \(seed)")
    }

    private func damage(_ file: inout [UInt8], _ random: inout SeededGenerator) {
        guard !file.isEmpty else { return }
        // The structure is mostly at the end; what is damaged in a tensor is nobody's matter here.
        let near = Bool.random(using: &random) ? max(0, file.count - 600) : 0
        let place = Int.random(in: near..<file.count, using: &random)
        switch Int.random(in: 0..<5, using: &random) {
        case 0: file[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: file[place] = [0, 1, 0x7F, 0xFF].randomElement(using: &random)!
        case 2: file.removeSubrange(place..<min(file.count, place + Int.random(in: 1...4, using: &random)))
        case 3:
            file.insert(contentsOf: file[place...].prefix(Int.random(in: 1...9, using: &random)), at: place)
        default: file.removeSubrange(place...)
        }
    }
}
