import Foundation
import Glibc
import Testing

extension Weather {
    /// `cairn resume` where the folder's checkpoint can't be read.
    @Suite struct UnreadableTests {
        private func faults(_ kind: String, _ number: Int, _ training: Training, _ name: String) -> Faults {
            Faults(kind: kind, number: number, calls: .reading, under: [training.path(name)])
        }

        private static let files = ["model.safetensors", "config.json", "trainer_state.json"]

        @Test(
            "A file that the disk fails to give is named, and comes back from the store, or is read after all",
            arguments: files)
        func comesBack(_ file: String) throws {
            let training = try Training()
            try training.write(2)
            try training.cairn(["resume", training.out]).mustSucceed()
            var said = 0
            for (kind, number) in [("eio", 1), ("eio", 2), ("eio", 3), ("eio", 4)] {
                let faults = faults(kind, number, training, "checkpoint-2/" + file)
                let ending = try training.cairn(["resume", training.out, "--json"], faults: faults)
                try ending.mustSucceed("\(kind):\(number)")
                let json = try #require(try ending.json() as? [String: Any])
                #expect(json["path"] as? String == training.path("checkpoint-2"))
                for one in try #require(json["setAside"] as? [[String: Any]]) {
                    let reasons = try #require(one["reasons"] as? [String])
                    #expect(reasons.allSatisfy { $0.contains(training.path("checkpoint-2/" + file)) })
                    said += 1
                }
                for file in Training.files(2, content: 2) {
                    let found = FileManager.default.contents(
                        atPath: training.path("checkpoint-2/\(file.name)"))
                    #expect(found == Data(file.bytes), "\(kind):\(number): \(file.name)")
                }
            }
            #expect(said > 0)
            try training.checkHas(2, content: 2)
        }

        @Test("What can't be read, and the store has not got, is never stepped back from", arguments: files)
        func isNeverLeftBehind(_ file: String) throws {
            for steps in [[], [1]] {
                let training = try Training()
                for step in steps { try training.write(step) }
                if !steps.isEmpty { try training.cairn(["resume", training.out]).mustSucceed() }
                try training.write(2)
                for kind in ["eio+", "eacces+"] {
                    try training.cairn(
                        ["resume", training.out], faults: faults(kind, 1, training, "checkpoint-2/" + file)
                    ).mustFail(1, mentioning: training.path("checkpoint-2/" + file))
                    #expect(try training.names() == (steps + [2]).map { "checkpoint-\($0)" })
                    #expect(try training.steps() == steps)
                }
                let ending = try training.cairn(["resume", training.out])
                #expect(ending.output == training.path("checkpoint-2") + "\n")
            }
        }

        // MARK: As another user

        private static let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

        /// Runs it as a user whose all of this is, but for one file or folder, that only root may read; nil where it can't be tried.
        private func asUser(_ training: Training, closed: String, _ arguments: [String]) throws -> Child
            .Ending?
        {
            let isRoot = geteuid() == 0
            if isRoot, try Child.run(Self.user + [Weather.program, "--version"]).status != 0 {
                Weather.note("skipped: another user may not run \(Weather.program)")
                return nil
            }
            if isRoot { try Child.run(["chown", "-R", "65534:65534", training.folder]).mustSucceed() }
            let path = training.path(closed)
            let mode = FileManager.default.isExecutableFile(atPath: path) ? mode_t(0o755) : 0o644
            chmod(path, 0)
            defer { chmod(path, mode) }
            return try Child.run(
                (isRoot ? Self.user : []) + [Weather.program] + arguments + ["--store", training.store])
        }

        @Test("A folder that can't be read is left alone where it is none to go on from")
        func foldersOfOthers() throws {
            for name in ["lost+found", "runs", "checkpoint-1", "epoch_1", "1", "step-1", "global_step1"] {
                let training = try Training()
                try training.write(2)
                try training.write([1], name + "/file")
                // Saved, and found to be the same.
                for _ in 0..<2 {
                    let resume = ["resume", training.out]
                    guard let ending = try asUser(training, closed: name, resume) else { return }
                    #expect(ending.status == 0, "\(name): \(ending.summary)")
                    #expect(ending.output == training.path("checkpoint-2") + "\n")
                }
                #expect(try training.names().sorted() == ["checkpoint-2", name].sorted())
            }
        }

        @Test("A folder that can't be read and may be what to go on from is an error that says what to do")
        func newerFolders() throws {
            for name in ["checkpoint-3", "epoch_3", "3", "step-3", "global_step3", "mine"] {
                let training = try Training()
                try training.write(2)
                try training.write([1], name + "/file")
                // As DeepSpeed does.
                if name == "mine" { try training.write([UInt8](name.utf8), "latest") }
                let resume = ["resume", training.out]
                guard let ending = try asUser(training, closed: name, resume) else { return }
                try ending.mustFail(1, mentioning: "\(name) may be what to go on from: make it readable")
                #expect(try training.steps().isEmpty)
            }
        }

        @Test("What may not be read is not damaged, and stays where it is", arguments: [true, false])
        func permissionsAreNoDamage(_ keepsItsTime: Bool) throws {
            for file in Self.files {
                let training = try Training()
                try training.write(2)
                try training.cairn(["resume", training.out]).mustSucceed()
                let name = "checkpoint-2/" + file
                if !keepsItsTime {
                    try Child.run(["touch", "-d", "2001-01-01", training.path(name)]).mustSucceed()
                }
                let resume = ["resume", training.out]
                guard let ending = try asUser(training, closed: name, resume) else { return }
                try ending.mustFail(1, mentioning: "may be what to go on from: make it readable")
                #expect(try training.names() == ["checkpoint-2"])
                try training.cairn(resume).mustSucceed()
                #expect(try training.names() == ["checkpoint-2"])
            }
        }
    }
}
