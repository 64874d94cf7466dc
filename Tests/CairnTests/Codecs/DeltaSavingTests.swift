import Foundation
import Platform
import Testing

@testable import Cairn
@testable import ChunkStore

/// What saves lean on, and what they don't.
@Suite struct DeltaSavingTests {
    let bench: Workbench
    var generator = SeededGenerator(seed: 21)

    init() throws { bench = try Workbench() }

    /// The same numbers, one in a hundred of which has changed a little.
    private mutating func changed(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        for place in stride(from: 0, to: bytes.count - 3, by: 4)
        where Int.random(in: 0..<100, using: &generator) == 0 {
            bytes[place] &+= 1
        }
        return bytes
    }

    @Test mutating func aSaveLeansOnTheOneBefore() throws {
        var bytes = Tensor.floats(8000, &generator)
        for step in 1...5 {
            let result = try bench.save(step, [Tensor("w", bytes)])
            #expect(step == 1 || result.storedBytes < result.logicalBytes)
            #expect(try bench.deltas("\(step)") == (step == 1 ? 0 : 8) && result.warnings.isEmpty)
            bytes = changed(bytes)
        }
        for step in 1...5 { #expect(try bench.restores("\(step)", as: bench.path("out/checkpoint-\(step)"))) }
        #expect(try bench.store.verify().ok)
    }

    /// The same bytes under another dtype, in another shape, cut off and grown, and then back.
    @Test mutating func tensorsMayChangeTheirShapeAndDType() throws {
        let bytes = Tensor.floats(3000, &generator)
        let kinds: [(String, [Int], [UInt8])] = [
            ("F32", [3000], bytes), ("BF16", [6000], bytes), ("F64", [1500], bytes), ("I8", [12_000], bytes),
            ("F32", [30, 100], bytes), ("F16", [5999], bytes.dropLast(2)),
            ("F8_E4M3", [11_999], bytes.dropLast()),
            ("F32", [0], []), ("I64", [1], [UInt8](bytes.prefix(8))),
            ("F32", [4000], bytes + bytes.prefix(4000)),
            ("F32", [], [UInt8](bytes.prefix(4))), ("BF16", [1], [1, 2]), ("F8_E4M3", [1], [255]),
            ("F32", [3000], bytes),
        ]
        for (index, (dtype, shape, data)) in kinds.enumerated() {
            let special: [Float] = [.nan, -.nan, .infinity, -.infinity, 0, -0.0, .leastNonzeroMagnitude, 1]
            let result = try bench.save(
                index + 1,
                [
                    Tensor("w", dtype, shape, changed(data)), Tensor("empty", "F32", [0, 7], []),
                    Tensor("special", Tensor.floats(special.shuffled(using: &generator))),
                ])
            #expect(result.warnings.isEmpty)
        }
        for step in 1...kinds.count {
            #expect(try bench.restores("\(step)", as: bench.path("out/checkpoint-\(step)")), "step \(step)")
        }
        #expect(try bench.store.verify().ok)
    }

    /// What says nothing about the rest of a tensor must not keep it from leaning on what was there: a ZeRO partition is one tensor.
    @Test mutating func whatComesBehindNoiseInOneTensorLeansOnItsBases() throws {
        let bench = try Workbench(chunkSize: 256 << 10)
        // More than a stretch of 16 chunks of each kind.
        let chunks = 24
        let layer = Tensor.floats(64 << 10, &generator)
        let size = 2 * chunks * layer.count
        var header = "{\"flat\":{\"dtype\":\"F32\",\"shape\":[\(size / 4)],\"data_offsets\":[0,\(size)]}}"
        while !header.utf8.count.isMultiple(of: 8) { header += " " }
        for step in 1...2 {
            var file = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
            file += Data(header.utf8) + Data(Random.bytes(chunks * layer.count))
            for number in 0..<chunks {
                var layer = layer
                layer[0] = UInt8(number)
                if step == 2 { for place in stride(from: 4, to: layer.count, by: 400) { layer[place] &+= 1 } }
                file += Data(layer)
            }
            let folder = try bench.write("out/checkpoint-\(step)", [:])
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            try file.write(to: URL(fileURLWithPath: folder + "/model.safetensors"))
            try Store.open(at: bench.path("store"), settings: Settings(jobs: 1)).save(folder)
        }
        // Those of the stretch in which it changes are lost.
        #expect(try bench.deltas("2") > chunks - 16)
        #expect(try bench.store.verify().ok)
    }

    @Test mutating func aSaveThatIsPinnedFromTheStartStandsOnItsOwn() throws {
        try bench.store.setPolicy(Policy(milestones: [4]), run: "main")
        var bytes = Tensor.floats(4000, &generator)
        for step in 1...5 {
            try bench.save(
                step, [Tensor("w", bytes)], run: "main", SaveOptions(pin: step == 3 ? "mine" : nil))
            #expect(try bench.deltas("\(step)") == ([1, 3, 4].contains(step) ? 0 : 4), "step \(step)")
            bytes = changed(bytes)
        }
        // The one after leans on it.
        let base = try #require(try bench.places("5").first?.location.base)
        #expect(try bench.places("4").first?.id == base)
    }

    /// Differences of 16 random bits in 32: a bit more than half.
    @Test(arguments: [(nil, true), (1, false), (2, false), (10, true)] as [(Int?, Bool)])
    mutating func aPolicyThatKeepsTheLastSaysWhatADeltaMustSave(keepLast: Int?, isUsed: Bool) throws {
        if let keepLast { try bench.store.setPolicy(Policy(keepLast: keepLast), run: "main") }
        var bytes = (0..<16_000).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        try bench.save(1, [Tensor("w", "I32", nil, bytes)], run: "main")
        for place in stride(from: 0, to: bytes.count, by: 4) {
            bytes[place] = UInt8.random(in: .min ... .max, using: &generator)
            bytes[place + 1] = UInt8.random(in: .min ... .max, using: &generator)
        }
        try bench.save(2, [Tensor("w", "I32", nil, bytes)], run: "main")
        #expect(try bench.deltas("2") == (isUsed ? 4 : 0))
        #expect(try bench.restores("2", as: bench.path("main/checkpoint-2")))
    }

    @Test mutating func anotherRunMayBeTheBaseHoweverItIsSharded() throws {
        let tensors = ["a", "b", "c"].map { Tensor($0, Tensor.floats(2000, &generator)) }
        try bench.save(1, tensors, run: "base")
        let tuned = tensors.map { Tensor($0.name, changed($0.bytes)) }
        let folder = try bench.write(
            "tuned/checkpoint-7",
            [
                "x-1.safetensors": Tensor.file([tuned[2]]),
                "x-2.safetensors": Tensor.file([tuned[1], tuned[0]]),
            ])
        #expect(try bench.store.save(folder, options: SaveOptions(run: "plain", step: 1)).warnings.isEmpty)
        #expect(try bench.deltas("plain@1") == 0)
        let deleted = try bench.store.deleteRun("plain")
        #expect(deleted.deleted.count == 1)
        _ = try bench.store.collect(dryRun: false)
        let result = try bench.store.save(folder, options: SaveOptions(run: "tuned", base: "base@1"))
        #expect(try bench.deltas("tuned@7") == 6 && result.storedBytes < result.logicalBytes)
        // The run goes on by itself, leaning on its own.
        try bench.save(8, tuned.map { Tensor($0.name, changed($0.bytes)) }, run: "tuned")
        #expect(try bench.deltas("tuned@8") == 6)
        _ = try bench.store.deleteRun("base")
        _ = try bench.store.collect(dryRun: false)
        #expect(try bench.restores("tuned@7", as: folder))
        #expect(try bench.restores("tuned@8", as: bench.path("tuned/checkpoint-8")))
        #expect(try bench.store.verify().ok)
        #expect(
            bench.code { try bench.store.save(folder, options: SaveOptions(base: "nobody@1")) } == .notFound)
    }

