import Foundation
import TensorFormats
import Testing

@testable import Cairn

/// Exports as safetensors, as a file of PyTorch, and as a checkpoint of its distributed one.
@Suite struct TorchExportTests {
    let scene: ExportScene

    init() throws { scene = try ExportScene() }

    private func tensors(_ bytes: [UInt8]) throws -> [String: (
        dtype: String, shape: [UInt64], bytes: [UInt8]
    )] {
        let map = try TensorMap(pyTorch: UInt64(bytes.count)) {
            Array(bytes[Int($0.lowerBound)..<Int($0.upperBound)])
        }
        return Dictionary(
            uniqueKeysWithValues: map.tensors.map {
                ($0.name, ($0.dtype, $0.shape, map.bytes(of: $0, in: bytes)))
            })
    }

    private func check(_ bytes: [UInt8], hold stored: [ExportScene.Stored], prefix: String = "") throws {
        let found = try tensors(bytes)
        #expect(found.count == stored.count)
        for tensor in stored {
            let one = try #require(found[prefix + tensor.name], "\(prefix + tensor.name) of \(found.keys)")
            #expect(one.dtype == tensor.dtype.name && one.shape == tensor.shape && one.bytes == tensor.bytes)
        }
    }

    // MARK: safetensors

    @Test func safetensorsAreTheTensorsAlone() throws {
        let (files, warnings) = try scene.export(ExportOptions(layout: "safetensors"))
        #expect(files == ["model.safetensors": scene.canonical(scene.whole)] && warnings.isEmpty)
        let all = try scene.export(ExportOptions(layout: "safetensors", all: true)).files
        #expect(
            all == [
                "model.safetensors": scene.canonical(scene.whole),
                "optimizer.safetensors": scene.canonical([scene.moment]),
            ])
    }

    @Test func safetensorsKeepEachNameOfWhatIsTied() throws {
        var tied = scene.assembly
        tied.tensors.append(tied.tensors[0])
        tied.tensors[4].name = "lm_head"
        var head = scene.whole[0]
        head.name = "lm_head"
        let (files, warnings) = try scene.export(ExportOptions(layout: "safetensors"), of: tied)
        #expect(files == ["model.safetensors": scene.canonical(scene.whole + [head])] && warnings.isEmpty)
    }

    @Test func safetensorsAreCutAndCountedApart() throws {
        let options = ExportOptions(layout: "safetensors", maxShardSize: 12_500, all: true)
        let names = try scene.export(options).files.keys.sorted()
        #expect(
            names == [
                "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                "model.safetensors.index.json", "optimizer.safetensors",
            ])
    }

    @Test func oneSafetensorsFileIsWrittenWhereItIsNamed() throws {
        let (files, _) = try scene.export(ExportOptions(layout: "safetensors"), to: "m.safetensors")
        #expect(files == ["m.safetensors": scene.canonical(scene.whole)])
        for options in [
            ExportOptions(layout: "safetensors", all: true),
            ExportOptions(layout: "safetensors", maxShardSize: 1),
        ] {
            #expect(scene.bench.bench.code { try scene.export(options, to: "m.safetensors") } == .usage)
        }
    }

    // MARK: torch

    @Test(arguments: ["model.pt", "m.pth", "pytorch_model.bin"])
    func aFileOfPyTorchIsWrittenWhereItIsNamed(name: String) throws {
        let (files, warnings) = try scene.export(ExportOptions(layout: "torch"), to: name)
        #expect(files.keys.sorted() == [name] && warnings.isEmpty)
        try check(files[name]!, hold: scene.whole)
    }

    @Test func elseItIsInTheFolder() throws {
        let (files, _) = try scene.export(ExportOptions(layout: "torch"))
        #expect(files.keys.sorted() == ["model.pt"])
        try check(files["model.pt"]!, hold: scene.whole)
    }

    @Test func allHasModelAndOptimizerApart() throws {
        let (files, _) = try scene.export(ExportOptions(layout: "torch", all: true))
        let found = try tensors(files["model.pt"]!)
        #expect(
            Set(found.keys) == Set(scene.whole.map { "model." + $0.name } + ["optimizer.exp_avg.model.up"]))
        #expect(found["optimizer.exp_avg.model.up"]?.bytes == scene.moment.bytes)
        var without = scene.assembly
        without.optimizer = []
        let (fewer, warnings) = try scene.export(ExportOptions(layout: "torch", all: true), of: without)
        try check(fewer["model.pt"]!, hold: scene.whole, prefix: "model.")
        #expect(warnings.count == 1)
    }

    /// The checksums in a zip file's central directory and behind each record, with those of the bytes.
    private func checkChecksums(_ zip: ArraySlice<UInt8>) throws -> Int {
        let zip = Array(zip)
        func number(_ place: Int, _ count: Int) -> UInt64 {
            (0..<count).reversed().reduce(0) { $0 << 8 | UInt64(zip[place + $1]) }
        }
        let end = try #require(zip.lastRange(of: [0x50, 0x4B, 5, 6]))
        var place = Int(number(end.lowerBound + 16, 4))
        var count = 0
        while number(place, 4) == 0x0201_4B50 {
            let (length, header) = (Int(number(place + 24, 4)), Int(number(place + 42, 4)))
            let start = header + 30 + Int(number(header + 26, 2)) + Int(number(header + 28, 2))
            let crc = UInt64(CRC32(Array(zip[start..<start + length])).value)
            #expect(number(place + 16, 4) == crc)
            if length > 0 { #expect(number(start + length + 4, 4) == crc) }
            place += 46 + Int(number(place + 28, 2)) + Int(number(place + 30, 2)) + Int(number(place + 32, 2))
            count += 1
        }
        return count
    }

    @Test(arguments: [Settings(jobs: 1, memory: Settings.minimumMemory), Settings(jobs: 4)])
    func checksumsAreThoseOfTheBytes(settings: Settings) throws {
        // Over several segments, past the page cache, one tensor empty.
        var random = SeededGenerator(seed: 3)
        let large = (0..<3).map { number in
            GatherBench.Stored(name: "t\(number)", shape: [5_000_000], bytes: random.bytes(5_000_000))
        }
        let empty = GatherBench.Stored(name: "empty", shape: [0], bytes: [])
        let bench = try GatherBench(["model.safetensors": large + [empty]])
        let store = try Store.open(at: bench.bench.path("store"), settings: settings)
        let place = bench.bench.path("m.pt")
        try store.export("r@1", to: place, options: ExportOptions(layout: "torch"))
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: place)))
        #expect(try checkChecksums(bytes[...]) == 4 + 6)
        try check(bytes, hold: large + [empty])
    }

    @Test func whatIsTiedStaysOneStorage() throws {
        var tied = scene.assembly
        tied.tensors.append(tied.tensors[0])
        tied.tensors[4].name = "lm_head"
        let (files, _) = try scene.export(ExportOptions(layout: "torch"), of: tied)
        let (alone, _) = try scene.export(ExportOptions(layout: "torch"))
        #expect(files["model.pt"]!.count < alone["model.pt"]!.count + 1000)
        #expect(try tensors(files["model.pt"]!)["lm_head"]?.bytes == scene.whole[0].bytes)
    }

    @Test func aFileTakesThePlaceOfAnotherWithForceAlone() throws {
        let bench = scene.bench.bench
        let place = try bench.write("old", ["m.pt": [1]]) + "/m.pt"
        try bench.store.save(
            try bench.write("checkpoint-2", ["model.safetensors": GatherBench.safetensors(scene.whole)]),
            options: SaveOptions(run: "hf", step: 2))
        #expect(
            bench.code { try bench.store.export("hf@2", to: place, options: ExportOptions(layout: "torch")) }
                == .exists)
        let result = try bench.store.export(
            "hf@2", to: place, options: ExportOptions(layout: "torch", force: true))
        #expect(result.path == place && result.files == 1)
        try check([UInt8](try Data(contentsOf: URL(fileURLWithPath: place))), hold: scene.whole)
        #expect(try FileManager.default.contentsOfDirectory(atPath: bench.path("old")) == ["m.pt"])
    }

    // MARK: dcp

    @Test func distributedCheckpointsHaveTheirMetadata() throws {
        let (files, warnings) = try scene.export(ExportOptions(layout: "dcp"))
        #expect(files.keys.sorted() == [".metadata", "__0_0.distcp"] && warnings.isEmpty)
        let data = files["__0_0.distcp"]!
        let metadata = try DCPMetadata(parsing: files[".metadata"]!)
        #expect(Set(metadata.tensors.map(\.name)) == Set(scene.whole.map(\.name)))
        let map = try TensorMap(distributed: UInt64(data.count)) {
            Array(data[Int($0.lowerBound)..<Int($0.upperBound)])
        }
        for stored in scene.whole {
            #expect(
                map.tensors.contains {
                    $0.shape == stored.shape && map.bytes(of: $0, in: data) == stored.bytes
                })
        }
        // The first of the files in the file.
        let first = try #require(data.firstRange(of: [0x50, 0x4B, 5, 6]))
        #expect(try checkChecksums(data[..<(first.lowerBound + 22)]) == 7)
    }

    @Test func distributedCheckpointsAreCutAndHaveTheOptimizerApart() throws {
        let options = ExportOptions(layout: "dcp", maxShardSize: 8000, all: true)
        let (files, _) = try scene.export(options)
        #expect(files.count > 3)
        let metadata = try DCPMetadata(parsing: files[".metadata"]!)
        #expect(
            Set(metadata.tensors.map(\.name))
                == Set(scene.whole.map { "model." + $0.name } + ["optimizer.exp_avg.model.up"]))
    }

    // MARK: Wrong usage

    @Test func whatTheTableOfLayoutsNamesCanBeExportedTo() {
        let named = Layouts.all.compactMap(\.abilities.exportsTo)
        #expect(!named.isEmpty && named.allSatisfy { ExportLayout(rawValue: $0) != nil }, "\(named)")
    }

    @Test(
        arguments: [
            (ExportOptions(layout: "nothing"), "there is no layout nothing"),
            (ExportOptions(layout: "torch", maxShardSize: 1), "--max-shard-size"),
            (ExportOptions(layout: "mindformers", all: true), "--no-optimizer"),
            (ExportOptions(layout: "dcp", prefix: "x"), "--prefix"),
            (ExportOptions(layout: "hf", withoutOptimizer: true), "--no-optimizer"),
            (ExportOptions(layout: "hf", removesRedundancy: true), "--remove-redundancy"),
            (ExportOptions(layout: "torch", isUnified: true), "--unified"),
            (ExportOptions(layout: "hf", mesh: "dp=1"), "--mesh"),
            (ExportOptions(layout: "safetensors", mapsOf: "latest"), "--maps-of"),
            (ExportOptions(layout: "dcp", maps: "x.json"), "--maps"),
            (ExportOptions(layout: "torch", config: "x.json"), "--config"),
        ])
    func optionsOfAnotherLayoutAreWrongUsage(options: ExportOptions, part: String) throws {
        let error = #expect(throws: CairnError.self) { try scene.export(options) }
        #expect(error?.code == .usage && error?.message.contains(part) == true, "\(error?.message ?? "")")
    }

    @Test func whatPyTorchHasNoTypeForIsNamed() throws {
        let odd = GatherBench.Stored(name: "the.odd", dtype: .f6E2M3, shape: [4], bytes: [1, 2, 3])
        let bench = try GatherBench(["model.safetensors": [odd]])
        for layout in ["torch", "dcp"] {
            let error = #expect(throws: CairnError.self) {
                try bench.bench.store.export(
                    "r@1", to: bench.bench.path("e"), options: ExportOptions(layout: layout))
            }
            #expect(
                error?.code == .usage && error?.message.contains("the.odd") == true, "\(error?.message ?? "")"
            )
        }
    }
}

extension TensorMap {
    /// The bytes of a tensor.
    fileprivate func bytes(of tensor: Tensor, in file: [UInt8]) -> [UInt8] {
        let start = Int(extents[tensor.extent].offset + tensor.offset)
        return Array(file[start..<start + Int(tensor.length)])
    }
}
