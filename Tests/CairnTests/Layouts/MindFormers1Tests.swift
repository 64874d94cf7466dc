import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// MindSpore Transformers 1.0: iterations that are spread over the folders of their ranks.
@Suite struct MindFormers1Tests {
    let bench: Workbench
    let layout = MindFormers1()

    init() throws { bench = try Workbench() }

    /// Writes a rank's file with a step in it, and its `meta.json` where wanted.
    private func rank(
        _ rank: Int, epoch: Int = 1, step: Int, global: Int32? = nil, run: Int? = nil,
        prefix: String = "qwen3",
        meta: Bool = true, in folder: String = "out/checkpoint"
    ) throws {
        let name = MindFormers1FileName(prefix: prefix, rank: rank, run: run, epoch: epoch, step: step)
        let tensors = [
            Stored.numbers("w", [2], [Int32(step), 5]), Stored.numbers("adam_m.w", [2], [6, 7]),
            Stored.numbers("global_step", [1], [global ?? Int32(step)]),
            Stored.numbers("epoch_num", [], [Int32(epoch)]),
        ]
        try bench.write("\(folder)/rank_\(rank)", [name.text: Stored.safetensors(tensors)])
        guard meta else { return }
        try bench.write(
            "\(folder)/rank_\(rank)",
            ["meta.json": MindFormers1Meta(epoch: epoch, step: step, file: name.text).serialized()])
    }

    private func found(_ folder: String = "out") throws -> [Found] {
        try OutputFolder(Path(bench.path(folder))).iterations()
    }

    private func only(_ folder: String = "out") throws -> Found {
        let all = try found(folder)
        try #require(all.count == 1)
        return all[0]
    }

    // MARK: What there is

