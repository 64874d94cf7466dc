import Foundation
import Testing

extension Weather {
    /// `tools/demo` and `tools/test` where something is missing and can't be had: the one command that installs it, and status 2.
    @Suite struct ToolTests {
        private static let project = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().path

        /// Programs that come before the real ones, each a line of shell.
        private func run(
            _ tool: String, _ programs: [String: String], path: String? = nil
        ) throws -> (ending: Child.Ending, folder: String) {
            let folder = Weather.folder + "/tools-" + UUID().uuidString
            let bin = folder + "/bin"
            try FileManager.default.createDirectory(atPath: bin, withIntermediateDirectories: true)
            for (name, line) in programs {
                let text = "#!/bin/bash\n\(line)\n"
                try Data(text.utf8).write(to: URL(fileURLWithPath: bin + "/" + name))
                chmod(bin + "/" + name, 0o755)
            }
            let ending = try Child.run(
                ["bash", Self.project + "/tools/" + tool],
                environment: [
                    "PATH": bin + ":" + (path ?? "/usr/bin:/bin"), "SWIFT_HOME": folder, "HOME": folder,
                    "TRACE": folder + "/trace",
                ])
            return (ending, folder)
        }

        /// dpkg-query(1) on a system where these packages are missing.
        private func query(missing: [String]) -> String {
            "case ${@: -1} in \(missing.joined(separator: "|"))) exit 1 ;; esac; echo install ok installed"
        }

        /// A toolchain that builds nothing, and can't fetch anything.
        private let swift = [
            "swift":
                "case $1 in --version) echo Swift version 6.3.1 ;; *) echo $* >>$TRACE; echo no route; exit 1 ;; esac"
        ]

        private func check(_ ending: Child.Ending, command: String) throws {
            try require(ending.status == 2, "ended with \(ending.summary) \(ending.output)")
            let commands = ending.error.split(separator: "\n").filter { $0.hasPrefix("  ") }
            try require(
                commands.map { $0.dropFirst(2) } == [command[...]], "not the one command: \(ending.error)")
        }

        @Test("Without root: the command that installs exactly what is missing", arguments: ["demo", "test"])
        func withoutRoot(_ tool: String) throws {
            let programs = [
                "dpkg-query": query(missing: ["liblmdb-dev", "pkg-config"]), "id": "echo 1000",
                "sudo": "echo a password is required >&2; exit 1", "apt-get": "echo $* >>$TRACE",
            ]
            let (ending, folder) = try run(tool, programs)
            try check(
                ending, command: "sudo apt-get update && sudo apt-get install -y pkg-config liblmdb-dev")
            #expect(
                !FileManager.default.fileExists(atPath: folder + "/trace"), "tried to install it all the same"
            )
        }

        @Test("Where there is no sudo either", arguments: ["demo", "test"])
        func withoutSudo(_ tool: String) throws {
            var programs = ["dpkg-query": query(missing: ["libssl-dev"]), "id": "echo 1000"]
            for name in ["bash", "dirname", "grep", "realpath", "cat"] {
                programs[name] = "exec /usr/bin/\(name) \"$@\""
            }
            let (ending, _) = try run(tool, programs, path: "/nowhere")
            try check(ending, command: "sudo apt-get update && sudo apt-get install -y libssl-dev")
        }

        @Test("As root without a network", arguments: ["demo", "test"])
        func withoutNetwork(_ tool: String) throws {
            let programs = [
                "dpkg-query": query(missing: ["liblmdb-dev"]), "id": "echo 0",
                "apt-get": "echo $* >>$TRACE; echo Could not resolve the host >&2; exit 100",
            ]
            let (ending, folder) = try run(tool, programs)
            try check(ending, command: "sudo apt-get update && sudo apt-get install -y liblmdb-dev")
            #expect(FileManager.default.fileExists(atPath: folder + "/trace"), "did not try to install it")
        }

        @Test(
            "Where the packages that Swift fetches are not there and can't be fetched",
            arguments: ["demo", "test"])
        func withoutPackages(_ tool: String) throws {
            let (ending, folder) = try run(
                tool, swift.merging(["dpkg-query": query(missing: ["none"])]) { $1 })
            // Tests are built in a folder of their own.
            let scratch = tool == "test" ? " --scratch-path .build/tests" : ""
            let command = "\(folder)/bin/swift package --package-path \(Self.project)\(scratch) resolve"
            try check(ending, command: command)
            #expect(ending.error.contains("no route"))
            let asked = try String(contentsOfFile: folder + "/trace", encoding: .utf8)
            #expect(asked.split(separator: "\n").count == 1 && asked.contains("resolve"), "went on: \(asked)")
        }

        @Test("The demo saves, lists, restores, exports, keeps what is pinned and gives space back")
        func demo() throws {
            let run = { (arguments: [String]) in
                try Child.run(
                    ["bash", Self.project + "/tools/demo"] + arguments,
                    environment: ["CAIRN": Weather.program])
            }
            let samples = try run([])
            try samples.mustSucceed("the demo")
            for part in [
                "saved basic@3", "saved lora@2", "The same bytes, modes, times to the nanosecond, and links.",
                "adapter_model.safetensors", "deleted basic@2", "The pinned iteration is still there.",
                "no damage", "KiB  and after it",
            ] { #expect(samples.output.contains(part), "the demo does not say \(part)") }
            // Somebody's own checkpoints: an output folder, and a checkpoint whose name says no step.
            let scene = try Scene()
            for step in [5, 10] {
                try Checkpoint(run: 1, step: step).write(to: scene.folder + "/out/checkpoint-\(step)")
            }
            let own = try run([scene.folder + "/out", scene.source])
            try own.mustSucceed("the demo of other checkpoints")
            #expect(own.output.contains("saved out@10") && own.output.contains("saved source@1"))
            #expect(own.output.contains("The same bytes") && own.output.contains("no damage"))
        }

        @Test("A folder that is none, or an option that nobody knows, is wrong usage")
        func wrongUsage() throws {
            for arguments in [["demo", "/nowhere"], ["test", "--nonsense"]] {
                let ending = try Child.run(["bash", Self.project + "/tools/" + arguments[0], arguments[1]])
                try require(ending.status == 2, "\(arguments) ended with \(ending.summary)")
                try require(
                    ending.error.contains("usage: tools/" + arguments[0]), "\(arguments): \(ending.error)")
            }
        }
    }
}
