import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// Checkpoints of states, as layouts see them: the names of the whole tensors, whatever is cut over ranks.
@Suite struct StateLayoutTests {
    let bench: Workbench
    init() throws { bench = try Workbench() }

    /// A safetensors file of F32 tensors.
    private static func file(_ tensors: [(name: String, shape: [UInt64], numbers: [Float])]) -> [UInt8] {
        let (header, order) = SafetensorsHeader.canonicalHeader(
            tensors: tensors.map { ($0.name, .f32, $0.shape, UInt64($0.numbers.count * 4)) })
        return header + order.flatMap { tensors[$0].numbers.flatMap { withUnsafeBytes(of: $0, Array.init) } }
    }

    private static func state(_ more: String) -> [UInt8] {
        Array("{\"format\":\"cairn-state\",\"version\":1\(more)}".utf8)
    }

    private static func rank(_ rank: Int, _ shards: String) -> [UInt8] {
        state(
            ",\"rank\":\(rank),\"worldSize\":2,\"parts\":{\"model\":{\"w\":{\"$array\":\"w\"}}},\"shards\":{\(shards)}"
        )
    }

    /// `w`, 4 x 3, by rows; `exp.w`, of another part, by columns; `same` on both.
    private func writeRanks(_ change: (inout [String: [UInt8]]) -> Void = { _ in }) throws -> String {
        var files: [String: [UInt8]] = ["config.json": Array("{}".utf8)]
        for rank in 0..<2 {
            let folder = "rank_0000\(rank)/"
            let rows = (0..<6).map { Float(rank * 6 + $0) }
            files[folder + "model.safetensors"] = Self.file([("w", [2, 3], rows), ("same", [2], [5, 6])])
            files[folder + "optimizer.safetensors"] = Self.file([
                ("exp.w", [2, 1], rows.prefix(2).map { $0 })
            ])
            files[folder + "cairn_state.json"] = Self.rank(
                rank,
                """
                "w":{"file":"model.safetensors","tensor":"w","shape":[4,3],"offset":[\(rank * 2),0]},
                "exp.w":[{"file":"optimizer.safetensors","tensor":"exp.w","shape":[2,2],"offset":[0,\(rank)]}]
                """)
        }
        change(&files)
        return try bench.write("state", files)
    }

    private func read(_ name: String, _ count: Int) throws -> [Float] {
        let iteration = try bench.store.openIteration("7")
        var numbers = [Float](repeating: -1, count: count)
        try numbers.withUnsafeMutableBytes { try iteration.read([StateRead(name: name, target: $0)]) }
        return numbers
    }

