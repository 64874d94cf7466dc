import Foundation
import Testing

extension Weather {
    /// Every command of `Docs/coming-from.md` does what its row says on a checkpoint that the framework wrote: at least, it succeeds.
    @Suite struct ComingFromTests {
        private static let project = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().path

        /// The sections of the page, and the output folder of the samples that their commands are run on.
        private static let samples = [
            "MindSpore Transformers 2.0": "checkpoints.tar.gz mindformers2/single/checkpoint",
            "MindSpore Transformers 1.0": "libraries/mindspore.tar.zst older-safetensors",
            "Hugging Face Trainer, and LLaMA-Factory": "checkpoints.tar.gz hf-trainer/basic",
            "Megatron-LM and MindSpeed-LLM": "checkpoints.tar.gz megatron/torch_dist",
            "VeRL": "checkpoints.tar.gz verl/fsdp",
            "DeepSpeed": "checkpoints.tar.gz deepspeed/zero1_fp32",
            "Orbax": "kept.tar.gz orbax",
        ]

        struct Row: CustomStringConvertible, Sendable {
            var section: String
            var knob: String
            /// In the order of the row, each with the status that it ends with.
            var commands: [(text: String, status: Int32)]
            var description: String { "\(section): \(knob)" }
        }

        static let rows: [Row] = {
            let page = try? String(contentsOfFile: project + "/Docs/coming-from.md", encoding: .utf8)
            var (section, rows) = ("", [Row]())
            for line in (page ?? "").split(separator: "\n") {
                if line.hasPrefix("## ") { section = String(line.dropFirst(3)) }
                let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
                guard line.hasPrefix("| "), cells.count == 3, cells[0] != "knob", cells[0] != "---" else {
                    continue
                }
                let pieces = cells[2].split(separator: "`", omittingEmptySubsequences: false)
                let commands = pieces.indices.filter { $0 % 2 == 1 && pieces[$0].hasPrefix("cairn ") }.map {
                    index in
                    (String(pieces[index]), Int32(pieces[index + 1].hasPrefix(" is an error") ? 2 : 0))
                }
                rows.append(Row(section: section, knob: cells[0], commands: commands))
            }
            return rows
        }()

        @Test("The page has a table for each framework, and commands in it")
        func everyFrameworkIsThere() {
            #expect(Set(Self.rows.map(\.section)) == Set(Self.samples.keys))
            #expect(Self.rows.count > 40 && Self.rows.flatMap(\.commands).count > 40)
        }

        @Test("A command of the page", arguments: rows.filter { !$0.commands.isEmpty })
        func run(_ row: Row) throws {
            let sample = try #require(Self.samples[row.section]).split(separator: " ")
            let folder = Weather.folder + "/coming-" + UUID().uuidString
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            defer { _ = try? Child.run(["bash", "-c", "chmod -R u+rwX '\(folder)' && rm -rf '\(folder)'"]) }
            let prepare = """
                cd '\(folder)' && mkdir s && ln -s '\(Weather.program)' cairn
                tar -xpf '\(Self.project)/Tests/Fixtures/\(sample[0])' -C s && mv 's/\(sample[1])' out
                cairn init --quiet && cairn save out --all --run sft --quiet
                """
            let script =
                "set -e\n" + prepare
                + row.commands.map {
                    "\nset +e; \($0.text); code=$?; set -e; [ $code = \($0.status) ] || exit 9"
                }.joined()
            let ending = try Child.run(
                ["bash", "-c", script],
                environment: ["PATH": folder + ":/usr/bin:/bin", "CAIRN_STORE": folder + "/store"])
            #expect(ending.status == 0, "\(row): \(ending.output) \(ending.error)")
        }
    }
}
