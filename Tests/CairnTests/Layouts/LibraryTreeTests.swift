import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// Trees that the real libraries wrote: recognised, their steps, whether they are whole, and the tensors that the library itself loads.
@Suite struct LibraryTreeTests {
    struct Tree: CustomTestStringConvertible, Sendable {
        var library: String
        var path: String
        /// As the library's script calls it.
        var family: String
        var iterations: [JSON]

        var testDescription: String { "\(library)/\(path)" }

        var layout: String {
            ["torchtitan": "dcp", "dcp-hf": "dcp", "deepspeed-universal": "deepspeed"][family] ?? family
        }

        static let all: [Tree] = LayoutSamples.names.flatMap { library in
            try! LayoutSamples.library(library).json("expected.json").array!.map { tree in
                Tree(
                    library: library, path: tree["path"]!.stringValue!, family: tree["layout"]!.stringValue!,
                    iterations: tree["iterations"]!.array!)
            }
        }

        /// One of each library and family.
        static let families = Dictionary(grouping: all) { $0.library + $0.family }
            .values.compactMap { $0.min { $0.path < $1.path } }.sorted { $0.path < $1.path }

        var samples: LayoutSamples { LayoutSamples.library(library) }

        /// The iterations that are found, with what is expected of each.
        func found() throws -> [(found: Found, expected: JSON, view: CheckpointView)] {
            // Models are no iterations of a training.
            if family == "gguf" {
                let view = try samples.view(path)
                let layout = try #require(try Layouts.layout(of: view))
                let found = Found(
                    candidate: Candidate(name: path, path: "", step: nil), layout: layout,
                    inspection: try layout.inspect(view))
                return [(found, iterations[0], view)]
            }
            let output = try samples.output(path)
            return try output.iterations().map { found in
                let expected = try #require(
                    iterations.first { one in
                        one["path"]?.stringValue.map { $0 == found.candidate.path }
                            ?? (one["step"]?.uint64 == found.step)
                    }, "\(found.candidate.name)")
                return (found, expected, try output.view(of: found.candidate))
            }
        }
    }

    @Test(arguments: Tree.all)
    func `iterations are recognised with their steps and completeness`(_ tree: Tree) throws {
        let all = try tree.found()
        // Orbax gives another name to what is not finished, and Lightning's last one is a copy of another.
        let other = ["5.orbax-checkpoint-tmp", "last.ckpt"]
        let wanted = tree.iterations.filter { !other.contains($0["path"]?.stringValue ?? "") }
        #expect(all.count == wanted.count)
        for (found, expected, _) in all {
            #expect(found.layout?.name == tree.layout, "\(found.candidate.name)")
            #expect(found.step == expected["step"]?.uint64, "\(found.candidate.name)")
            #expect(found.inspection.isComplete == expected["complete"]?.bool, "\(found.inspection.faults)")
            guard expected["complete"]?.bool == true else { continue }
            if let epoch = expected["epoch"]?.double { #expect(found.inspection.epoch == epoch) }
            if let ranks = expected["worldSize"]?.int { #expect(found.inspection.worldSize == ranks) }
        }
    }

    @Test(arguments: Tree.all)
    func `without a file that it needs an iteration is not complete, and a file that is cut off is named`(
        _ tree: Tree
    ) throws {
        for (found, expected, view) in try tree.found() where expected["complete"]?.bool == true {
            let layout = try #require(found.layout)
            let prefix =
                found.candidate.path.isEmpty || found.candidate.files != nil ? "" : found.candidate.path + "/"
            for name in expected["required"]?.array?.compactMap(\.stringValue) ?? [] where name != "." {
                let file = name.hasPrefix(prefix) ? String(name.dropFirst(prefix.count)) : name
                guard view.has(file), view.files.count > 1 else { continue }
                let rest = view.changed([file: nil])
                let faults = try layout.inspect(rest).faults
                #expect(
                    faults.contains {
                        names($0, file)
                            || file == "model/model.safetensors" && $0.hasSuffix("weights are missing")
                    },
                    "without \(file): \(faults)")
                let size = view[file]!.size
                for length in [0, size / 2, size - min(1, size)] where length < size {
                    let cut = try view.changed([file: view.read(view[file]!, 0..<length)])
                    let faults = try layout.inspect(cut).faults
                    // Of the last bytes of a text, nothing may depend.
                    #expect(
                        faults.contains { names($0, file) } || length == size - 1,
                        "\(file) cut to \(length): \(faults)")
                }
            }
        }
    }

    /// Whether a fault names a file, as such or in its folder.
    private func names(_ fault: String, _ file: String) -> Bool {
        guard let slash = file.lastIndex(of: "/") else { return fault.contains(file) }
        return fault.contains(file)
            || fault.hasPrefix("in \(file[..<slash]), ") && fault.contains(file[file.index(after: slash)...])
    }

    @Test(arguments: Tree.all.filter { !["orbax", "tensorflow", "gguf"].contains($0.layout) })
    func `tensors are put together as the library loads them`(_ tree: Tree) throws {
        for (found, expected, view) in try tree.found() where expected["complete"]?.bool == true {
            let assembly = try #require(try found.layout?.assembly(of: view))
            #expect(try view.assembled(assembly.tensors) == ExpectedTensor.all(expected["model"]))
            // Of some it is known by name, though the library itself never gives it so.
            if ["deepspeed", "lightning"].contains(tree.family), expected["optimizer"] == nil { continue }
            let optimizer = Dictionary(
                uniqueKeysWithValues: ExpectedTensor.all(expected["optimizer"]).compactMap { name, tensor in
                    Self.stateName(name).map { ($0, tensor) }
                })
            #expect(try view.assembled(assembly.optimizer.filter { $0.name.contains(".") }) == optimizer)
        }
    }

    /// What is kept for a parameter has its kind in front; nil where parameters are numbered, or it is of none.
    private static func stateName(_ name: String) -> String? {
        guard name.contains(".") else { return nil }
        for part in ["exp_avg", "exp_avg_sq"] {
            // Megatron's, and those of DeepSpeed's universal checkpoints.
            if name.hasPrefix("optimizer.state.\(part).") {
                return String(name.dropFirst("optimizer.state.".count))
            }
            if name.hasSuffix(".\(part)"), !name.hasPrefix("optimizer.") {
                return "\(part).\(name.dropLast(part.count + 1))"
            }
        }
        guard name.hasPrefix("optimizer.state."), let dot = name.lastIndex(of: ".") else { return name }
        let parameter = name[..<dot].dropFirst("optimizer.state.".count)
        return parameter.allSatisfy(\.isNumber) ? nil : name[name.index(after: dot)...] + "." + parameter
    }

    @Test(arguments: Tree.all)
    func
        `the store's view says the same as the disk's, and tensors are known by name where the table says so`(
            _ tree: Tree
        ) throws
    {
        let bench = try Workbench(chunkSize: 4096)
        try bench.store.saveAll(tree.samples.path(tree.path), options: SaveAllOptions(run: "r"))
        for (found, _, view) in try tree.found() where found.inspection.isComplete && found.step != nil {
            let info = try #require(
                try bench.store.iteration(run: "r", step: found.step!), "\(found.candidate.name)")
            let saved = try bench.store.view(of: info)
            let layout = try #require(try Layouts.layout(of: saved))
            #expect(layout.name == tree.layout)
            #expect(try layout.inspect(saved).text == layout.inspect(view).text)
            let (ours, theirs) = (try layout.assembly(of: saved), try layout.assembly(of: view))
            #expect(
                ours?.tensors.plain == theirs?.tensors.plain
                    && ours?.optimizer.plain == theirs?.optimizer.plain)
            let count = saved.files.reduce(0) {
                $0 + ((try? saved.tensors(in: $1.path))??.tensors.count ?? 0)
            }
            #expect((count > 3) == layout.abilities.splits)
        }
    }
}