    @Test func `an iteration is what all ranks have of one step, found from either folder`() throws {
        for step in [2, 3] { for number in 0..<2 { try rank(number, step: step) } }
        try bench.write(
            "out/strategy", ["ckpt_strategy_rank_0.ckpt": [8, 0], "ckpt_strategy_rank_1.ckpt": [8, 0]])
        try bench.write("out/checkpoint_network/rank_0", ["qwen3-network_rank_0-1_2.safetensors": [1]])
        let above = try found()
        #expect(above.map(\.candidate.name) == ["qwen3_rank_0-1_2", "qwen3_rank_0-1_3"])
        #expect(above.allSatisfy { $0.layout?.name == "mindformers1" && $0.inspection.isComplete })
        #expect(above.map(\.step) == [2, 3])
        let first = above[0]
        #expect(
            first.candidate.files == [
                "checkpoint/rank_0/qwen3_rank_0-1_2.safetensors",
                "checkpoint/rank_1/qwen3_rank_1-1_2.safetensors",
                "strategy/ckpt_strategy_rank_0.ckpt", "strategy/ckpt_strategy_rank_1.ckpt",
            ])
        #expect(
            first.candidate.shared == [
                "strategy/ckpt_strategy_rank_0.ckpt", "strategy/ckpt_strategy_rank_1.ckpt",
            ])
        #expect(
            first.inspection.worldSize == 2 && first.inspection.epoch == 1 && first.inspection.missing == [])
        let inside = try found("out/checkpoint")
        #expect(inside.map(\.candidate.name) == above.map(\.candidate.name))
        #expect(inside[0].candidate.files?.first == "rank_0/qwen3_rank_0-1_2.safetensors")
        #expect(inside.allSatisfy { $0.inspection.isComplete })
    }

    @Test func `the step is the global one from inside, and the name's where there is none`() throws {
        try rank(0, epoch: 3, step: 2, global: 8)
        #expect(try only().step == 8)
        #expect(try only().inspection.stepFile == "checkpoint/rank_0/qwen3_rank_0-3_2.safetensors")
        try bench.write(
            "plain/checkpoint/rank_0",
            ["a_rank_0-1_7.safetensors": Stored.safetensors([.numbers("w", [1], [1])])])
        let plain = try only("plain")
        #expect(
            plain.step == 7 && plain.inspection.step == nil
                && plain.inspection.missing == ["the optimizer's state"])
    }

    @Test func `MindSpore's own format is read as well, with steps of 64 bits`() throws {
        let view = try LayoutSamples.library("mindspore").output("older-ckpt")
        let found = try #require(try view.iterations().first { $0.inspection.isComplete })
        #expect(found.step == 4 && found.inspection.facts.contains { $0 == ("files", "ckpt") })
    }

    @Test func `a later training in the same folder has names of its own`() throws {
        try rank(0, step: 5)
        try rank(0, step: 5, global: 15, run: 1)
        #expect(try found().map(\.candidate.name) == ["qwen3_rank_0-1_5", "qwen3_rank_0_1-1_5"])
        #expect(try found().map(\.step) == [5, 15])
        #expect(try found().allSatisfy { $0.inspection.isComplete })
    }

    // MARK: What is not complete

    @Test func `a rank without its file makes an iteration incomplete`() throws {
        try rank(0, step: 2)
        try rank(0, step: 3)
        try rank(1, step: 2)
        let all = try found()
        #expect(all.map(\.inspection.isComplete) == [true, false])
        #expect(all[1].inspection.faults[0] == "checkpoint/rank_1/qwen3_rank_1-1_3.safetensors is missing")
        // A folder without anything in it is a rank's too.
        try FileManager.default.createDirectory(
            atPath: bench.path("out/checkpoint/rank_2"), withIntermediateDirectories: true)
        #expect(try !found()[0].inspection.isComplete)
        try rank(4, step: 2)
        #expect(try found()[0].inspection.faults.contains("checkpoint/rank_3 is missing"))
    }

    @Test func `what is later than the least of the ranks' meta json may not be finished`() throws {
        for number in 0..<2 { try rank(number, step: 3, meta: number == 0) }
        try bench.write(
            "out/checkpoint/rank_1",
            [
                "meta.json": MindFormers1Meta(epoch: 1, step: 2, file: "qwen3_rank_1-1_2.safetensors")
                    .serialized()
            ])
        let faults = try only().inspection.faults
        #expect(
            faults == [
                "checkpoint/rank_1/meta.json names qwen3_rank_1-1_2.safetensors as the last one, so this one was not finished"
            ])
        // One of another prefix says nothing of this one.
        try bench.write(
            "out/checkpoint/rank_1",
            [
                "meta.json": MindFormers1Meta(epoch: 1, step: 2, file: "other_rank_1-1_2.safetensors")
                    .serialized()
            ])
        #expect(try only().inspection.isComplete)
    }

    @Test func `without any meta json the files alone count, and a missing or broken one is named`() throws {
        for number in 0..<2 { try rank(number, step: 3, meta: false) }
        #expect(try only().inspection.isComplete)
        try rank(0, step: 3)
        #expect(try only().inspection.faults == ["checkpoint/rank_1/meta.json is missing"])
        for text in [
            "", "{\"last_epoch\": 1", "{\"last_epoch\": -1}", "[]",
            "{\"last_epoch\": 1, \"last_step\": 1e99}",
        ] {
            try bench.write("out/checkpoint/rank_1", ["meta.json": Array(text.utf8)])
            #expect(
                try only().inspection.faults == [
                    "checkpoint/rank_1/meta.json does not say which file is the last one"
                ])
        }
    }

    @Test func `a file that is cut off or of another step is named`() throws {
        for number in 0..<2 { try rank(number, step: 3) }
        let path = bench.path("out/checkpoint/rank_1/qwen3_rank_1-1_3.safetensors")
        let whole = try Data(contentsOf: URL(fileURLWithPath: path))
        for length in [0, 7, whole.count / 2, whole.count - 1] {
            try whole.prefix(length).write(to: URL(fileURLWithPath: path))
            #expect(
                try only().inspection.faults.allSatisfy {
                    $0.contains("rank_1/qwen3_rank_1-1_3.safetensors is not whole")
                })
            #expect(try !only().inspection.isComplete)
        }
        try rank(1, step: 3, global: 4)
        #expect(
            try only().inspection.faults == [
                "checkpoint/rank_1/qwen3_rank_1-1_3.safetensors is of step 4, and that of another rank of step 3"
            ])
    }

    @Test func `what is not healthy stays so in the store`() throws {
        for step in [2, 3] { try rank(0, step: step) }
        try bench.write(
            "out",
            [
                "health_ckpts.json": Array(
                    """
                    [{"is_health": 1, "ckpt_name": "qwen3_rank_0-1_2.safetensors"},
                     {"is_health": 0, "ckpt_name": "qwen3_rank_0-1_3.safetensors"}, 5, {"is_health": NaN}]
                    """.utf8)
            ])
        let all = try found()
        #expect(all.map(\.inspection.unhealthy) == ["health_ckpts.json says so", nil])
        #expect(all.allSatisfy { $0.inspection.isComplete })
        try bench.store.saveAll(bench.path("out"), options: SaveAllOptions(run: "r"))
        let info = try #require(try bench.store.iteration(run: "r", step: 2))
        #expect(try layout.inspect(bench.store.view(of: info)).unhealthy == "health_ckpts.json says so")
        let resumed = try bench.store.resume(bench.path("fresh"), options: ResumeOptions(run: "r"))
        #expect(resumed.step == 3)
    }

    // MARK: Saving and going on

    @Test func `a new step does not make an older one look changed`() throws {
        for number in 0..<2 { try rank(number, step: 2) }
        try bench.write("out/strategy", ["ckpt_strategy_rank_0.ckpt": [8, 0]])
        try bench.store.saveAll(bench.path("out"), options: SaveAllOptions(run: "r"))
        for number in 0..<2 { try rank(number, step: 3) }
        let results = try bench.store.saveAll(bench.path("out"), options: SaveAllOptions(run: "r"))
        #expect(results.count == 2)
        if case .known = results[0].outcome {} else { Issue.record("\(results[0])") }
        if case .saved = results[1].outcome {} else { Issue.record("\(results[1])") }
        // What others need stays where one is moved.
        try bench.store.saveAll(bench.path("out"), options: SaveAllOptions(run: "r", move: true))
        #expect(try found().map(\.step) == [3])
        #expect(FileManager.default.fileExists(atPath: bench.path("out/strategy/ckpt_strategy_rank_0.ckpt")))
        #expect(FileManager.default.fileExists(atPath: bench.path("out/checkpoint/rank_1/meta.json")))
    }

    @Test func `a resumed training gets every rank's file and meta json`() throws {
        for number in 0..<2 { try rank(number, epoch: 2, step: 3, global: 13) }
        try bench.write("out/strategy", ["ckpt_strategy_rank_0.ckpt": [8, 0]])
        try bench.store.saveAll(bench.path("out"), options: SaveAllOptions(run: "r"))
        let result = try bench.store.resume(bench.path("fresh"), options: ResumeOptions(run: "r"))
        #expect(result.step == 13 && result.path == bench.path("fresh/checkpoint"))
        for number in 0..<2 {
            let meta = try String(
                contentsOfFile: bench.path("fresh/checkpoint/rank_\(number)/meta.json"), encoding: .utf8)
            #expect(
                meta
                    == "{\"last_epoch\": 2, \"last_step\": 3, \"last_ckpt_file\": \"qwen3_rank_\(number)-2_3.safetensors\"}"
            )
            let attributes = try FileManager.default.attributesOfItem(
                atPath: bench.path("fresh/checkpoint/rank_\(number)/meta.json"))
            #expect(attributes[.posixPermissions] as? Int == 0o640)
        }
        let again = try only("fresh")
        #expect(again.inspection.isComplete && again.step == 13)
        #expect(
            FileManager.default.fileExists(atPath: bench.path("fresh/strategy/ckpt_strategy_rank_0.ckpt")))
    }

    @Test func `the least of what the ranks say is the pointer`() throws {
        for step in [2, 3] { for number in 0..<2 { try rank(number, step: step, meta: step == 2 + number) } }
        let output = try OutputFolder(Path(bench.path("out")))
        let set = try #require(try layout.pointed(in: output))
        #expect(set.says == "qwen3_rank_0-1_2" && set.path == "checkpoint/rank_0/meta.json")
        let all = try found()
        #expect(layout.pointers(to: all[0].candidate).contains(where: set.agrees))
        #expect(!layout.pointers(to: all[1].candidate).contains(where: set.agrees))
        for number in 0..<2 { try bench.write("out/checkpoint/rank_\(number)", ["meta.json": []]) }
        #expect(try layout.pointed(in: output) == nil)
    }

    @Test func `files belong to what their names and tensors say`() {
        let file = "checkpoint/rank_3/qwen3_rank_3-1_2.ckpt"
        #expect(layout.rank(of: file) == 3 && layout.rank(of: "strategy/ckpt_strategy_rank_0.ckpt") == nil)
        #expect(layout.part(of: file, tensor: nil) == .model)
        #expect(layout.part(of: file, tensor: "layers.0.weight") == .model)
        #expect(layout.part(of: file, tensor: "adam_m.layers.0.weight") == .optimizer)
        #expect(layout.part(of: file, tensor: "global_step") == .trainerState)
        #expect(layout.part(of: "checkpoint/rank_3/meta.json", tensor: nil) == .marker)
        #expect(layout.part(of: "strategy/ckpt_strategy_rank_0.ckpt", tensor: nil) == .model)
    }

    // MARK: Putting tensors together

    /// What MindSpore itself cuts, put together again. (tools/python/mindspore_slices.py)
    @Test func `slices are put where MindSpore takes them from, sharded optimizers too`() throws {
        let text = try Data(
            contentsOf: URL(fileURLWithPath: GoldenStore.project + "/Tests/Fixtures/mindspore-slices.json"))
        let cases = try #require(try JSON(parsing: [UInt8](text)).array)
        #expect(cases.count == 24)
        for (number, one) in cases.enumerated() {
            let shape = one["shape"]!.array!.map { $0.uint64! }
            let held = one["held"]!.array!.map { $0.uint64! }
            for (rank, values) in one["ranks"]!.array!.enumerated() {
                let name = MindFormers1FileName(prefix: "a", rank: rank, epoch: 1, step: 1).text
                let tensors = [
                    Stored.numbers("w", held, values.array!.map { Int32($0.int!) }),
                    Stored.numbers("adam_v.w", held, values.array!.map { Int32($0.int!) }),
                ]
                try bench.write("c\(number)/checkpoint/rank_\(rank)", [name: Stored.safetensors(tensors)])
                let strategy = Strategy(
                    name: rank % 2 == 0 ? "w" : "0-w", devices: one["devices"]!.array!.map { $0.int! },
                    map: one["map"]!.array!.map { $0.array!.map { $0.int! } }, split: held.map { Int($0) },
                    step: one["step"]!.int!, size: one["size"]!.int!)
                try bench.write("c\(number)/strategy", ["ckpt_strategy_rank_\(rank).ckpt": strategy.bytes])
            }
            let output = try OutputFolder(Path(bench.path("c\(number)")))
            let view = try output.view(of: try #require(try output.candidates().first))
            let assembly = try #require(try layout.assembly(of: view))
            let count = shape.reduce(1, *)
            let whole = Stored.numbers("w", shape, (0..<Int32(count)).map { $0 })
            for (tensors, name) in [(assembly.tensors, "w"), (assembly.optimizer, "adam_v.w")] {
                #expect(tensors.map(\.name) == [name] && tensors.first?.shape == shape, "\(number)")
                #expect(try view.assembled(tensors)[name]?.sha256 == whole.sha256, "\(number)")
            }
        }
    }

    @Test func `a tensor in several messages is put together of runs`() throws {
        // 24 bytes in two messages, on each of two ranks that hold rows.
        for number in 0..<2 {
            let name = MindFormers1FileName(prefix: "a", rank: number, epoch: 1, step: 1, format: "ckpt").text
            let values = (0..<6).map { Int32($0 + 6 * number) }
            let pieces = [Array(values[..<4]), Array(values[4...])]
            try bench.write("out/checkpoint/rank_\(number)", [name: Stored.mindSpore("w", [2, 3], pieces)])
            let strategy = Strategy(
                name: "w", devices: [2], map: [[0], [-1]], split: [2, 3], step: 0, size: 0)
            try bench.write("out/strategy", ["ckpt_strategy_rank_\(number).ckpt": strategy.bytes])
        }
        let output = try OutputFolder(Path(bench.path("out")))
        let view = try output.view(of: try #require(try output.candidates().first))
        let assembly = try #require(try layout.assembly(of: view))
        #expect(assembly.tensors.map(\.shape) == [[4, 3]])
        #expect(
            try view.assembled(assembly.tensors)["w"]?.sha256
                == Stored.numbers("w", [4, 3], (0..<12).map { $0 }).sha256)
    }

    /// ms.transform_checkpoints, MindSpore 2.9.0, gives these tensors of the sample.
    @Test func `what a strategy says nothing of is whole on each rank`() throws {
        let output = try LayoutSamples.checkpoints.output("mindformers1/output")
        let view = try output.view(of: try #require(try output.candidates().last))
        let assembly = try #require(try layout.assembly(of: view))
        let cut = ["emb.embedding_table", "fc1.weight", "fc2.weight"]
        let tensors = try view.assembled(assembly.tensors.filter { cut.contains($0.name) })
        #expect(
            tensors.mapValues(\.shape) == [
                "emb.embedding_table": [96, 32], "fc1.weight": [128, 32], "fc2.weight": [48, 128],
            ])
        #expect(
            tensors.mapValues { $0.sha256.prefix(16) } == [
                "emb.embedding_table": "d809c89c56146b8f", "fc1.weight": "78228605bb02cd09",
                "fc2.weight": "1145fcebed63de87",
            ])
        // Of these the ranks have one each.
        #expect(assembly.tensors.filter { !cut.contains($0.name) }.map(\.pieces.count) == [2, 2])
        #expect(assembly.optimizer.allSatisfy { $0.pieces.count == 2 } && assembly.optimizer.count == 10)
    }

    @Test
    func `without strategies slices of several ranks are not told from copies, and absurd ones are told`()
        throws
    {
        for number in 0..<2 { try rank(number, step: 1) }
        let output = try OutputFolder(Path(bench.path("out")))
        func assembly() throws -> Assembly? {
            try layout.assembly(of: output.view(of: try #require(try output.candidates().first)))
        }
        #expect(try assembly() == nil)
        for (devices, map) in [
            ([2], [[0], [0]]), ([2], [[7]]), ([0], [[0]]), ([1 << 30, 1 << 30], [[0]]), ([2, 2], [[0, 0]]),
        ] {
            let strategy = Strategy(name: "w", devices: devices, map: map, split: [2], step: 0, size: 0)
            for number in 0..<2 {
                try bench.write("out/strategy", ["ckpt_strategy_rank_\(number).ckpt": strategy.bytes])
            }
            #expect(
                try assembly()?.tensors.first?.problem?.text.hasPrefix(
                    "its strategy is none for what checkpoint/rank_") == true)
        }
    }
}

