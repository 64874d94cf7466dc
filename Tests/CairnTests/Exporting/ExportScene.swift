import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// An iteration in a layout that is made up: four tensors of a model in the files of two ranks, and a moment of its optimizer.
final class ExportScene {
    typealias Stored = GatherBench.Stored

    private struct MadeUp: Layout {
        var name: String { "made-up" }
        var abilities: LayoutAbilities {
            LayoutAbilities(
                title: "", splits: true, resumes: false, exportsTo: nil, exportsToHuggingFace: true)
        }
        func candidates(in output: OutputFolder) -> [Candidate] { [] }
        func recognises(_ view: CheckpointView) -> Bool { true }
        func inspect(_ view: CheckpointView) -> Inspection { Inspection() }
        func pointers(to iteration: Candidate) -> [Pointer] { [] }
    }

    let bench: GatherBench
    var assembly = Assembly()
    /// The model as it is whole.
    let whole: [Stored]
    /// The optimizer's tensor as it is whole.
    let moment: Stored

    init() throws {
        var random = SeededGenerator(seed: 1)
        whole = [
            Stored(name: "model.embed", dtype: .bf16, shape: [40, 64], bytes: random.bytes(5120)),
            Stored(name: "model.up", dtype: .f32, shape: [32, 96], bytes: random.bytes(12288)),
            Stored(name: "model.scale", dtype: .f32, shape: [], bytes: random.bytes(4)),
            Stored(name: "model.step", dtype: .i64, shape: [1], bytes: random.bytes(8)),
        ]
        let (embed, up) = (whole[0].bytes, whole[1].bytes)
        // The embedding by rows, the other by columns.
        var columns: [[UInt8]] = [[], []]
        for row in 0..<32 {
            for rank in 0..<2 { columns[rank] += up[row * 384 + rank * 192..<row * 384 + rank * 192 + 192] }
        }
        let moments = random.bytes(12288)
        moment = Stored(name: "exp_avg.model.up", dtype: .f32, shape: [32, 96], bytes: moments)
        bench = try GatherBench(
            [
                "rank0.safetensors": [
                    Stored(name: "embed", dtype: .bf16, shape: [20, 64], bytes: Array(embed[..<2560])),
                    Stored(name: "up", dtype: .f32, shape: [32, 48], bytes: columns[0]), whole[2], whole[3],
                    Stored(name: "m", dtype: .f32, shape: [3072], bytes: moments),
                ],
                "rank1.safetensors": [
                    Stored(name: "embed", dtype: .bf16, shape: [20, 64], bytes: Array(embed[2560...])),
                    Stored(name: "up", dtype: .f32, shape: [32, 48], bytes: columns[1]),
                ],
            ], others: ["huggingface/config.json": [UInt8]("{\"n\": 2}".utf8), "rng.pt": [1]])
        assembly.tensors = [
            .init(
                name: "model.embed", dtype: "BF16", shape: [40, 64],
                pieces: [0, 1].map { .box("rank\($0).safetensors", "embed", at: [20 * $0, 0], [20, 64]) }),
            .init(
                name: "model.up", dtype: "F32", shape: [32, 96],
                pieces: [0, 1].map { .box("rank\($0).safetensors", "up", at: [0, 48 * $0], [32, 48]) }),
            .init(whole: "model.scale", dtype: "F32", shape: [], file: "rank0.safetensors"),
            .init(whole: "model.step", dtype: "I64", shape: [1], file: "rank0.safetensors"),
        ]
        assembly.optimizer = [
            .init(
                name: "exp_avg.model.up", dtype: "F32", shape: [32, 96],
                pieces: [.run("rank0.safetensors", "m", 0..<3072)])
        ]
        assembly.files = [("huggingface/config.json", "config.json")]
    }

    /// The files of an export, by their paths below its destination, or by its name where it is a file.
    @discardableResult
    func export(
        _ options: ExportOptions, of assembly: Assembly? = nil, to name: String = "export"
    ) throws -> (files: [String: [UInt8]], warnings: [String]) {
        let store = bench.bench.store
        let view = try store.view(of: bench.info)
        let subject = ExportSubject(
            info: bench.info, manifest: bench.manifest, view: view, layout: MadeUp(),
            assembly: assembly ?? self.assembly, options: options, chunks: store.chunks)
        let plan = try store.plan(subject, try ExportLayout(options), destination: name)
        let place = bench.bench.path("e-" + UUID().uuidString + "/" + name)
        let result: RestoreResult
        do {
            result = try store.write(plan, bench.info, bench.manifest, Path(place), force: false, .silent)
        } catch {
            _ = try? FileManager.default.removeItem(atPath: String(place.dropLast(name.count + 1)))
            throw error
        }
        var files: [String: [UInt8]] = [:]
        func isFolder(_ path: String) -> Bool {
            var isFolder: ObjCBool = false
            #expect(FileManager.default.fileExists(atPath: path, isDirectory: &isFolder))
            return isFolder.boolValue
        }
        if !isFolder(place) {
            files[name] = [UInt8](try Data(contentsOf: URL(fileURLWithPath: place)))
        } else {
            for file in try FileManager.default.subpathsOfDirectory(atPath: place)
            where !isFolder(place + "/" + file) {
                files[file] = [UInt8](try Data(contentsOf: URL(fileURLWithPath: place + "/" + file)))
            }
        }
        #expect(result.files == files.count && result.bytes == UInt64(files.values.joined().count))
        #expect(result.path == place)
        return (files, result.warnings)
    }

    func canonical(_ tensors: [Stored], format: String = "pt") -> [UInt8] {
        canonical(tensors, metadata: [("format", format)])
    }

    func canonical(_ tensors: [Stored], metadata: [(key: String, value: String)]) -> [UInt8] {
        let (header, order) = SafetensorsHeader.canonicalHeader(
            tensors: tensors.map { ($0.name, $0.dtype, $0.shape, UInt64($0.bytes.count)) }, metadata: metadata
        )
        return header + order.flatMap { tensors[$0].bytes }
    }
}
