import Foundation
import Synchronization
import Testing

extension Weather {
    /// What programs rely on: with `--json` one document on standard output, whose fields have these names and types.
    /// (design, 5: fields may be added, none renamed)
    @Suite struct ContractTests {
        private struct Saved: Decodable {
            let run: String
            let step: Int
            let id: String?
            let tensors, files: Int
            let logicalBytes, newBytes, storedBytes: UInt64
            let chunks, newChunks: Int
            let seconds: Double
        }

        private struct Listed: Decodable {
            let run: String
            let step: Int
            let id, createdAt: String
            let logicalBytes, storedBytes: UInt64
            let metrics: [String: Double?]
            let infiniteMetrics: [String: String]?
            let pins: [String]
        }

        private struct Written: Decodable {
            let run: String
            let step: Int
            let id, path: String
            let files: Int
            let bytes: UInt64
            let seconds: Double
        }

        private struct Pin: Decodable {
            let name, run: String
            let step: Int
            let id: String
        }

        private struct Shown: Decodable {
            struct Tensor: Decodable {
                let name, dtype: String
                let shape: [Int]
                let bytes: UInt64
                let group: String
            }
            struct File: Decodable {
                let path: String
                let bytes: UInt64
            }
            let run: String
            let step: Int
            let id, layout: String
            let metrics: [String: Double?]
            let metadata: [String: String]
            let tensors: [Tensor]
            let files: [File]
        }

        private struct Difference: Decodable {
            struct Named: Decodable { let name: String }
            struct Changed: Decodable {
                let name: String
                let elements, changedElements, changedBytes: UInt64
                let maxAbsDifference: Double?
            }
            let added, removed: [Named]
            let changed: [Changed]
            let unchanged: Int
        }

        private struct Collected: Decodable {
            struct Deleted: Decodable {
                let run: String
                let step: Int
                let reason: String
            }
            let deletedIterations: [Deleted]
            let reclaimedBytes, liveBytes: UInt64
            let dryRun: Bool
        }

        private struct Verified: Decodable {
            struct Damaged: Decodable {
                let run: String
                let step: Int
                let tensors, files: [String]
            }
            let ok: Bool
            let checkedBytes: UInt64
            let damaged: [Damaged]
        }

        private struct Stats: Decodable {
            let logicalBytes, uniqueBytes, storedBytes, indexBytes: UInt64
            let chunks, packs, iterations: Int
        }

        private struct Failed: Decodable {
            struct Fields: Decodable {
                let code, message: String
                let path: String?
            }
            let error: Fields
        }

        /// The document that a command prints, in one line, and nothing beside it.
        private func document<T: Decodable>(
            _ scene: Scene, _ arguments: [String], as type: T.Type, status: Int32 = 0
        ) throws -> T {
            let ending = try scene.cairn(arguments + ["--json"])
            try require(ending.status == status, "\(arguments): \(ending.summary)")
            try require(status != 0 || ending.error.isEmpty, "\(arguments) says \(ending.error)")
            let lines = ending.output.split(separator: "\n", omittingEmptySubsequences: false)
            try require(
                lines.count == 2 && lines[1].isEmpty, "\(arguments) is not one line: \(ending.output)")
            do {
                return try JSONDecoder().decode(type, from: Data(ending.output.utf8))
            } catch {
                throw Trouble("\(arguments): \(error) in \(ending.output)")
            }
        }

