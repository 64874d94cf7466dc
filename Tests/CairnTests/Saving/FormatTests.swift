import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// Files of MindSpore, GGUF and NumPy, which their libraries wrote, as a save takes them.
@Suite struct FormatTests {
    private static let fixtures = GoldenStore.project + "/Tests/TensorFormatsTests/Fixtures"
    let bench: Workbench
    init() throws { bench = try Workbench() }

    private static func bytes(_ path: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(fixtures)/\(path)")))
    }

    @Test(arguments: ["mindspore", "gguf", "numpy"])
    func `files are split, or kept whole with a sentence, and come back`(_ folder: String) throws {
        let result = try bench.store.save("\(Self.fixtures)/\(folder)", options: SaveOptions(step: 1))
        let expected = try #require(try JSON(parsing: Self.bytes("\(folder)/expected.json")).members)
        var refused = expected.filter { $0.value["refused"] != nil }.map(\.key)
        // Nothing says that it would be MindSpore's.
        refused.removeAll { $0 == "empty.ckpt" }
        let warned = result.warnings.compactMap { $0.split(separator: " ").first.map(String.init) }
        #expect(warned.sorted() == refused.sorted())
        #expect(result.warnings.allSatisfy { $0.contains("is kept as it is") && $0.hasSuffix(".") })

        let tensors = try bench.store.show("1").tensors
        let names = expected.flatMap { $0.value["tensors"]?.array ?? [] }.compactMap {
            $0["name"]?.stringValue
        }
        let same = try FileManager.default.contentsOfDirectory(atPath: "\(Self.fixtures)/\(folder)").filter {
            $0.hasPrefix("same.")
        }
        #expect(tensors.count == names.count + same.count && names.count > 20)
        #expect(result.tensors == tensors.count)

        try bench.store.restore("1", to: bench.path("to"))
        for name in try FileManager.default.contentsOfDirectory(atPath: "\(Self.fixtures)/\(folder)") {
            let restored = try Data(contentsOf: URL(fileURLWithPath: bench.path("to/\(name)")))
            #expect(try [UInt8](restored) == Self.bytes("\(folder)/\(name)"), "\(name)")
        }
        #expect(try bench.store.verify().ok)
    }

    @Test(arguments: ["numpy/same.npy", "numpy/same.npz", "gguf/same.gguf", "mindspore/same.ckpt"])
    func `a tensor that is stored from another format is not stored again`(_ path: String) throws {
        let first = try bench.store.save(
            "\(Self.fixtures)/numpy/same.safetensors", options: SaveOptions(step: 1))
        #expect(first.newBytes == 6144)
        let second = try bench.store.save(
            "\(Self.fixtures)/\(path)", options: SaveOptions(run: "other", step: 1))
        #expect(second.tensors == 1 && second.newBytes == 0)
    }

    @Test func `a strategy is kept as it is, without a word`() throws {
        let file = "\(Self.fixtures)/mindspore/ckpt_strategy_rank_0.ckpt"
        let result = try bench.store.save(file, options: SaveOptions(step: 1))
        #expect(result.tensors == 0 && result.warnings.isEmpty)
    }

    @Test func `a checkpoint that is cut off is kept with a sentence, whoever wrote it`() throws {
        for (name, path) in [("a.ckpt", "pytorch/cut.pt"), ("b.ckpt", "mindspore/end.ckpt")] {
            let folder = try bench.write("folder-\(name)", [name: Self.bytes(path)])
            let result = try bench.store.save(folder, options: SaveOptions(run: "cut-\(name)", step: 1))
            #expect(result.tensors == 0 && result.warnings.count == 1, "\(path)")
        }
        let other = try bench.write(
            "folder", ["a.ckpt": Array("\nsome text".utf8), "b.bin": [0x0A, 1, 0x0A, 2]])
        #expect(try bench.store.save(other, options: SaveOptions(run: "other", step: 1)).warnings.isEmpty)
    }

