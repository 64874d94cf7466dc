import Cairn
import Foundation
import Testing

/// Files that only look like safetensors, and names that nobody would choose.
@Suite struct MalformedTests {
    let bench: Workbench
    init() throws { bench = try Workbench() }

    @Test func everyFileThatTheReferenceReaderRejectsIsKeptWholeWithAWarning() throws {
        let fixtures = GoldenStore.project + "/Tests/TensorFormatsTests/Fixtures/acceptance"
        let names = try FileManager.default.contentsOfDirectory(atPath: fixtures).filter {
            $0.hasSuffix(".safetensors")
        }
        #expect(names.count > 150)
        let result = try bench.store.save(fixtures, options: SaveOptions(step: 1))
        let verdicts = try JSON(
            parsing: [UInt8](Data(contentsOf: URL(fileURLWithPath: fixtures + "/verdicts.json"))))
        let rejected = (verdicts.array ?? []).filter { $0["verdict"]?.stringValue != "ACCEPT" }.compactMap {
            $0["file"]?.stringValue
        }
        #expect(rejected.count > 70)
        #expect(
            result.warnings.compactMap { $0.split(separator: " ").first.map(String.init) }.sorted()
                == rejected.sorted())
        #expect(result.warnings.allSatisfy { !$0.contains("\n") && $0.count > 40 })
        try bench.store.restore("1", to: bench.path("to"))
        for name in names {
            #expect(
                try Data(contentsOf: URL(fileURLWithPath: bench.path("to/" + name)))
                    == Data(contentsOf: URL(fileURLWithPath: fixtures + "/" + name)), "\(name)")
        }
        #expect(try bench.store.verify().ok)
    }

    @Test func tensorsOfStrangeNamesComeBack() throws {
        let names = [
            "a\\nb", "\\u001b[31mred", String(repeating: "x", count: 4096), "\\u0000", "é模", "/", "..",
        ]
        let file = Workbench.safetensors(names.enumerated().map { ($1, [UInt8($0)]) })
        let result = try bench.store.save(try bench.write("checkpoint-1", ["model.safetensors": file]))
        #expect(result.tensors == names.count && result.warnings.isEmpty)
        let found = try bench.store.show("1").tensors.map(\.name)
        #expect(found.contains("a\nb") && found.contains { $0.utf8.count == 4096 } && found.contains("\0"))
        try bench.store.restore("1", to: bench.path("to"))
        #expect(try Data(contentsOf: URL(fileURLWithPath: bench.path("to/model.safetensors"))) == Data(file))
    }
}
