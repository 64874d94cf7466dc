import Foundation
import Testing

@testable import Cairn

/// Saves from memory, and reads into memory.
@Suite struct StateSaveTests {
    let bench: Workbench
    init() throws { bench = try Workbench() }

    /// Tensors of a file, in memory that stays where it is.
    final class Memory {
        var tensors: [(name: String, shape: [UInt64], bytes: UnsafeMutableRawBufferPointer)] = []

        func add(_ name: String, _ shape: [UInt64], seed: UInt64) {
            let count = Int(shape.reduce(1, *)) * 4
            let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, count), alignment: 16)
            var generator = SeededGenerator(seed: seed)
            for index in 0..<count / 4 {
                // Numbers that have something in common, as weights do.
                let value = Float.random(in: -1...1, using: &generator) * 0.02
                bytes.storeBytes(of: value, toByteOffset: 4 * index, as: Float.self)
            }
            tensors.append((name, shape, UnsafeMutableRawBufferPointer(rebasing: bytes[..<count])))
        }

        func copy() -> Memory {
            let copy = Memory()
            for tensor in tensors {
                let bytes = UnsafeMutableRawBufferPointer.allocate(
                    byteCount: max(1, tensor.bytes.count), alignment: 16)
                bytes.copyMemory(from: UnsafeRawBufferPointer(tensor.bytes))
                copy.tensors.append(
                    (
                        tensor.name, tensor.shape,
                        UnsafeMutableRawBufferPointer(rebasing: bytes[..<tensor.bytes.count])
                    ))
            }
            return copy
        }

        deinit { for tensor in tensors { tensor.bytes.deallocate() } }
    }

    static func memory() -> Memory {
        let memory = Memory()
        memory.add("embed.weight", [300, 400], seed: 1)
        memory.add("layers.0.weight", [64, 64], seed: 2)
        memory.add("norm.bias", [7], seed: 3)
        memory.add("empty", [0, 5], seed: 4)
        memory.add("scale", [], seed: 5)
        return memory
    }

    @discardableResult
    private func save(
        _ memory: Memory, step: UInt64, earlier: (memory: Memory, id: String?)? = nil,
        take: Bool = false, _ change: (inout StateSaveOptions) -> Void = { _ in }
    ) throws -> SaveResult {
        var options = StateSaveOptions(step: step)
        options.earlier = earlier?.id
        change(&options)
        let save = try bench.store.beginSave(options)
        for (index, tensor) in memory.tensors.enumerated() {
            try save.add(
                .init(
                    file: "model.safetensors", name: tensor.name, dtype: "F32", shape: tensor.shape,
                    bytes: UnsafeRawBufferPointer(tensor.bytes),
                    earlier: earlier.map { UnsafeRawPointer($0.memory.tensors[index].bytes.baseAddress!) }))
            if take, index == 1 { try save.take() }
        }
        try Array("{}".utf8).withUnsafeBytes { try save.add(file: "extra/state.json", $0) }
        return try save.commit()
    }

    private func expectSame(_ memory: Memory, _ reference: String) throws {
        let iteration = try bench.store.openIteration(reference)
        for tensor in memory.tensors {
            for file in ["model.safetensors", nil] {
                var target = [UInt8](repeating: 0xAA, count: tensor.bytes.count)
                try target.withUnsafeMutableBytes {
                    try iteration.read([StateRead(file: file, name: tensor.name, target: $0)])
                }
                #expect(target.elementsEqual(tensor.bytes), "\(tensor.name)")
            }
        }
    }

    @Test func `a step that no reference could name is refused`() throws {
        _ = try bench.store.beginSave(StateSaveOptions(step: Step.maximum))
        #expect(
            bench.code { _ = try bench.store.beginSave(StateSaveOptions(step: Step.maximum + 1)) } == .usage)
    }

    @Test func `tensors come back as they were, in files that safetensors reads`() throws {
        let memory = Self.memory()
        let result = try save(memory, step: 5)
        #expect(result.tensors == 5 && result.files == 2 && result.layout == "cairn")
        try expectSame(memory, "5")
        try bench.store.restore("5", to: bench.path("to"))
        // As a file it is the same checkpoint: saved again from there, nothing is new.
        let again = try bench.store.save(
            bench.path("to"), options: SaveOptions(run: "files", step: 5))
        #expect(again.newBytes == 0 && again.tensors == 5)
    }

    @Test func `what has not changed is known from memory, and what has leans on it`() throws {
        let memory = Self.memory()
        let first = try save(memory, step: 1)
        let changed = memory.copy()
        changed.tensors[1].bytes.storeBytes(of: 0.25, as: Float.self)
        let second = try save(changed, step: 2, earlier: (memory, first.id)) { $0.readsBases = false }
        #expect(second.newChunks == 1 && second.newBytes == 4096)
        // One number of 4,096: nearly nothing, as a delta.
        #expect(second.storedBytes < 40_000)
        try expectSame(changed, "2")
        try expectSame(memory, "1")
        #expect(try bench.store.verify().damaged.isEmpty)
    }

    @Test func `bytes of another iteration than the one that is compared with are not used`() throws {
        let memory = Self.memory()
        let first = try save(memory, step: 1)
        let other = Self.memory()
        other.tensors[0].bytes.storeBytes(of: 9, as: Float.self)
        try save(other, step: 2)
        // The second is what the third is compared with, and the first's bytes are at hand.
        try save(memory, step: 3, earlier: (memory, first.id))
        try expectSame(memory, "3")
        // And of an iteration that nobody knows.
        try save(other, step: 4, earlier: (other, "unknown"))
        try expectSame(other, "4")
        #expect(try bench.store.verify().damaged.isEmpty)
    }

    @Test func `what was taken may change before the commit`() throws {
        let (memory, copy) = (Self.memory(), Self.memory())
        let save = try bench.store.beginSave(StateSaveOptions(step: 1))
        for tensor in memory.tensors {
            try save.add(
                .init(
                    file: "model.safetensors", name: tensor.name, dtype: "F32", shape: tensor.shape,
                    bytes: UnsafeRawBufferPointer(tensor.bytes)))
            try save.take()
            for index in tensor.bytes.indices { tensor.bytes[index] = 0 }
        }
        _ = try save.commit()
        try expectSame(copy, "1")
    }

    @Test(arguments: [false, true])
    func `private memory is used where it lies, which comes to the same`(takes: Bool) throws {
        let memory = Self.memory()
        let first = try save(memory, step: 1, take: takes) { $0.isPrivate = true }
        let changed = memory.copy()
        for index in stride(from: 0, to: changed.tensors[0].bytes.count / 4, by: 3) {
            changed.tensors[0].bytes.storeBytes(of: 0.5, toByteOffset: 4 * index, as: Float.self)
        }
        let second = try save(changed, step: 2, earlier: (memory, first.id), take: takes) {
            $0.isPrivate = true
        }
        #expect(second.newBytes == changed.tensors[0].bytes.count)
        try expectSame(memory, "1")
        try expectSame(changed, "2")
        // Copied, it is the very same chunks.
        #expect(try save(changed, step: 3) { $0.rehash = true }.newBytes == 0)
        #expect(try bench.store.verify().damaged.isEmpty)
    }

    @Test(arguments: [0..<1, 3..<3, 5..<300, 299..<300])
    func `slices come as they are asked for`(rows: Range<UInt64>) throws {
        let memory = Self.memory()
        try save(memory, step: 1)
        let iteration = try bench.store.openIteration("1")
        let columns: Range<UInt64> = 10..<13
        var target = [Float](repeating: 0, count: rows.count * 3)
        try target.withUnsafeMutableBytes {
            try iteration.read([StateRead(name: "embed.weight", region: [rows, columns], target: $0)])
        }
        let all = memory.tensors[0].bytes.bindMemory(to: Float.self)
        let expected = rows.flatMap { row in columns.map { all[Int(row * 400 + $0)] } }
        #expect(target == expected)
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func `what is read at once goes to where it is asked for, and nowhere else`(seed: UInt64) throws {
        // Of several chunks and of none, larger than what is put together in one go, small ones by the thousand, and the same twice.
        let memory = Memory()
        for (index, size) in [1_200_000, 70_000, 0, 65_536, 131_072, 530_001, 9, 2_000_000].enumerated() {
            memory.add("large.\(index)", [UInt64(size)], seed: UInt64(index) + 10)
        }
        memory.add("again", [70_000], seed: 11)
        for index in 0..<1500 { memory.add("small.\(index)", [UInt64(index % 40)], seed: 100) }
        try save(memory, step: 1)

        var generator = SeededGenerator(seed: seed)
        var wanted: [(bytes: UnsafeRawBufferPointer, name: String, region: Range<UInt64>?)] = []
        for tensor in memory.tensors {
            wanted.append((UnsafeRawBufferPointer(tensor.bytes), tensor.name, nil))
            guard let size = tensor.shape.first, size > 60 else { continue }
            for _ in 0..<3 {
                let first = UInt64.random(in: 0..<size, using: &generator)
                let region = first..<UInt64.random(in: first...size, using: &generator)
                let range = Int(4 * region.lowerBound)..<Int(4 * region.upperBound)
                wanted.append((UnsafeRawBufferPointer(rebasing: tensor.bytes[range]), tensor.name, region))
            }
        }
        wanted.shuffle(using: &generator)
        // One goes on where the other ends, in a chunk of both.
        for region in [0..<50, 50..<90, 40..<50] as [Range<UInt64>] {
            let range = Int(4 * region.lowerBound)..<Int(4 * region.upperBound)
            wanted.append(
                (UnsafeRawBufferPointer(rebasing: memory.tensors[1].bytes[range]), "large.1", region))
        }
        // All of it in one stretch, between bytes that must stay.
        let border = 3
        var target = [UInt8](
            repeating: 0xA5, count: wanted.reduce(border) { $0 + $1.bytes.count + border })
        try target.withUnsafeMutableBytes { target in
            var start = border
            let reads = wanted.map { one in
                defer { start += one.bytes.count + border }
                return StateRead(
                    name: one.name, region: one.region.map { [$0] },
                    target: UnsafeMutableRawBufferPointer(
                        rebasing: target[start..<start + one.bytes.count]))
            }
            try bench.store.openIteration("1").read(reads)
        }
        var expected = [UInt8](repeating: 0xA5, count: border)
        for one in wanted { expected += [UInt8](one.bytes) + [UInt8](repeating: 0xA5, count: border) }
        #expect(target.elementsEqual(expected))
    }

    @Test func `a range of a file comes with its header and its tensors`() throws {
        let memory = Self.memory()
        try save(memory, step: 1)
        try bench.store.restore("1", to: bench.path("to"))
        let file = try [UInt8](Data(contentsOf: URL(fileURLWithPath: bench.path("to/model.safetensors"))))
        let iteration = try bench.store.openIteration("1")
        for range in [0..<file.count, 100..<5000, file.count - 3..<file.count] {
            var target = [UInt8](repeating: 0, count: range.count)
            let region = UInt64(range.lowerBound)..<UInt64(range.upperBound)
            try target.withUnsafeMutableBytes {
                try iteration.read([
                    StateRead(file: "model.safetensors", name: nil, region: [region], target: $0)
                ])
            }
            #expect(target.elementsEqual(file[range]))
        }
    }

    @Test func `what lies in the page cache is read from there, and checked`() throws {
        let memory = Self.memory()
        try save(memory, step: 1)
        let folder = bench.path("store/packs")
        let packs = try FileManager.default.contentsOfDirectory(atPath: folder)
        for pack in packs { _ = try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(pack)")) }
        try expectSame(memory, "1")
        for pack in packs {
            let url = URL(fileURLWithPath: "\(folder)/\(pack)")
            var bytes = try Data(contentsOf: url)
            bytes[100_000] ^= 1
            let file = try FileHandle(forWritingTo: url)
            try file.write(contentsOf: bytes)
            try file.close()
        }
        let error = #expect(throws: CairnError.self) { try expectSame(memory, "1") }
        #expect(error?.code == .damage)
    }

    @Test func `a tensor of a state is found without the others`() throws {
        let memory = Self.memory()
        let bytes = UnsafeRawBufferPointer(memory.tensors[1].bytes)
        func save(_ step: UInt64, state: String) throws -> OpenIteration {
            let save = try bench.store.beginSave(StateSaveOptions(step: step))
            for file in ["model", "optimizer"] {
                try save.add(
                    .init(
                        file: file + ".safetensors", name: "a.\(file)", dtype: "F32", shape: [64, 64],
                        bytes: bytes))
            }
            try Array(state.utf8).withUnsafeBytes { try save.add(file: "cairn_state.json", $0) }
            _ = try save.commit()
            return try bench.store.openIteration("\(step)")
        }
        let iteration = try save(1, state: #"{"parts":{}}"#)
        for (name, file, stored) in [
            ("a.model", "model", "a.model"), ("model.a.model", "model", "a.model"),
            ("optimizer.a.optimizer", "optimizer", "a.optimizer"),
        ] {
            let found = try #require(try iteration.tensorOfState(name))
            #expect(found.file == file + ".safetensors" && found.name == stored)
            #expect(found.dtype == "F32" && found.shape == [64, 64] && found.bytes == 16_384)
        }
        for name in ["a.optimizer", "a", "", "extra.a", "a.model.x"] {
            #expect(try iteration.tensorOfState(name) == nil)
        }
        // Where there may be pieces, that is not all of it; nor where there is no state.
        #expect(try save(2, state: #"{"parts":{},"shards":{}}"#).tensorOfState("a.model") == nil)
        try self.save(memory, step: 3)
        #expect(try bench.store.openIteration("3").tensorOfState("scale") == nil)
    }

    @Test(arguments: [("a", "b"), ("model", "a")])
    func `of a name that two parts could have, only the list of all says whose it is`(
        part: String, inner: String
    ) throws {
        let save = try bench.store.beginSave(StateSaveOptions(step: 1))
        try [1, 2].withUnsafeBytes { bytes in
            for (part, name) in [
                (part, inner + ".w"), (part, "own.w"), ("\(part).\(inner)", "w"),
                ("\(part).\(inner)", "own.w"),
            ] {
                try save.add(
                    .init(
                        file: part + ".safetensors", name: name, dtype: "I64", shape: [2],
                        bytes: bytes))
            }
            try Array(#"{"parts":{}}"#.utf8).withUnsafeBytes { try save.add(file: "cairn_state.json", $0) }
            _ = try save.commit()
        }
        let iteration = try bench.store.openIteration("1")
        #expect(try iteration.tensorOfState("\(part).\(inner).w") == nil)
        for part in [part, "\(part).\(inner)"] {
            let found = try iteration.tensorOfState("\(part).own.w")
            #expect(found?.file == part + ".safetensors" && found?.name == "own.w")
        }
    }

    @Test func `the same step again is the same, or refused`() throws {
        let memory = Self.memory()
        try save(memory, step: 1)
        #expect(try save(memory, step: 1).unchanged)
        memory.tensors[2].bytes.storeBytes(of: 1, as: Float.self)
        #expect(throws: CairnError.self) { try save(memory, step: 1) }
        try save(memory, step: 1) { $0.replace = true }
        try expectSame(memory, "1")
    }

    @Test func `a save that was given up leaves nothing`() throws {
        let memory = Self.memory()
        try save(memory, step: 1)
        let before = try bench.store.stats()
        memory.tensors[0].bytes.storeBytes(of: 1, as: Float.self)
        let session = try bench.store.beginSave(StateSaveOptions(step: 2))
        try session.add(
            .init(
                file: "model.safetensors", name: "a", dtype: "F32", shape: [300, 400],
                bytes: UnsafeRawBufferPointer(memory.tensors[0].bytes)))
        try session.take()
        session.abort()
        #expect(throws: CairnError.self) { try session.commit() }
        let after = try bench.store.stats()
        #expect(after.iterations == 1 && after.packs == before.packs)
    }

    @Test func `what can't be saved is refused by its name`() throws {
        let session = try bench.store.beginSave(StateSaveOptions(step: 2))
        let bytes = [UInt8](repeating: 0, count: 8)
        func add(_ file: String, _ name: String, _ dtype: String, _ shape: [UInt64]) throws {
            try bytes.withUnsafeBytes {
                try session.add(.init(file: file, name: name, dtype: dtype, shape: shape, bytes: $0))
            }
        }
        try add("model.safetensors", "a", "F32", [2])
        for (file, name, dtype, shape) in [
            ("model.safetensors", "a", "F32", [2]), ("model.safetensors", "b", "F32", [3]),
            ("model.safetensors", "b", "C128", [2]), ("model.bin", "b", "F32", [2]),
            ("../model.safetensors", "b", "F32", [2]), ("/model.safetensors", "b", "F32", [2]),
        ] as [(String, String, String, [UInt64])] {
            let error = #expect(throws: CairnError.self) { try add(file, name, dtype, shape) }
            #expect(error?.code == .usage)
        }
        #expect(throws: CairnError.self) {
            try bytes.withUnsafeBytes { try session.add(file: "model.safetensors", $0) }
        }
    }

    @Test func `a file that would lie below another is refused, whichever comes first`() throws {
        let session = try bench.store.beginSave(StateSaveOptions(step: 2))
        try withUnsafeBytes(of: 0 as UInt64) { bytes in
            try session.add(
                .init(file: "model.safetensors", name: "a", dtype: "F32", shape: [2], bytes: bytes))
            for path in ["a/b/c", "a/b/d"] { try session.add(file: path, bytes) }
            for path in ["model.safetensors/x", "a", "a/b", "a/b/c/d/e"] {
                let error = #expect(throws: CairnError.self) { try session.add(file: path, bytes) }
                #expect(error?.code == .usage && error?.message.contains(path) == true)
            }
            let error = #expect(throws: CairnError.self) {
                try session.add(
                    .init(
                        file: "a/b/c/m.safetensors", name: "a", dtype: "F32", shape: [2], bytes: bytes))
            }
            #expect(error?.code == .usage)
        }
        _ = try session.commit()
        let files = try bench.store.show("2").files.filter { $0.kind == .file }.map(\.path)
        #expect(files == ["a/b/c", "a/b/d", "model.safetensors"])
    }

    @Test func `what is not there, or not as large, is refused by its name`() throws {
        try save(Self.memory(), step: 1)
        let iteration = try bench.store.openIteration("1")
        var target = [UInt8](repeating: 0, count: 28)
        func read(_ file: String?, _ name: String?, _ region: [Range<UInt64>]?) throws {
            try target.withUnsafeMutableBytes {
                try iteration.read([StateRead(file: file, name: name, region: region, target: $0)])
            }
        }
        try read(nil, "norm.bias", nil)
        for (file, name, region, code) in [
            (nil, "bias", nil, .notFound), ("other.safetensors", "norm.bias", nil, .notFound),
            ("model.safetensors", "bias", nil, .notFound), (nil, "norm.bias", [0..<8], .usage),
            (nil, "norm.bias", [0..<6], .usage), (nil, "norm.bias", [0..<7, 0..<1], .usage),
            ("extra/state.json", nil, nil, .usage),
        ] as [(String?, String?, [Range<UInt64>]?, CairnError.Code)] {
            let error = #expect(throws: CairnError.self) { try read(file, name, region) }
            #expect(error?.code == code)
        }
    }
}