    @Test func `what is cut off is not whole, and what can't be split is`() throws {
        let folder = Path(Self.fixtures)
        for path in ["gguf/cut.gguf", "numpy/cut.npz", "numpy/two.npy", "mindspore/end.ckpt"] {
            let fault = try CheckpointView(folder).fault(inTensors: path)
            #expect(fault?.hasPrefix("\(path) is not whole: the ") == true, "\(fault ?? "")")
        }
        let whole = [
            "gguf/unknown-type.gguf", "gguf/big-endian.gguf", "numpy/compressed.npz", "numpy/objects.npy",
            "mindspore/encrypted-gcm.ckpt", "mindspore/cut.ckpt",
        ]
        for path in whole {
            #expect(try CheckpointView(folder).fault(inTensors: path) == nil, "\(path)")
        }
    }

    @Test func `a difference counts the elements of the piece that it is in`() throws {
        var file = try Self.bytes("mindspore/cut.ckpt")
        try bench.store.save(try bench.write("ckpt-1", ["w.ckpt": file]), options: SaveOptions(step: 1))
        let map = try TensorMap(mindSpore: UInt64(file.count)) { [file] in
            Array(file[Int($0.lowerBound)..<Int($0.upperBound)])
        }
        let piece = try #require(map.tensors.first { $0.name == "w#2" })
        file[Int(map.extents[piece.extent].offset) + 5] ^= 1
        try bench.store.save(try bench.write("ckpt-2", ["w.ckpt": file]), options: SaveOptions(step: 2))
        let diff = try bench.store.diff("1", "2")
        #expect(diff.changed.map(\.name) == ["w#2"] && diff.unchanged == 5)
        #expect(diff.changed.first?.elements == 256 && diff.changed.first?.changedElements == 1)
    }

    @Test func `a difference of types that safetensors lacks counts elements`() throws {
        for (step, byte) in [(1, 0), (2, 1)] as [(UInt64, UInt8)] {
            var (blocks, pairs) = (
                try Self.bytes("gguf/q2_0.gguf"), try Self.bytes("mindspore/strange-dtypes.ckpt")
            )
            if byte > 0 {
                blocks.replaceSubrange(
                    blocks.count - 18..<blocks.count, with: [UInt8](repeating: 7, count: 18))
                let place = try #require(pairs.firstRange(of: "Complex128".utf8)).upperBound + 2
                pairs[place] ^= 1
                pairs[place + 9] ^= 1
            }
            let folder = try bench.write("step-\(step)", ["a.gguf": blocks, "b.ckpt": pairs])
            try bench.store.save(folder, options: SaveOptions(step: step))
        }
        let changed = try bench.store.diff("1", "2").changed
        #expect(changed.map(\.name) == ["c16", "w"] && changed.map(\.elements) == [2, 64])
        #expect(changed.map(\.changedElements) == [1, 18])
    }

    @Test func `checkpoints of TensorFlow and Orbax are kept exactly as they are`() throws {
        let archive = GoldenStore.project + "/Tests/Fixtures/kept.tar.gz"
        try FileManager.default.createDirectory(atPath: bench.path("kept"), withIntermediateDirectories: true)
        let process = Foundation.Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["tar", "-xpzf", archive, "-C", bench.path("kept")]
        try process.run()
        process.waitUntilExit()
        for (number, name) in ["tensorflow", "orbax/1", "orbax"].enumerated() {
            let (folder, reference) = (bench.path("kept/\(name)"), "kept@\(number)")
            let result = try bench.store.save(folder, options: SaveOptions(run: "kept", step: UInt64(number)))
            #expect(result.tensors == 0 && result.warnings.isEmpty && result.files >= 7, "\(name)")
            let restored = bench.path("to-\(number)")
            try bench.store.restore(reference, to: restored)
            let paths = try FileManager.default.subpathsOfDirectory(atPath: folder).sorted()
            #expect(try FileManager.default.subpathsOfDirectory(atPath: restored).sorted() == paths)
            for path in paths {
                let (one, other) = (
                    FileManager.default.contents(atPath: "\(folder)/\(path)"), "\(restored)/\(path)"
                )
                #expect(one == FileManager.default.contents(atPath: other), "\(path)")
            }
        }
    }
}