    /// A name that stands in several files means none of them without the file's path.
    @Test mutating func aNameThatStandsTwiceIsFoundByItsFile() throws {
        let one = Tensor.floats(1000, &generator)
        let other = Tensor.floats(1000, &generator)
        try bench.write("r/checkpoint-1", ["global_step1/a.safetensors": Tensor.file([Tensor("w", one)])])
        let first = try bench.write(
            "r/checkpoint-1", ["global_step1/b.safetensors": Tensor.file([Tensor("w", other)])])
        try bench.store.save(first)
        try bench.write(
            "r/checkpoint-2", ["global_step2/a.safetensors": Tensor.file([Tensor("w", changed(one))])])
        let second = try bench.write(
            "r/checkpoint-2", ["global_step2/b.safetensors": Tensor.file([Tensor("w", changed(other))])])
        try bench.store.save(second)
        #expect(try bench.deltas("2") == 2)
        let third = try bench.write(
            "r/checkpoint-3", ["moved.safetensors": Tensor.file([Tensor("w", changed(one))])])
        try bench.store.save(third)
        #expect(try bench.deltas("3") == 0)
        for (step, folder) in [first, second, third].enumerated() {
            #expect(try bench.restores("\(step + 1)", as: folder))
        }
    }

    /// Others delete and collect what they may in the midst of a save.
    @Test(arguments: [false, true])
    mutating func whatASaveLeansOnStaysUntilItsCommit(replaces: Bool) throws {
        let bytes = Tensor.floats(4000, &generator)
        for step in 1...2 { try bench.save(step, [Tensor("w", bytes)], run: "main") }
        try bench.save(9, [Tensor("v", [1, 2, 3, 4])], run: "main")
        let folder = try bench.write(
            "main/checkpoint-3",
            ["model.safetensors": Tensor.file([Tensor("w", changed(bytes))]), "z.bin": [1, 2, 3]])
        let path = bench.store.path
        let other = bench.path("main/checkpoint-9")
        let progress = Progress(isInterrupted: {
            do {
                let store = try Store.open(at: path)
                #expect(try store.delete(["2"]).deleted.isEmpty)
                if replaces {
                    let options = SaveOptions(run: "main", step: 2, replace: true)
                    #expect(throws: CairnError.self) { try store.save(other, options: options) }
                }
                _ = try store.collect(dryRun: false)
            } catch {
                Issue.record(error)
            }
            return false
        })
        let saver = try Store.open(at: path, settings: Settings(jobs: 1))
        try saver.save(folder, options: SaveOptions(run: "main"), progress: progress)
        #expect(try bench.deltas("3") == 4)
        _ = try bench.store.delete(["1", "2"])
        _ = try bench.store.collect(dryRun: false)
        #expect(try bench.restores("3", as: folder))
        #expect(try bench.store.verify().ok)
    }

