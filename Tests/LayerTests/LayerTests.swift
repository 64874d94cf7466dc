import Foundation
import Testing

/// Which modules each target may import: only downwards. (Docs/architecture.md)
@Suite struct LayerTests {
    static let standard: Set = ["Swift", "Synchronization", "_StringProcessing", "RegexBuilder"]
    static let layers: [String: Set<String>] = [
        "Platform": ["CLinux", "COpenSSL", "CSHA256", "CZstd", "Glibc"],
        "ChunkStore": ["Platform", "CLMDB", "CPlanes"],
        "TensorFormats": [],
        "Cairn": ["ChunkStore", "Platform", "TensorFormats"],
        "CairnCLI": ["Cairn", "ArgumentParser"],
        "CairnC": ["CCairn", "CCopy", "Cairn", "Platform", "Glibc"],
    ]
    /// What measures single stages: no layer, and under the same rules.
    static let benchmarks: [String: Set<String>] = [
        "Benchmarks/Stages": ["ChunkStore", "Platform", "CLimits", "CPlanes", "Glibc"]
    ]
    /// Fork kills the threads of Dispatch and of Swift's own pool, and leaves `Mutex` with the parent's thread as its owner; Foundation is
    /// eight times as large as all of this.
    static let banned = ["Foundation", "Dispatch", "DispatchQueue", "Task {", "Task.detached", "Mutex"]

    static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    static let sources = root.appendingPathComponent("Sources")

    /// What a file of a target imports or names that it must not.
    static func violations(in text: String, file: String, target: String) -> [String] {
        var found: [String] = []
        let allowed = (layers[target] ?? benchmarks[target]!).union(standard)
        for line in text.split(separator: "\n") {
            let code = line.split(separator: "//", omittingEmptySubsequences: false)[0]
            let words = code.split(whereSeparator: \.isWhitespace)
            if let place = words.firstIndex(of: "import"), place <= 3, words.indices.contains(place + 1) {
                // `import struct Platform.CairnError` names the module in its last word.
                let module = String(words.last!.split(separator: ".")[0])
                if !allowed.contains(module) { found.append("\(file) imports \(module)") }
                if module == "CLMDB", !file.contains("/Index/") {
                    found.append("\(file) imports CLMDB outside of Index")
                }
            }
            for word in banned where code.contains(word) { found.append("\(file) uses \(word)") }
        }
        return found
    }

    @Test(arguments: layers.keys.sorted() + benchmarks.keys)
    func aLayerImportsOnlyWhatIsBelowIt(target: String) throws {
        let folder = (Self.layers[target] == nil ? Self.root : Self.sources).appendingPathComponent(target)
        let files = try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter {
            $0.hasSuffix(".swift")
        }
        #expect(!files.isEmpty)
        for file in files {
            let path = folder.appendingPathComponent(file).path
            let text = try String(contentsOfFile: path, encoding: .utf8)
            #expect(Self.violations(in: text, file: path, target: target) == [])
        }
    }

    @Test func everyTargetWithSwiftSourcesIsALayer() throws {
        let targets = try FileManager.default.contentsOfDirectory(atPath: Self.sources.path).filter {
            !$0.hasPrefix("C") || $0.hasPrefix("Cairn") || $0 == "ChunkStore"
        }
        #expect(Set(targets) == Set(Self.layers.keys))
    }

    @Test(arguments: [
        ("Platform", "import ChunkStore"), ("ChunkStore", "internal import Cairn"),
        ("TensorFormats", "import Glibc"),
        ("Cairn", "@_exported public import struct CairnCLI.Program"), ("Cairn", "import CLMDB"),
        ("CairnCLI", "import Foundation"), ("Cairn", "let work = Task { 1 }"),
        ("CairnC", "public import ChunkStore"), ("Cairn", "internal import CairnC"),
        ("CairnC", "let state = Mutex(0)"),
    ])
    func theCheckItselfFindsWhatIsPlanted(target: String, line: String) {
        #expect(!Self.violations(in: line, file: "planted.swift", target: target).isEmpty)
    }
}
