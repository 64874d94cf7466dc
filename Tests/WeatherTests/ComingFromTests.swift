import Foundation
import Testing

extension Weather {
    /// Every command of `Docs/coming-from.md` does what its row says on a checkpoint that the framework wrote: at least, it succeeds.
    @Suite struct ComingFromTests {
        private static let project = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().path

        struct Section: CustomStringConvertible, Sendable {
            var name: String
            /// What the folders of its commands hold: what of the samples, in which archive, lies where. Each is saved, under its name, or as
            /// `sft` where that is `out`.
            var samples: [String]
            /// What there is nothing to be done for.
            var knobsWithoutCommands: Set<String>
            var description: String { name }
        }

        static let sections = [
            Section(
                name: "MindSpore Transformers 2.0",
                samples: [
                    "checkpoints.tar.gz mindformers2/single/checkpoint out",
                    "checkpoints.tar.gz mindformers2/dp2tp2/checkpoint spread",
                ], knobsWithoutCommands: ["`save_interleaved_steps`", "`enable_save`"]),
            Section(
                name: "MindSpore Transformers 1.0",
                samples: [
                    "libraries/mindspore.tar.zst older-safetensors out",
                    "libraries/mindspore.tar.zst older-ckpt ckpt",
                ],
                knobsWithoutCommands: [
                    "`save_checkpoint_steps`, `save_checkpoint_seconds`", "`only_save_strategy`",
                ]),
            Section(
                name: "Hugging Face Trainer, and LLaMA-Factory",
                samples: [
                    "checkpoints.tar.gz hf-trainer/basic out", "checkpoints.tar.gz hf-trainer/lora lora",
                    "libraries/llamafactory.tar.zst one v1",
                    "checkpoints.tar.gz hf-trainer/basic/checkpoint-3 fsdp/checkpoint-3",
                    "libraries/torch.tar.zst nested-2/step-4 fsdp/checkpoint-3/pytorch_model_fsdp_0",
                    "libraries/torch.tar.zst nested-2/step-4 fsdp/checkpoint-3/optimizer_0",
                ],
                knobsWithoutCommands: [
                    "`save_steps`, `save_strategy`", "`export_hub_model_id`, `export_device`",
                ]),
            Section(
                name: "Megatron-LM and MindSpeed-LLM",
                samples: [
                    "checkpoints.tar.gz megatron/torch_dist out", "libraries/megatron.tar.zst torch ranks",
                ],
                knobsWithoutCommands: [
                    "`--save-interval`",
                    "`--ckpt-fully-parallel-save`, `--ckpt-fully-parallel-load`, `--ckpt-assume-constant-structure`, "
                        + "`--dist-ckpt-strictness`",
                    "`--target-tensor-parallel-size`, `--target-pipeline-parallel-size` of it",
                ]),
            Section(
                name: "VeRL", samples: ["checkpoints.tar.gz verl/fsdp out"],
                knobsWithoutCommands: ["`trainer.save_freq`", "`esi_redundant_time`"]),
            Section(
                name: "DeepSpeed",
                samples: [
                    "checkpoints.tar.gz deepspeed/zero1_fp32 out",
                    "libraries/deepspeed.tar.zst universal universal",
                    "libraries/deepspeed.tar.zst zero-3 zero3",
                ],
                knobsWithoutCommands: [
                    "`parallel_write`, `checkpoint_engine`, `writer`", "`load_from_fp32_weights`",
                ]),
            Section(
                name: "Orbax",
                samples: [
                    "kept.tar.gz orbax out", "libraries/orbax.tar.zst kept kept",
                    "libraries/orbax.tar.zst prefixed prefixed",
                ],
                knobsWithoutCommands: [
                    "`save_interval_steps`", "`save_decision_policy`, `save_on_steps`, `should_save_fn`",
                    "`read_only`, `create`, `single_host_load_and_broadcast`, `multiprocessing_options`, `file_options`",
                ]),
            Section(
                name: "Lightning", samples: ["checkpoints.tar.gz lightning/run/checkpoints out"],
                knobsWithoutCommands: ["`every_n_train_steps`, `every_n_epochs`, `train_time_interval`"]),
            Section(
                name: "accelerate",
                samples: [
                    "libraries/accelerate.tar.zst numbered out",
                    "libraries/torch.tar.zst nested-2/step-4 fsdp/checkpoint_1/pytorch_model_fsdp_0",
                    "libraries/torch.tar.zst nested-2/step-4 fsdp/checkpoint_1/optimizer_0",
                    "libraries/accelerate.tar.zst named/step_2/random_states_0.pkl fsdp/checkpoint_1/random_states_0.pkl",
                ], knobsWithoutCommands: []),
            Section(
                name: "PyTorch DCP and torchtitan",
                samples: ["libraries/torch.tar.zst dp-tp out", "libraries/loops.tar.zst steps single"],
                knobsWithoutCommands: ["`checkpoint.interval`"]),
        ]