    /// Bytes of all records that these iterations' own bytes need.
    private func storedBytes(_ bench: Workbench, _ references: [String]) throws -> Int {
        let ids = try references.flatMap { try bench.places($0).map(\.id) }
        let places = Set(try bench.store.chunks.chains(ids).flatMap { try $0.get() })
        return places.reduce(0) { $0 + $1.location.range.count }
    }

    /// Dense numbers that all change and sparse ones, forty times: never more than what planes alone take.
    @Test mutating func keepingTheLastFiveNeverTakesMoreThanPlanesAlone() throws {
        let planes = try Workbench()
        try bench.store.setPolicy(Policy(keepLast: 5), run: "main")
        var dense = (0..<3000).map { _ in Float.random(in: -0.05...0.05, using: &generator) }
        var sparse = Tensor.floats(2048, &generator)
        var usesDeltas = false
        for step in 1...40 {
            let tensors = [Tensor("dense", Tensor.floats(dense)), Tensor("sparse", sparse)]
            try bench.save(step, tensors, run: "main")
            // A run of its own has nothing to lean on.
            try planes.save(step, tensors, run: "run-\(step)")
            if step.isMultiple(of: 10) { _ = try bench.store.collect(dryRun: false) }
            let last = max(1, step - 4)...step
            let stored = try storedBytes(bench, last.map { "main@\($0)" })
            let limit = try storedBytes(planes, last.map { "run-\($0)@\($0)" })
            #expect(Double(stored) <= 1.03 * Double(limit), "step \(step): \(stored) of \(limit)")
            usesDeltas = try usesDeltas || bench.deltas("main@\(step)") > 0
            for index in dense.indices {
                dense[index] *= 1 + Float.random(in: -1e-3...1e-3, using: &generator)
            }
            sparse = changed(sparse)
        }
        #expect(usesDeltas)
        #expect(try bench.store.iterations().map(\.step) == [36, 37, 38, 39, 40])
        #expect(try bench.store.verify().ok)
        for step in 36...40 {
            #expect(try bench.restores("main@\(step)", as: bench.path("main/checkpoint-\(step)")))
        }
    }
}
