import Foundation
import Testing

/// Programs of C against the header and the library, as someone without Swift builds and runs them.
@Suite struct CInterfaceTests {
    /// What they expect of their folder: in `store` main@1, main@2 and main@3, of which each has one tensor `a`.
    private static func withFolder(_ body: (URL) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            "cairn-c-" + UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let store = folder.appendingPathComponent("store").path
        try cairn(["init", "--store", store, "--quiet"])
        let source = folder.appendingPathComponent("source")
        try FileManager.default.createDirectory(at: source, withIntermediateDirectories: true)
        for step in 1...3 {
            let file = source.appendingPathComponent("model.safetensors")
            try Built.safetensors([Float(step), 0.5]).write(to: file)
            try cairn(["save", source.path, "--step", "\(step)", "--store", store, "--quiet"])
        }
        try body(folder)
    }

    @discardableResult
    private static func cairn(_ arguments: [String]) throws -> String {
        let ending = try Built.run(Built.command, arguments)
        try #require(
            ending.status == 0, "cairn \(arguments[0]) ended with \(ending.status): \(ending.output)")
        return ending.output
    }

    /// Each program prints what it expected and is not so.
    @Test(arguments: ["store", "arguments", "forks", "races", "memory", "states"])
    func everythingIsAsTheProgramExpects(name: String) throws {
        try Self.withFolder { folder in
            let ending = try Built.run(try Built.program(name, in: folder), [folder.path])
            #expect(
                ending.status == 0 && ending.output.isEmpty, "ended with \(ending.status): \(ending.output)")
        }
    }

    @Test func documentsAreThoseOfTheCommand() throws {
        try Self.withFolder { folder in
            let store = folder.appendingPathComponent("store").path
            let commands = [
                ["list"], ["list", "--run", "main"], ["show", "latest"], ["diff", "1", "3"], ["stats"],
                ["pins"], ["policy", "--run", "main"], ["policy"],
            ]
            try Self.cairn(["pin", "2", "gold", "--store", store])
            try Self.cairn(["policy", "--keep-last", "7", "--auto", "--store", store])
            let expected = try commands.map { try Self.cairn($0 + ["--json", "--store", store]) }.joined()
            let ending = try Built.run(try Built.program("documents", in: folder), [folder.path])
            #expect(ending.status == 0)
            #expect(ending.output == expected)
        }
    }

    /// A process may hold another copy of Swift's runtime, and another LMDB.
    @Test func theLibraryHasTheFunctionsOfTheHeaderAndNoOthers() throws {
        let symbols = try Built.run("/usr/bin/env", ["nm", "-D", "--defined-only", Built.library])
        try #require(symbols.status == 0, "\(symbols.output)")
        var found: Set<String> = []
        for line in symbols.output.split(separator: "\n") {
            let fields = line.split(separator: " ").map(String.init)
            // Capitals are what others see.
            if fields.count == 3, fields[1] == fields[1].uppercased() { found.insert(fields[2]) }
        }
        let header = try String(contentsOf: Built.header.appendingPathComponent("cairn.h"), encoding: .utf8)
        let code = header.split(separator: "\n").filter { !$0.hasPrefix("//") && !$0.hasPrefix(" ") }
        let declared = code.flatMap { line in
            line.matches(of: /\b(cairn_\w+)\(/).map { String($0.output.1) }
        }
        #expect(found == Set(declared))
        #expect(declared.count > 25)
    }
}