extension Inspection {
    /// All that it says.
    var text: String {
        "\(step as Any) \(stepFile as Any) \(epoch as Any) \(metrics.sorted { $0.key < $1.key }) \(bestMetricName as Any) \(faults) "
            + "\(missing) \(unhealthy as Any) \(worldSize as Any) \(facts)"
    }
}

extension CheckpointView {
    /// The same with other contents of some files, or without them, where nil is given.
    func changed(_ contents: [String: [UInt8]?]) -> CheckpointView {
        var files = files.filter { contents[$0.path] == nil }
        for case let (path, bytes?) in contents {
            files.append(File(path: path, size: UInt64(bytes.count), seconds: 0, nanoseconds: 0))
        }
        let original = self
        func bytes(_ file: File) -> [UInt8]? { contents[file.path] ?? nil }
        let old = Dictionary(uniqueKeysWithValues: original.files.map { ($0.path, $0) })
        return CheckpointView(
            name: name, files: files, folders: folders,
            content: Content(
                bytes: { file, range in
                    guard let bytes = contents[file.path] ?? nil else {
                        return try original.read(old[file.path]!, range)
                    }
                    return Array(bytes[Int(range.lowerBound)..<Int(range.upperBound)])
                },
                tensors: { file in
                    guard let bytes = contents[file.path] ?? nil else {
                        return try original.tensors(in: file.path)
                    }
                    return try TensorMap.of(file.path, bytes)
                }))
    }
}

extension TensorMap {
    /// Of a file in memory, by the ending of its name.
    static func of(_ name: String, _ bytes: [UInt8]) throws -> TensorMap? {
        let path =
            NSTemporaryDirectory() + UUID().uuidString + "."
            + (name.split(separator: ".").last.map(String.init) ?? "")
        try Data(bytes).write(to: URL(fileURLWithPath: path))
        defer { _ = try? FileManager.default.removeItem(atPath: path) }
        return try FilePlan.map(Path(path), File(Path(path), .read), UInt64(bytes.count))
    }
}