    @Test func `what is cut over ranks is put together under its name`() throws {
        let saved = try bench.store.save(writeRanks(), options: SaveOptions(step: 7))
        #expect(saved.layout == "cairn" && saved.warnings.isEmpty)
        #expect(try read("w", 12) == (0..<12).map { Float($0) })
        #expect(try read("optimizer.exp.w", 4) == [0, 6, 1, 7])
        #expect(try read("same", 2) == [5, 6])
        let tensors = try bench.store.show("7").tensors
        #expect(tensors.map(\.name) == ["same", "w", "optimizer.exp.w"])
        #expect(
            tensors.map(\.group) == ["model", "model", "optimizer"] && tensors.map(\.pieces) == [1, 2, 2])
        try bench.store.export("7", to: bench.path("hf"), options: ExportOptions(layout: "hf"))
        let names = try FileManager.default.contentsOfDirectory(atPath: bench.path("hf")).sorted()
        #expect(names == ["config.json", "model.safetensors"])
    }

    @Test func `a rank that is missing is named`() throws {
        let path = try writeRanks { $0 = $0.filter { !$0.key.hasPrefix("rank_00001") } }
        let warnings = try bench.store.save(path, options: SaveOptions(step: 7)).warnings
        #expect(warnings.count == 1 && warnings[0].contains("rank_00001/cairn_state.json is missing"))
    }

    @Test func `the file with a part's tensors is missed`() throws {
        let path = try writeRanks { $0["rank_00001/model.safetensors"] = nil }
        let warnings = try bench.store.save(path, options: SaveOptions(step: 7)).warnings
        #expect(warnings.count == 1 && warnings[0].contains("rank_00001/model.safetensors is missing"))
    }

    @Test(arguments: [
        "\"w\":{\"file\":\"model.safetensors\",\"tensor\":\"w\",\"shape\":[4,3],\"offset\":[3,0]}",
        "\"w\":{\"file\":\"model.safetensors\",\"tensor\":\"w\",\"shape\":[4,3],\"offset\":[18446744073709551615,0]}",
        "\"w\":{\"file\":\"model.safetensors\",\"tensor\":\"w\",\"shape\":[12],\"offset\":[0]}",
        "\"w\":{\"file\":\"model.safetensors\",\"tensor\":\"w\",\"shape\":[5,3],\"offset\":[0,0]}",
        "\"w\":{\"tensor\":\"w\",\"shape\":[4,3],\"offset\":[2,0]}", "\"w\":7",
    ])
    func `shards that don't fit together are refused by their name, and the files come back`(
        shards: String
    ) throws {
        let path = try writeRanks { $0["rank_00001/cairn_state.json"] = Self.rank(1, shards) }
        try bench.store.save(path, options: SaveOptions(step: 7))
        #expect(throws: CairnError.self) { try read("w", 12) }
        let error = #expect(throws: CairnError.self) {
            try bench.store.export("7", to: bench.path("hf"), options: ExportOptions(layout: "hf"))
        }
        #expect(error?.message.contains("w") == true)
        try bench.store.restore("7", to: bench.path("to"))
    }

    @Test func `one process's model is exported as it is, and its parts are told apart`() throws {
        let path = try bench.write(
            "state",
            [
                "cairn_state.json": Self.state(
                    ",\"parts\":{\"model\":{\"w\":{\"$tensor\":\"w\"}},\"extra\":{}}"),
                "model.safetensors": Self.file([("w", [2], [1, 2])]),
                "optimizer.safetensors": Self.file([("state.0.step", [], [3])]),
                "config.json": Array("{}".utf8),
            ])
        try bench.store.save(path, options: SaveOptions(step: 7))
        let shown = try bench.store.show("7")
        #expect(shown.tensors.map(\.name) == ["w", "state.0.step"])
        #expect(shown.tensors.map(\.group) == ["model", "optimizer"])
        #expect(shown.understood.contains { $0.name == "parts" && $0.value == "model, extra" })
        try bench.store.export("7", to: bench.path("hf"), options: ExportOptions(layout: "hf"))
        let names = try FileManager.default.contentsOfDirectory(atPath: bench.path("hf")).sorted()
        #expect(names == ["config.json", "model.safetensors"])
        let cut = try bench.write("cut", ["cairn_state.json": Array("{\"format".utf8)])
        #expect(try bench.store.save(cut, options: SaveOptions(run: "cut", step: 1)).warnings.count == 1)
    }

    @Test func `an adapter's part is the model where there is no other`() throws {
        let adapter = Self.file([("base.lora_A.weight", [2], [1, 2])])
        for (run, others) in [
            ("alone", [:]), ("both", ["model.safetensors": Self.file([("w", [2], [1, 2])])]),
        ] {
            let files = [
                "cairn_state.json": Self.state(",\"parts\":{}"), "adapter_model.safetensors": adapter,
                "adapter_config.json": Array("{}".utf8),
            ].merging(others) { $1 }
            try bench.store.save(bench.write(run, files), options: SaveOptions(run: run, step: 7))
            try bench.store.export(
                "\(run)@7", to: bench.path("hf-" + run), options: ExportOptions(layout: "hf"))
        }
        let names = try ["alone", "both"].map {
            try FileManager.default.contentsOfDirectory(atPath: bench.path("hf-" + $0)).sorted()
        }
        #expect(names[0] == ["adapter_config.json", "adapter_model.safetensors"])
        #expect(names[1] == ["adapter_config.json", "model.safetensors"])
        #expect(try bench.store.show("alone@7").tensors.map(\.group) == ["model"])
    }
}