        @Test("Saving, listing, showing and comparing")
        func reading() throws {
            let scene = try Scene()
            let dry = try document(scene, scene.saveArguments.dropLast() + ["--dry-run"], as: Saved.self)
            #expect(dry.step == 40 && dry.id == nil && dry.newBytes > 0)
            let options = [
                "--metric", "loss=0.5", "--metric", "odd=nan", "--metric", "far=-inf", "--meta", "set=c4",
                "--pin", "gold",
            ]
            let saved = try document(scene, scene.saveArguments.dropLast() + options, as: Saved.self)
            #expect(saved.run == "r" && saved.step == 40 && saved.id?.count == 64)
            #expect(saved.tensors == 2 && saved.files == 5 && saved.newBytes == dry.newBytes)
            #expect(saved.newChunks < saved.chunks && saved.newBytes < saved.logicalBytes)
            #expect(saved.storedBytes > saved.newBytes && saved.seconds > 0)
            let listed = try document(scene, ["list"], as: [Listed].self)
            #expect(listed.map(\.step) == [10, 20, 30, 40] && listed.allSatisfy { $0.id.count == 64 })
            #expect(listed[3].pins == ["gold"] && listed[3].metrics["loss"] == 0.5)
            #expect(listed[3].metrics["odd"] == .some(nil) && listed[3].logicalBytes == saved.logicalBytes)
            #expect(listed[3].metrics["far"] == .some(nil) && listed[3].infiniteMetrics == ["far": "-inf"])
            #expect(listed[0].infiniteMetrics == nil)
            #expect(
                listed.allSatisfy { $0.createdAt.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*Z/) != nil })
            let shown = try document(scene, ["show", "gold"], as: Shown.self)
            #expect(shown.step == 40 && shown.metadata == ["set": "c4"])
            #expect(shown.tensors.map(\.name) == ["a.weight", "b.weight"])
            #expect(shown.tensors.map(\.dtype) == ["BF16", "F32"] && shown.tensors[1].shape == [10240])
            #expect(
                shown.tensors[1].bytes == 40960 && shown.files.contains { $0.path == "extra/tokenizer.bin" })
            let difference = try document(scene, ["diff", "r@30", "r@40"], as: Difference.self)
            #expect(difference.added.isEmpty && difference.removed.isEmpty && difference.unchanged == 1)
            #expect(difference.changed.map(\.name) == ["a.weight"] && difference.changed[0].elements == 12288)
            #expect(difference.changed[0].changedBytes > 12000)
            let pins = try document(scene, ["pins"], as: [Pin].self)
            #expect(pins.map(\.name) == ["gold"] && pins[0].step == 40 && pins[0].id == saved.id)
            let stats = try document(scene, ["stats"], as: Stats.self)
            #expect(stats.iterations == 4 && stats.packs == 4 && stats.uniqueBytes < stats.logicalBytes)
        }

        @Test("Writing out, keeping and giving back")
        func changing() throws {
            let scene = try Scene()
            let place = scene.folder + "/to"
            let restored = try document(scene, ["restore", "r@30", place], as: Written.self)
            #expect(restored.path == place && restored.files == 5 && restored.step == 30)
            let export = ["export", "r@30", scene.folder + "/e", "--layout", "hf"]
            let exported = try document(scene, export, as: Written.self)
            #expect(exported.files > 0 && exported.bytes < restored.bytes)
            let pin = try document(scene, ["pin", "r@10", "first"], as: Pin.self)
            #expect(pin.name == "first" && pin.step == 10)
            struct Annotated: Decodable {
                let metrics: [String: Double?]
                let notes: [String]
            }
            let annotate = ["annotate", "r@20", "--metric", "mmlu=0.61", "--note", "good"]
            let annotated = try document(scene, annotate, as: Annotated.self)
            #expect(annotated.metrics["mmlu"] == 0.61 && annotated.notes == ["good"])
            struct Superseded: Decodable { let superseded: [Listed] }
            let rewound = try document(scene, ["rewind", "r@20"], as: Superseded.self)
            #expect(rewound.superseded.map(\.step) == [30])
            struct Run: Decodable {
                struct Policy: Decodable { let keepLast: Int }
                let run: String
                let policy: Policy
            }
            let policy = try document(scene, ["policy", "--run", "r", "--keep-last", "1"], as: Run.self)
            #expect(policy.run == "r" && policy.policy.keepLast == 1)
            let planned = try document(scene, ["gc", "--dry-run"], as: Collected.self)
            let collected = try document(scene, ["gc"], as: Collected.self)
            #expect(planned.dryRun && !collected.dryRun)
            #expect(planned.reclaimedBytes == collected.reclaimedBytes && collected.reclaimedBytes > 0)
            #expect(collected.deletedIterations.map(\.step) == [30] && collected.liveBytes > 0)
            #expect(collected.deletedIterations.allSatisfy { $0.run == "r" && !$0.reason.isEmpty })
            let verified = try document(scene, ["verify"], as: Verified.self)
            #expect(verified.ok && verified.damaged.isEmpty && verified.checkedBytes > 0)
            #expect(try document(scene, ["unpin", "first"], as: Pin.self).step == 10)
            struct Deleted: Decodable { let deletedIterations: [Collected.Deleted] }
            let deleted = try document(scene, ["delete", "r@10"], as: Deleted.self)
            #expect(deleted.deletedIterations.map(\.step) == [10])
            struct Repaired: Decodable { let ok: Bool }
            #expect(try document(scene, ["repair"], as: Repaired.self).ok)
            struct Made: Decodable { let path: String }
            let made = try Scene.cairn(["init", "--json", "--store", scene.folder + "/new"])
            #expect(
                try JSONDecoder().decode(Made.self, from: Data(made.output.utf8)).path == scene.folder
                    + "/new")
            scene.committed.withLock { $0 = [20: Checkpoint(run: 1, step: 20)] }
            try scene.checkIntact()
        }

        @Test("Damage and failures")
        func failing() throws {
            let scene = try Scene()
            let failed = try document(scene, ["restore", "r@31", "/x"], as: Failed.self, status: 2)
            #expect(failed.error.code == "not-found" && failed.error.message.contains("31"))
            let wrong = try document(scene, ["list", "--nonsense"], as: Failed.self, status: 2)
            #expect(wrong.error.code == "usage" && wrong.error.path == nil)
            #expect(try scene.cairn(["list", "--nonsense", "--json"]).output.contains("\"path\":null"))
            for pack in try scene.packFiles() {
                try Data().write(to: URL(fileURLWithPath: scene.store + "/packs/" + pack))
            }
            let verified = try document(scene, ["verify"], as: Verified.self, status: 3)
            #expect(!verified.ok && verified.damaged.map(\.step) == [10, 20, 30])
        }

        @Test("For people: an answer is text, a report is left out with --quiet")
        func text() throws {
            let scene = try Scene()
            let answers = [
                ["list"], ["show", "r@30", "--tensors", "--files"], ["diff", "r@20", "r@30"], ["pins"],
                ["stats"],
                ["policy"], ["gc", "--dry-run"], ["cat", "r@30", "config.json"],
            ]
            for arguments in answers {
                for extra in [[], ["--quiet"]] {
                    let ending = try scene.cairn(arguments + extra)
                    try require(
                        ending.status == 0 && !ending.output.isEmpty && ending.error.isEmpty,
                        "\(arguments + extra): \(ending.summary)")
                }
            }
            #expect(try scene.cairn(["cat", "r@30", "config.json"]).output == "{\"step\": 30}\n")
            let reports = [
                ["save", scene.source, "--run", "r", "--step", "40"],
                ["restore", "r@30", scene.folder + "/to"],
                ["pin", "r@10", "p"], ["unpin", "p"], ["annotate", "r@30", "--note", "x"], ["verify"], ["gc"],
                ["delete", "r@10"], ["rewind", "r@30"], ["repair"],
                ["policy", "--run", "r", "--keep-last", "9"],
                ["export", "r@30", scene.folder + "/e", "--layout", "hf"],
            ]
            for arguments in reports {
                var endings: [Child.Ending] = []
                for extra in [[], ["--quiet"]] {
                    let copy = try Scene()
                    let own = arguments.map { $0.replacingOccurrences(of: scene.folder, with: copy.folder) }
                    if own[0] == "unpin" { try copy.cairn(["pin", "r@10", "p"]).mustSucceed() }
                    endings.append(try copy.cairn(own + extra))
                }
                let (loud, quiet) = (endings[0], endings[1])
                try require(loud.status == 0 && !loud.output.isEmpty, "\(arguments): \(loud.summary)")
                try require(
                    quiet.status == 0 && quiet.output.isEmpty && quiet.error.isEmpty,
                    "quiet \(arguments): \(quiet.summary) \(quiet.output)")
            }
        }
    }
}