        struct Row {
            var section: String
            var knob: String
            /// In the order of the row, each with the status that it ends with.
            var commands: [(text: String, status: Int32)]
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

        @Test(
            "The page has a table for each framework, and a command in each row but those that are known to need none"
        )
        func everyFrameworkIsThere() {
            #expect(Set(Self.rows.map(\.section)) == Set(Self.sections.map(\.name)))
            #expect(Self.rows.count > 120 && Self.rows.flatMap(\.commands).count > 140)
            for section in Self.sections {
                let without = Self.rows.filter { $0.section == section.name && $0.commands.isEmpty }.map(
                    \.knob)
                #expect(Set(without) == section.knobsWithoutCommands, "\(section)")
            }
        }

        /// Samples are unpacked and saved once; each row has them as they were, in the same place.
        @Test("The commands of a table", arguments: sections)
        func run(_ section: Section) throws {
            let folder = Weather.folder + "/coming-" + UUID().uuidString
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            defer { _ = try? Child.run(["bash", "-c", "chmod -R u+rwX '\(folder)' && rm -rf '\(folder)'"]) }
            let fixtures = Self.project + "/Tests/Fixtures"
            var script = """
                set -e
                cd '\(folder)' && mkdir at unpacked && ln -s '\(Weather.program)' cairn && cd at
                ln -s '\(Self.project)/Docs' Docs
                # Of the model that Megatron's ranks hold.
                echo '{"num_attention_heads": 4, "num_key_value_heads": 4, "hidden_size": 8, "vocab_size": 16}' >config.json
                mkdir empty && cairn init --quiet

                """
            var names: [Substring] = []
            for sample in section.samples {
                let words = sample.split(separator: " ")
                script += """
                    tar -xpf '\(fixtures)/\(words[0])' -C ../unpacked '\(words[1])'
                    mkdir -p "$(dirname '\(words[2])')" && mv '../unpacked/\(words[1])' '\(words[2])'

                    """
                let name = words[2].prefix { $0 != "/" }
                if names.last != name { names.append(name) }
            }
            // What ranks hold in folders of their own is in no file beside them.
            script += "rm -f fsdp/checkpoint-3/model.safetensors fsdp/checkpoint-3/optimizer.pt\n"
            for name in names {
                script += "cairn save \(name) --all --run \(name == "out" ? "sft" : name) --quiet\n"
            }
            script += """
                cd .. && cp -a at before
                set +e
                check() {
                    bash -c "$3" >../said 2>&1 && code=0 || code=$?
                    [ $code = "$1" ] || { echo "$2: $3 ended with $code:" && cat ../said; } >&2
                }

                """
            for row in Self.rows where row.section == section.name && !row.commands.isEmpty {
                script += "chmod -R u+rwX at && rm -rf at && cp -a before at && cd at || exit 8\n"
                for (command, status) in row.commands {
                    script += "check \(status) \(Self.quoted(row.knob)) \(Self.quoted(command))\n"
                }
                script += "cd ..\n"
            }
            let ending = try Child.run(
                ["bash", "-c", script],
                environment: ["PATH": folder + ":/usr/bin:/bin", "CAIRN_STORE": folder + "/at/store"])
            #expect(
                ending.status == 0 && ending.error.isEmpty, "\(section): \(ending.output) \(ending.error)")
        }

        private static func quoted(_ text: String) -> String {
            "'" + text.replacing("'", with: "'\\''") + "'"
        }
    }
}