/// A strategy file with one parameter.
private struct Strategy {
    var name: String
    var devices: [Int]
    var map: [[Int]]
    var split: [Int]
    var step: Int
    var size: Int

    var bytes: [UInt8] {
        let isPlain = map.allSatisfy { $0.count == 1 }
        let maps = isPlain ? [map.flatMap { $0 }] : map
        let layouts =
            message(1, list(devices)) + maps.flatMap { message(2, list($0)) } + message(3, list(split))
            + message(4, list(split.map { _ in 0 })) + number(5, 0) + number(6, step) + number(7, size)
        // For the optimizer's state the same.
        let state = name.hasPrefix("0-") ? "0-adam_v." + name.dropFirst(2) : "adam_v." + name
        return number(1, 0)
            + [name, state].flatMap { message(3, message(1, Array($0.utf8)) + message(2, layouts)) }
    }

    private func list(_ values: [Int]) -> [UInt8] { values.flatMap { number(1, $0) } }
    private func number(_ field: UInt8, _ value: Int) -> [UInt8] {
        [field << 3] + Self.varint(UInt64(bitPattern: Int64(value)))
    }
    private func message(_ field: UInt8, _ bytes: [UInt8]) -> [UInt8] {
        [field << 3 | 2] + Self.varint(UInt64(bytes.count)) + bytes
    }

    static func varint(_ value: UInt64) -> [UInt8] {
        var (bytes, value): ([UInt8], UInt64) = ([], value)
        while value >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: value) | 0x80)
            value >>= 7
        }
        return bytes + [UInt8(value)]
    }
}

extension Stored {
    /// A file of MindSpore with one tensor of int32 in several messages.
    fileprivate static func mindSpore(_ name: String, _ shape: [UInt64], _ pieces: [[Int32]]) -> [UInt8] {
        func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] {
            [number << 3 | 2] + Strategy.varint(UInt64(bytes.count)) + bytes
        }
        return pieces.flatMap { piece in
            let dimensions: [UInt8] = shape.flatMap { [8 as UInt8] + Strategy.varint($0) }
            let content = piece.withUnsafeBytes { [UInt8]($0) }
            let tensor = dimensions + field(2, Array("Int32".utf8)) + field(3, content)
            return field(1, field(1, Array(name.utf8)) + field(2, tensor))
        }
    }
}
